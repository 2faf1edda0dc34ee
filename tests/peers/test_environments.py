"""Runs the tests of packages that don't fit the pins, each in the environment that `make peers` makes."""

import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["datasets", "hf", "mlflow", "trackio"])
def test_a_peer_passes_in_its_environment(name):
    python = ROOT / ".peers" / name / "bin" / "python"
    if not (python.parents[1] / ".ready").exists():
        pytest.skip("not made here: make peers")
    tests = ["-n", "0", "-q", "-p", "no:cacheprovider", str(HERE / f"test_{name}.py")]
    done = subprocess.run([python, "-m", "pytest", *tests], cwd=ROOT, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
