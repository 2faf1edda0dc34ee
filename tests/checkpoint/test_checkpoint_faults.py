"""Kills, errors and full disks at every system call of a save: a usable checkpoint is left, and nothing is claimed."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from interrupts import Interrupts
from programs import require
from ridgepole import CheckpointError
from ridgepole.checkpoint import CheckpointStore

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
HELPER = Path(__file__).with_name("faults_helper.py")


def run(*arguments, timeout=110):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)


def harmed(tmp_path, mode, *arguments):
    """Runs the helper and gives its JSON lines; it checks each trial itself."""
    require("strace")
    done = run(HELPER, tmp_path, mode, *arguments)
    if "may not trace" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


STRIDES = [3, pytest.param(1, marks=[pytest.mark.torture, TORTURE])]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.fault("kill at every system call of a save: a usable checkpoint is left")
def test_a_kill_at_any_call_leaves_a_usable_checkpoint(tmp_path, stride, tally):
    counts, *trials = harmed(tmp_path, "kill", stride)
    tally(len(trials), kills=len(trials))
    assert counts["fsync"] >= 7
    assert counts["rename"] >= 3
    assert len(trials) == len(range(0, sum(counts.values()), stride))
    not_killed = [trial for trial in trials if trial[2] != signal.SIGKILL]
    assert not not_killed, "the injection did not hit"


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EROFS"])
@pytest.mark.fault("EIO, ENOSPC and EROFS at every system call of a save: a typed error")
def test_an_error_of_any_call_is_a_typed_one(tmp_path, name, stride, tally):
    counts, *trials = harmed(tmp_path, name, stride)
    tally(len(trials))
    assert len(trials) > sum(counts.values()) / stride / 2
    refused = [said for _, _, _, said in trials if said[0] == "refused"]
    assert len(refused) >= 10 / stride
    assert {said[1] for said in refused} == {getattr(errno, name)}
    writes = [said for call, _, _, said in trials if call in ("write", "fsync", "rename", "mkdir")]
    assert all(said[0] == "refused" or said[1] for said in writes), "a failure went unsaid"


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path):
    """Killing a process doesn't test a loss of power; the order of the calls does."""
    log = tmp_path / "log"
    harmed(tmp_path, "trace", log)
    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    place = next(i for i, call in enumerate(calls) if re.match(r'rename\(.*/\.saving-.*-step-3"\) = 0', call))
    before, after = calls[:place], calls[place + 1 :]
    written = {}
    for index, call in enumerate(before):
        if match := re.match(r"(write|fsync)\(\d+<([^>]*)>.*(?:= [0-9]+|<unfinished \.\.\.>)$", call):
            written.setdefault(match[2], {})[match[1]] = index
    files = {Path(path).name: calls for path, calls in written.items()}
    assert {"state.json", "state.safetensors", "manifest.json"} < files.keys()
    for name in ("state.json", "state.safetensors", "manifest.json"):
        assert files[name]["fsync"] > files[name]["write"], f"{name} is not forced to the disk"
        assert files[name]["fsync"] <= files["manifest.json"]["fsync"], f"the manifest is not the last: {name}"
    directory = next(name for name in files if name.startswith(".saving-"))
    assert files[directory]["fsync"] > files["manifest.json"]["fsync"], "the directory's names are not on the disk"
    assert re.match(r"fsync\(\d+<[^>]*/c>\) += 0", after[1]), f"the parent is not forced to the disk: {after[:2]}"
    removal = next(i for i, call in enumerate(after) if ".removing-" in call)
    assert removal > 2, "an old one goes before the new one is on the disk"
    index = [i for i, call in enumerate(after) if call.startswith("rename(") and "index.json" in call]
    assert index[0] > 1, "the index names what is not on the disk yet"


LIMIT = """
import resource, sys, torch
from pathlib import Path
from ridgepole.checkpoint import CheckpointStore
from ridgepole.errors import CheckpointError
store = CheckpointStore(Path(sys.argv[1]))
small, large = {"step": 1, "w": torch.ones(10)}, {"step": 2, "w": torch.ones(3_000_000), "text": list("abc") * 9000}
store.save(small, step=1, kind="step")
for limit in (100, 2000, 100_000, 10_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.save(large, step=2, kind="step")
        print("saved")
    except CheckpointError as error:
        print("refused", error.errno)
    assert not list(store.path.glob(".*")), list(store.path.glob(".*"))
    loaded = store.load()
    assert loaded.state["step"] == 1 and not loaded.passed_over
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.save(large, step=2, kind="step")
print("saved", store.load().state["step"])
"""


@pytest.mark.fault("disk full or read-only during a save: the one before is untouched")
def test_a_file_that_may_not_grow(tmp_path):
    done = run("-c", LIMIT, tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*[f"refused {errno.EFBIG}"] * 4, "saved 2"]


FULL = """
import sys
from pathlib import Path
from ridgepole.checkpoint.store import CheckpointStore
from ridgepole.errors import CheckpointError
disk = Path(sys.argv[1])
store = CheckpointStore(disk / "checkpoints")
saved = 0
for step in range(1, 9):
    size = 40_000 * step
    try:
        store.save({"step": step, "block": b"x" * size}, step=step, kind="step")
        saved = step
    except CheckpointError as error:
        print("refused", step, error.errno)
    assert not list(store.path.glob(".*"))
    loaded = store.load()
    assert loaded.state == {"step": saved, "block": b"x" * 40_000 * saved} and not loaded.passed_over
print("last", saved, [info.step for info in store.list()])
"""

READ_ONLY = """
import sys
from pathlib import Path
from ridgepole.checkpoint.store import CheckpointStore
from ridgepole.errors import CheckpointError
store = CheckpointStore(Path(sys.argv[1]) / "checkpoints")
print(store.load().state["step"], store.verify("latest"), [info.step for info in store.list()])
try:
    store.save({}, step=1, kind="step")
except CheckpointError as error:
    print("refused", error.errno)
"""


@pytest.mark.fault("disk full or read-only during a save: the one before is untouched")
def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path):
    """On a filesystem of 400 KiB of its own, which only this test sees."""
    (tmp_path / "full.py").write_text(FULL)
    (tmp_path / "read_only.py").write_text(READ_ONLY)
    script = (
        'mkdir -p "$1/disk" && mount -t tmpfs -o size=400k tmpfs "$1/disk" || exit 77\n'
        '"$2" "$1/full.py" "$1/disk" && mount -o remount,bind,ro "$1/disk" && "$2" "$1/read_only.py" "$1/disk"\n'
    )
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    require("unshare", package="util-linux")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no filesystem may be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    refused = [line for line in lines if line.startswith("refused") and line.endswith(f" {errno.ENOSPC}")]
    assert refused, f"the disk was never full: {lines}"
    last = next(line for line in lines if line.startswith("last"))
    step = last.split()[1]
    assert lines[-2].startswith(f"{step} () ["), lines
    assert lines[-1] == f"refused {errno.EROFS}"


@pytest.mark.isolated
def test_no_descriptors_left(store):
    """A shortage is not damage: it is raised, and nothing earlier is used in its place."""
    for step in (1, 2):
        store.save({"step": step}, step=step, kind="step")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)  # the next one would get this number
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(CheckpointError) as loading:
            store.load()
        with pytest.raises(CheckpointError) as saving:
            store.save({}, step=3, kind="step")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert loading.value.errno == saving.value.errno == errno.EMFILE
    assert store.load().state == {"step": 2}
    assert not list(store.path.glob(".*"))


@pytest.mark.parametrize("place", ["the store", "the run"])
def test_a_file_in_the_place_of_a_directory(tmp_path, place):
    path = tmp_path / "run" / "checkpoints"
    if place == "the run":
        (tmp_path / "run").write_text("x")
    else:
        path.parent.mkdir()
        path.write_text("x")
    with pytest.raises(CheckpointError, match=r"not saved: (File exists|Not a directory)"):
        CheckpointStore(path).save({}, step=1, kind="step")
    with pytest.raises(CheckpointError):
        CheckpointStore(path).load()


# an interrupt can fall between the opening of a descriptor and the moment it is known: it is closed with a warning
@pytest.mark.isolated
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_ctrl_c_during_a_save_leaves_the_one_before(store):
    """Signals at any moment of a save: it is whole or not there, and nothing is left over."""
    blob = os.urandom(3_000_000)
    store.save({"step": 0, "blob": blob}, step=0, kind="step")
    interrupts = Interrupts()
    for step in range(1, 400):
        state = {"step": step, "blob": blob}
        interrupts.during(0.0002 + 0.00013 * (step % 100), lambda s=state: store.save(s, step=s["step"], kind="step"))
        if interrupts.hits == 150:
            break
    assert interrupts.hits >= 10, "hardly any signal fell into a save"
    loaded = store.load()
    assert not loaded.passed_over
    assert loaded.state["blob"] == blob
    store.save({"step": 999}, step=999, kind="step")
    assert store.load().state == {"step": 999}
    assert not list(store.path.glob(".*"))


@pytest.mark.isolated
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_ctrl_c_at_any_line_of_a_sweep_is_raised_as_itself(store):
    """At each line that the removal of an interrupted save runs, also those of the standard library."""
    store.save({"step": 0}, step=0, kind="step")
    leftover, lines, before = store.path / ".saving-000009-0123abcd", 0, sys.gettrace()

    def sweep(at):
        """Returns whether a line of that number was there to be interrupted."""
        (leftover / "inside").mkdir(parents=True, exist_ok=True)
        for place in (leftover, leftover / "inside"):
            (place / "state.json").touch()
        count = 0

        def trace(frame, event, _):
            nonlocal count
            count += event == "line"
            if event == "line" and count == at:
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            store._sweep()
        finally:
            sys.settrace(before)
        assert not leftover.exists()

    while True:
        lines += 1
        try:
            sweep(lines)
        except KeyboardInterrupt:
            continue
        break
    assert lines > 20, "hardly any line was interrupted"
    assert store.load().state == {"step": 0}
