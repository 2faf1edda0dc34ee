#!/usr/bin/env bash
# Every check that needs a GPU, and what choosing a device costs on it, in under eight minutes on a machine with one.
#   tests/gpu/run.sh              with the virtual environment of `make setup`, if its torch sees a GPU, else python3
#   PYTHON=/path/to/python tests/gpu/run.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }

if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python3
  if [[ -x .venv/bin/python ]] && sees_gpu .venv/bin/python; then PYTHON=.venv/bin/python; fi
fi
if ! sees_gpu "$PYTHON"; then
  echo "no GPU that the torch of $PYTHON can use; name another interpreter with PYTHON=" >&2
  exit 1
fi
missing=$("$PYTHON" -c '
from importlib.util import find_spec
needed = {"pytest": "pytest", "pytest_timeout": "pytest-timeout", "orjson": "orjson", "psutil": "psutil"}
needed |= {"hypothesis": "hypothesis"}
needed |= {"pydantic": "pydantic", "rich": "rich", "tomli_w": "tomli-w", "annotated_types": "annotated-types"}
print(*(package for module, package in needed.items() if find_spec(module) is None))')
if [[ -n $missing ]]; then
  echo "missing in $PYTHON: $missing" >&2
  exit 1
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
command -v nvidia-smi >/dev/null && nvidia-smi -L
"$PYTHON" -c 'import sys, torch; print("python", sys.version.split()[0], "torch", torch.__version__)'
"$PYTHON" -m ridgepole devices
# One after another: two checks at once would see each other's memory.
timeout 330 "$PYTHON" -m pytest tests/gpu -m gpu -o addopts= -q -ra --import-mode=importlib -p no:cacheprovider "$@"
status=$?
echo
timeout 120 "$PYTHON" benchmarks/device.py 5 || echo "the benchmark did not end well (exit $?)" >&2
exit "$status"
