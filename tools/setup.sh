#!/usr/bin/env bash
# Installs the node modules that package-lock.json names; does nothing when they are there already.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=node_modules/.isthmus-stamp
want=$(sha256sum package-lock.json | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0
if ! command -v npm >/dev/null; then
  echo "setup: npm is not here; install Node.js 20 or newer with npm" >&2
  exit 1
fi
echo "setup: installing node modules (about a minute on first use)" >&2
start=$SECONDS
# Not `npm ci`: it insists on entries for every platform’s optional packages, and registries that mirror only some have no such
# entries to give. This takes the locked versions all the same, and leaves the lock as it is.
if ! npm install --no-save --no-audit --no-fund --loglevel=error >/tmp/isthmus-npm.$$ 2>&1; then
  cat /tmp/isthmus-npm.$$ >&2
  rm -f /tmp/isthmus-npm.$$
  exit 1
fi
rm -f /tmp/isthmus-npm.$$
tools/node -e '' || { echo "setup: no Node 24.12 or newer; the npm package node did not install one" >&2; exit 1; }
echo "$want" >"$stamp"
echo "setup: node modules installed in $((SECONDS - start)) s" >&2
