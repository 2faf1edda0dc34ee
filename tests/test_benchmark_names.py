"""A benchmark may be called like a module of the standard library only if nobody else's import finds it."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHADOWS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem in sys.stdlib_module_names)


@pytest.mark.parametrize("name", SHADOWS)
@pytest.mark.parametrize("how", ["beside a script", "in the working directory"])
def test_the_standard_library_is_found(name, how, tmp_path):
    code = f"import {name}, sys; print({name}.__file__); print(sys.modules['{name}'] is {name})"
    command = [sys.executable, "-B", "-c", code]
    if how == "beside a script":  # what Python does for a script: its directory stands first
        command[-1] = f"import sys; sys.path[0] = {str(BENCHMARKS)!r}; {code}"
    cwd = BENCHMARKS if how == "in the working directory" else tmp_path
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=True)
    file, same = done.stdout.splitlines()
    assert BENCHMARKS not in Path(file).parents, f"`import {name}` in a script beside it finds the benchmark"
    assert same == "True"
