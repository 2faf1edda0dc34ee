"""A real shared library in the place of the driver's, and many processes that load it at once."""

from __future__ import annotations

import json
import subprocess
import sys

START = """
import sys
from ridgepole.errors import VRAMUsageError
from ridgepole.devices import Device
sys.stdin.readline()
try:
    device = Device(lease="exclusive")
    print(device, flush=True)
except VRAMUsageError as error:
    print("refused:", str(error).splitlines()[0], flush=True)
sys.stdin.readline()
"""


def test_the_real_calling_convention(elsewhere):
    script = "import json\nfrom ridgepole.devices import survey\nprint(json.dumps(survey().as_dict()))"
    done = subprocess.run([sys.executable, "-c", script], env=elsewhere("30,4,33"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"] == "cuda:1"
    first, second, third, _ = found["devices"]
    assert [row["used_bytes"] >> 30 for row in (first, second, third)] == [30, 4, 33]
    assert third["reason"] == "above 80%"
    assert len(first["processes"]) == 100
    assert second["processes"] == [{"pid": 5000000, "used_bytes": 0, "graphics": False}]
    assert first["processes"][99] == {"pid": 5000099, "used_bytes": 99 << 30, "graphics": False}


def test_sixteen_simultaneous_starts_give_four_winners(elsewhere):
    started = [
        subprocess.Popen([sys.executable, "-c", START], env=elsewhere("0,0,0,0"), stdin=-1, stdout=-1, text=True)
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
