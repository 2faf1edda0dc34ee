#!/usr/bin/env bash
# Makes an environment for each package that does not fit the pins, on top of .venv, and runs its tests there.
set -euo pipefail
cd "$(dirname "$0")/../.."
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
  "$env/bin/python" -m pytest -n 0 -q -p no:cacheprovider "tests/peers/test_$name.py"
done <<'PEERS'
hf transformers==5.23.0 accelerate==1.15.0
mlflow mlflow-skinny==3.17.2 sqlalchemy alembic
trackio trackio==0.43.0
PEERS
