#!/usr/bin/env bash
# Builds the sdist and the wheel into dist/, checks them, installs the wheel alone into a fresh environment below .venv,
# and runs the tour of the docs from it. `make dist` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv
rm -rf dist
"$uv" build --quiet --out-dir dist   # the wheel is built from the sdist, as an installer would
"$uv" run --quiet --no-project --with twine twine check --strict dist/*
.venv/bin/python - dist <<'PYTHON'
import sys
import tarfile
import zipfile
from pathlib import Path

(wheel,) = Path(sys.argv[1]).glob("*.whl")
(sdist,) = Path(sys.argv[1]).glob("*.tar.gz")
inside = set(zipfile.ZipFile(wheel).namelist())
needed = {"py.typed", "view/_page/assets/app.js", "view/_page/assets/app.css", "view/_page/index.html"}
needed |= {"templates/digits/digits.toml", "templates/digits/digits/network.py", "runs/table.py"}
missing = sorted(name for name in needed if f"ridgepole/{name}" not in inside)
strange = sorted(name for name in inside if not name.startswith("ridgepole"))
sources = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
missing += sorted({"frontend/src/main.tsx", "hatch_build.py", "tests/conftest.py", "docs/index.md"} - sources)
strange += sorted(name for name in sources if "node_modules" in name)
if missing or strange:
    sys.exit(f"the distributions lack {missing} and hold {strange}")
for path, most in ((wheel, 2_000_000), (sdist, 5_000_000)):
    if path.stat().st_size > most:
        sys.exit(f"{path} has {path.stat().st_size} bytes, more than {most}")
    print(path, path.stat().st_size, "bytes")
PYTHON
version=$(.venv/bin/python -c 'import ridgepole; print(ridgepole.__version__)')
grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no section [$version]" >&2; exit 1; }
fresh=$PWD/.venv/dist
.venv/bin/python -m venv --clear "$fresh"
"$fresh/bin/python" -m pip install -qq --no-compile --no-deps --constraint constraints.txt torch
wheel=$(echo dist/*.whl)
"$uv" pip install --quiet --python "$fresh/bin/python" --constraint constraints.txt \
  "$wheel[torch,plots,sweep,view]" scikit-learn pytest pytest-rerunfailures pytest-timeout hypothesis
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r tests docs README.md examples mkdocs.yml pyproject.toml "$scratch" # without src: what is imported is the wheel
cd "$scratch"
"$fresh/bin/python" -c 'import ridgepole, sys; assert "site-packages" in ridgepole.__file__; print("ridgepole", ridgepole.__version__)'
"$fresh/bin/python" -m pytest -q tests/test_docs.py -k "tour.md"
"$fresh/bin/ridgepole" new tried && cd tried
"$fresh/bin/ridgepole" run tried.toml
"$fresh/bin/ridgepole" report --output page.html   # the front end, from inside the wheel
grep -q "<script" page.html
