#!/usr/bin/env bash
# Runs the tests with the lowest versions that pyproject.toml allows, in an environment of their own, .venv/lowest:
#   tests/lowest.sh [what to hand on to pytest; by default every test that needs no server and no cluster]
# torch is the exception: its oldest releases come with 3 GB of CUDA libraries on Linux, so the pinned one takes
# their place, unless LOWEST_TORCH=1 asks for the true lowest.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv
export VIRTUAL_ENV=$PWD/.venv/lowest
python=$VIRTUAL_ENV/bin/python
.venv/bin/python -m venv --clear "$VIRTUAL_ENV"
if [[ ! ${LOWEST_TORCH:-} ]]; then # uv keeps a version that is installed already
  "$python" -m pip install -qq --no-compile --no-deps --constraint constraints.txt torch
fi
"$uv" pip install --quiet --resolution lowest-direct --requirements pyproject.toml --extra dev
"$uv" pip install --quiet --no-deps --editable .
if (($# == 0)); then
  set -- tests --ignore=tests/sweeps/at_wandb --ignore=tests/sweeps/test_sweep_postgres.py \
    --ignore=tests/sweeps/test_sweep_ray.py --ignore=tests/sweeps/test_sweep_slurm.py \
    --ignore=tests/test_constraints.py # it looks at the pinned packages
fi
# old releases warn of what their own newer dependencies deprecate: not our fault, so a warning is no error here
exec "$python" -m pytest -n 2 -o filterwarnings=default "$@"
