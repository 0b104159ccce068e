#!/bin/sh
# Installs what the tests use of Debian's packages, where it can; says in a line what is missing where it can't.
set -eu
missing=
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
# kubectl (for its kustomize) and gcloud are no packages of Debian's: CI's runners have them, elsewhere those tests are skipped.
# Compose files are read by the plugin where Docker has it, else by Debian's docker-compose.
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1 || missing="$missing docker-compose"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1 && exit 0
fi
echo "Missing, so that some tests are skipped:$missing (on Debian: apt-get install$missing)" >&2
