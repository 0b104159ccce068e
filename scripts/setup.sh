#!/bin/sh
# Makes the virtual environment $1 and installs Perron into it; with $2 = test, what the tests need too.
# Uses uv where it is present, venv and pip where it isn't.
set -eu
venv=$1 what=$2

if [ ! -x "$venv/bin/python" ]; then
    for name in python3.13 python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$name")
            break
        fi
    done
    if [ -z "${python:-}" ]; then
        echo "Perron needs Python 3.11 or later, and none was found on the PATH." >&2
        exit 1
    fi
    echo "Making $venv with $("$python" --version)"
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "$python" "$venv"
    else
        "$python" -m venv "$venv"
    fi
fi

set -- -e .
[ "$what" = test ] && set -- "$@" --group test
if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$venv/bin/python" "$@"
else
    "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' # the first that knows --group
    "$venv/bin/python" -m pip install --quiet "$@"
fi
# Byte code, as an ordinary installation has it; without it every start compiles everything again.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" src >/dev/null 2>&1 || true

touch "$venv/.core"
if [ "$what" = test ]; then touch "$venv/.test"; fi
