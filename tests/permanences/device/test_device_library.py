"""A real shared library in the place of the driver's, and many processes that load it at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler on Linux")

START = """
import sys
sys.modules["torch"] = None
from ridgepole.errors import VRAMUsageError
from ridgepole.permanences.device import Device
sys.stdin.readline()
try:
    device = Device(lease="exclusive")
    print(device, flush=True)
except VRAMUsageError as error:
    print("refused:", str(error).splitlines()[0], flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "libnvidia-ml.so.1", source], check=True
    )
    return folder


def environment(library, leases, cards, used):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "SLURM_", "LOCAL_"))},
        "LD_LIBRARY_PATH": str(library),
        "RIDGEPOLE_LEASE_DIR": str(leases),
        "FAKE_NVML_CARDS": str(cards),
        "FAKE_NVML_USED_GIB": used,
    }


def test_the_real_calling_convention(library, tmp_path):
    script = (
        "import json, sys\nsys.modules['torch'] = None\n"
        "from ridgepole.permanences.device import survey\nprint(json.dumps(survey().as_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(library, tmp_path, 3, "30,4,33"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"] == "cuda:1"
    first, second, third, _ = found["devices"]
    assert [row["used_bytes"] >> 30 for row in (first, second, third)] == [30, 4, 33]
    assert third["reason"] == "above 80%"
    assert len(first["processes"]) == 100
    assert second["processes"] == [{"pid": 1000, "used_bytes": 0, "graphics": False}]
    assert first["processes"][99] == {"pid": 1099, "used_bytes": 99 << 30, "graphics": False}


def test_sixteen_simultaneous_starts_give_four_winners(library, tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START],
            env=environment(library, tmp_path / "leases", 4, "0,0,0,0"),
            stdin=-1,
            stdout=-1,
            text=True,
        )
        for _ in range(16)
    ]
    try:
        for one in started:
            one.stdin.write("\n")
            one.stdin.flush()
        answers = [one.stdout.readline().strip() for one in started]
    finally:
        for one in started:
            one.kill()
            one.communicate()
    winners = sorted(answer for answer in answers if answer.startswith("cuda"))
    assert winners == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"], answers
    assert answers.count("refused: All devices are leased") == 12, answers
