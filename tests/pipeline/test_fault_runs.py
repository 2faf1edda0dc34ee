"""Disks, directories, descriptors and clocks that fail in the middle of a real run, and what is left of it then."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from steps_project import STEPS, TOML, WHOLE, Place, content, read_run, refused, store, values, went_on

from programs import needs, require

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
LOOP = "while self.done < self.steps:"


def with_fault(code, at=5):
    """The steps, with something that happens before one of them in the first attempt."""
    lines = [f"if self.done == {at} and self.controller.attempt == 1:", *(f"    {line}" for line in code.splitlines())]
    text = STEPS.replace(LOOP, LOOP + "".join(f"\n            {line}" for line in lines))
    assert text != STEPS
    return "import resource, shutil\nfrom pathlib import Path\n" + text


# --- no space


FULL = pytest.mark.fault("disk full during a checkpoint of a run: it goes on, the checkpoint before is used")


@FULL
def test_disk_full_during_a_checkpoint(here):
    """No file may grow beyond 8 KB, and the weights need 32: training goes on with a warning for each checkpoint."""
    steps = with_fault("resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))")
    run = here.kill(steps__toml=TOML.replace("size = 4", "size = 4000"), steps__py=steps, at=7)
    assert [info.step for info in store(run).list()] == [0, 0, 2, 4], "as they were before"
    assert not list((run / "checkpoints").glob(".*"))
    done = here.call("resume")
    assert went_on(done, run)


@FULL
def test_disk_full_during_a_checkpoint_and_to_the_end(here):
    """A run that never gets its space back still finishes, and says what it could not keep."""
    steps = with_fault("resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))")
    here.write(steps__toml=TOML.replace("size = 4", "size = 4000"), steps__py=steps)
    done = here.call("run", "steps.toml")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no checkpoint was taken") == 3, "two by steps, one at the end"
    assert "File too large" in done.stderr
    assert values(here.run) == WHOLE


FILLED = """
mkdir -p "$1/runs" && mount -t tmpfs -o size=4m tmpfs "$1/runs" || exit 77
cd "$1" || exit 78
"$2" -m ridgepole run steps.toml; echo "code $?"
ls -A runs/*/checkpoints
rm -f runs/filling
"$2" -m ridgepole resume --runs-dir runs; echo "code $?"
cp -r runs/*/ kept
"""


@pytest.mark.fault("disk full in mid-run (tmpfs): a typed error, and it goes on once there is space")
def test_a_disk_that_fills_up(here):
    require("unshare", package="util-linux")
    fill = (
        "with open(self.controller.run_dir.parent / 'filling', 'wb', buffering=0) as file:\n"
        "    try:\n        while True: file.write(b'x' * 256)\n    except OSError: pass"
    )
    here.write(steps__toml=TOML, steps__py=with_fault(fill))
    command = ["unshare", "-Urm", "sh", "-c", FILLED, "sh", str(here.path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no filesystem may be mounted here: {done.stderr.strip()}")
    assert re.findall(r"code (\d+)", done.stdout) == ["1", "0"], done.stdout + done.stderr
    assert "LogWriteError" in done.stderr
    assert "No space left on device" in done.stderr
    assert "000004-step-4" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith(".saving")], "nothing half-made is left"
    assert values(here.path / "kept") == WHOLE
    assert read_run_of_copy(here.path / "kept")["status"] == "finished"


def read_run_of_copy(path):
    return json.loads((path / "run.json").read_text())


# --- a disk that fails


def traced(here, *options, arguments):
    command = ["strace", "-f", *options, sys.executable, "-m", "ridgepole", *arguments]
    done = subprocess.run(command, cwd=here.path, capture_output=True, text=True, timeout=90, env=os.environ)
    if "ptrace" in done.stderr and "permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    return done


def failing_sync(here, call, number, tally):
    """One sync after another fails: nothing is called stored that isn't, and the run can be resumed."""
    here.write(steps__toml=TOML, steps__py=STEPS)
    done = traced(
        here,
        *("-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={number}"),
        arguments=["run", "steps.toml"],
    )
    tally()
    said = done.stdout + done.stderr
    if done.returncode == 0:
        assert "warn" in said.lower() or "no checkpoint was taken" in said or "not written" in said or hit_nothing(said)
    else:
        assert "Input/output error" in said or "may not be on the disk" in said, said
    run = here.run if (here.path / "runs").exists() and any((here.path / "runs").iterdir()) else None
    if run is None or not (run / "run.json").exists():
        return
    for info in store(run).list():
        assert not store(run).verify(info.name), f"{info.name} was called stored"
    if read_run(run).status != "finished":
        again = here.call("resume")
        if "stopped before it had begun" in again.stderr:
            return
        assert again.returncode == 0, again.stderr
    assert values(run) == WHOLE


def hit_nothing(said):
    """The call that was to fail was never made, or it was one whose failure costs nothing."""
    return "finished in" in said


EIO = pytest.mark.fault("EIO on an fsync of a run (strace): never a false promise, and it can be resumed")


@EIO
@needs("strace")
@pytest.mark.parametrize(("call", "number"), [("fsync", 14), ("fdatasync", 2)])
def test_an_fsync_that_fails(here, call, number, tally):
    failing_sync(here, call, number, tally)


@EIO
@pytest.mark.torture
@TORTURE
@needs("strace")
@pytest.mark.parametrize(
    ("call", "number"), [*(("fsync", n) for n in range(1, 60, 2)), *(("fdatasync", n) for n in range(1, 8))]
)
def test_every_fsync_that_fails(here, call, number, tally):
    failing_sync(here, call, number, tally)


# --- directories


@pytest.mark.fault("a file in the place of a directory, found before training")
@pytest.mark.parametrize("what", ["the root", "a log_dir", "the checkpoints"])
def test_a_directory_that_cannot_be_made(what, here, place):
    """Found before a single step."""
    if what == "the checkpoints":
        run = place.run
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").write_text("a file")
        done = place.call("resume")
    else:
        (here.path / "file").write_text("a file")
        logger = '[permanences.board]\ntype = "BasicLogger"\nlog_dir = "file"\n' if what == "a log_dir" else ""
        here.write(steps__toml=TOML + logger, steps__py=STEPS)
        done = here.call("run", "steps.toml", *(["--runs-dir", "file"] if what == "the root" else []))
    assert done.returncode in (1, 2), done.stderr
    assert "step" not in done.stdout
    assert re.search(r"(RunDirError|error): .*(is a file|File exists|Not a directory)", done.stderr), done.stderr


@pytest.mark.fault("the run directory is removed in mid-run: noticed and said")
def test_the_run_directory_is_removed(here):
    """What is left is written to a new one; nothing hangs, and nothing is said to be stored that isn't."""
    here.write(steps__toml=TOML, steps__py=with_fault("shutil.rmtree(self.controller.run_dir)"))
    done = here.call("run", "steps.toml")
    assert "was removed while the run was writing to it" in done.stderr, done.stderr
    assert done.stdout.count("step 7") == 1, "training went on"
    assert values(here.run) in (WHOLE[5:], WHOLE[6:]), "what was logged from then on"


@pytest.mark.fault("no file descriptors left in mid-run: metrics go on, checkpoints are left out with a warning")
def test_no_descriptors_left(here):
    fault = (
        "taken = [os.open('/dev/null', 0) for _ in range(40)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    )
    run = here.kill(steps__py=with_fault(fault), at=7)
    assert values(run) == WHOLE[:7], "no metric is lost"
    assert [info.step for info in store(run).list()] == [0, 0, 2, 4]
    assert went_on(here.call("resume"), run)


def test_no_descriptors_left_is_said(here):
    fault = (
        "taken = [os.open('/dev/null', 0) for _ in range(40)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    )
    back = "if self.done == 7:\n                resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n            "
    steps = with_fault(fault).replace("self.weights.values += ", back + "self.weights.values += ")
    here.write(steps__toml=TOML, steps__py=steps)
    done = here.call("run", "steps.toml")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no checkpoint was taken") == 1
    assert "Too many open files" in done.stderr
    assert values(here.run) == WHOLE


# --- the clock


CLOCK = pytest.mark.fault("the clock is set back, in mid-run and between two attempts")


@CLOCK
def test_the_clock_is_set_back_between_attempts(here):
    """Two days earlier: order is that of the numbers, and the newest checkpoint is still the newest."""
    require("faketime")
    run = here.kill()
    done = subprocess.run(
        ["faketime", "-f", "-2d", sys.executable, "-m", "ridgepole", "resume"],
        cwd=here.path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"},
    )
    assert went_on(done, run)
    assert "from 000004-step-4" in done.stderr
    attempts = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert attempts[-1]["time"] < attempts[0]["time"] - 86400, "the clock was set back indeed"
    steps = [info.step for info in store(run).list()]
    assert steps == sorted(steps)
    assert here.call("runs", "ls").returncode == 0


@CLOCK
def test_the_clock_is_set_back_in_mid_run(here):
    """By a year, in a run that checkpoints by the minute: intervals are measured, not read off the clock."""
    fault = "import time as clock\nreal = clock.time\nclock.time = lambda: real() - 365 * 86400"
    policy = "every_minutes = 0.0005, keep_last = 3"
    here.write(
        steps__toml=TOML.replace("every_steps = 2, keep_last = 3", policy),
        steps__py=with_fault(fault, at=2).replace("self.done += 1", "self.done += 1\n            time.sleep(0.04)"),
    )
    done = here.call("run", "steps.toml")
    assert done.returncode == 0, done.stderr
    run = here.run
    assert values(run) == WHOLE
    infos = store(run).list()
    assert [info.kind for info in infos][-3:-1] == ["time", "time"]
    assert [info.step for info in infos][-2:] == [8, 8]
    assert read_run(run).fields["seconds"] >= 0


# --- what somebody else has put there


CANARY = pytest.mark.fault("pickles, dotted names and symbolic links in checkpoints and run directories: nothing runs")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@CANARY
@pytest.mark.parametrize("file", ["state.json", "state.safetensors", "manifest.json"])
def test_a_pickle_in_a_checkpoint(file, place):
    """It is not what was written, so it is passed over; it isn't unpickled either."""
    import pickle

    (place.run / "checkpoints" / "000004-step-4" / file).write_bytes(pickle.dumps(Bomb()))
    done = place.call("resume")
    assert went_on(done, place.run, step=2)
    assert not list(place.path.rglob("exploded"))
    assert not (place.path.parent / "exploded").exists()


@CANARY
def test_a_link_in_the_place_of_a_checkpoint(place, tmp_path):
    """It is not followed for reading, and pruning removes the link alone."""
    outside = tmp_path / "outside"
    shutil.copytree(place.run / "checkpoints" / "000004-step-4", outside)
    (outside / "precious").write_text("canary")
    before = content(outside)
    for name in ("000005-step-5", "000001-step-0", ".saving-000009"):
        path = place.run / "checkpoints" / name
        if path.exists():
            shutil.rmtree(path)
        path.symlink_to(outside, target_is_directory=True)
    done = place.call("resume")
    assert went_on(done, place.run)
    assert "000005-step-5 can't be used: it is a symbolic link" in done.stderr
    assert content(outside) == before


@CANARY
def test_looking_at_a_run_runs_nothing_of_it(place, tmp_path):
    """Listing, showing, comparing, exporting and verifying read files; what they name is never imported."""
    evil = tmp_path / "evil"
    evil.mkdir()
    bomb = f"import os\nos.mkdir({str(tmp_path / 'exploded')!r})\n"
    for name in ("evil.py", "steps.py", "sitecustomize.py"):
        (evil / name).write_text(bomb)
    run = place.run
    fields = json.loads((run / "run.json").read_text()) | {
        "file": str(evil / "steps.toml"),
        "pipeline": "evil.Pipeline",
    }
    (run / "run.json").write_text(json.dumps(fields))
    resolved = json.loads((run / "config.resolved.json").read_text())
    resolved["permanences"]["weights"]["type"] = "evil.Weights"
    (run / "config.resolved.json").write_text(json.dumps(resolved))
    (run / "config.toml").write_text(TOML.replace('package = "steps"', 'package = "evil"'))
    shutil.copytree(run, run.with_name(run.name[:-1] + ("1" if run.name.endswith("0") else "0")))
    calls = [
        ("runs", "ls"),
        ("runs", "show", run.name),
        ("runs", "diff", *(path.name for path in (place.path / "runs").iterdir())),
        ("export", run.name, "--to", "csv", "--output", "table"),
    ]
    for call in calls:
        done = place.call(*call, cwd=place.path)
        assert done.returncode == 0, f"{call}: {done.stderr}"
    assert not (tmp_path / "exploded").exists()


@CANARY
def test_a_link_in_the_place_of_the_record(place, tmp_path):
    """A file of somebody else's is not written to."""
    outside = tmp_path / "outside.txt"
    outside.write_text("precious\n")
    record = place.run / "metrics.jsonl"
    record.unlink()
    record.symlink_to(outside)
    done = place.call("resume")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert outside.read_text() == "precious\n"


# --- secrets


@pytest.mark.fault("secrets in config, argv and environment: in no output of a run, its checkpoints and its resume")
@pytest.mark.parametrize("way", ["file", "argv", "environment", "value"])
def test_secrets_stay_secret(way, here):
    canary = "canary-8d1f-4c"
    written = {
        "file": f'api_token = "{canary}"',
        "environment": 'api_token = "${env:TRAIN_TOKEN}"',
        "value": 'api_token = "x-${env:TRAIN_TOKEN}-y"',
    }.get(way, "")
    steps = STEPS.replace('raise RuntimeError("no luck")', 'raise RuntimeError(f"{self.token} was refused")').replace(
        "self.logger.log_metrics", 'self.logger.info("step %s", self.done); self.logger.log_metrics'
    )
    here.write(steps__toml=TOML + written, steps__py=steps)
    given = ["-s", f"train.api_token={canary}"] if way == "argv" else []
    environment = {"TRAIN_TOKEN": canary}
    first = here.call("run", "steps.toml", *given, FAIL_AT="5", **environment)
    assert first.returncode == 1
    assert "RuntimeError" in first.stderr
    done = here.call("resume", *given, **environment)
    assert went_on(done, here.run)
    shown = [here.call("runs", *call) for call in (("show",), ("show", "--json"), ("ls",))]
    for said in (first, done, *shown):
        assert canary not in said.stdout + said.stderr
    for name, data in content(here.run).items():
        if name == "config.toml":
            assert (here.run / name).stat().st_mode & 0o777 == 0o600
        else:
            assert canary.encode() not in data, name


# --- exceptions in the hooks of a resume

HOOKS = """
import os
from ridgepole import Permanence, PipelineProcess


def note(text):
    os.write(1, f"{text}\\n".encode())
    if os.environ.get("RAISES") == text:
        raise {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt}[os.environ["ERROR"]]("on purpose")


class Held(Permanence):
    def __init__(self, name: str):
        self.name = name

    def state_dict(self):
        note(f"state_dict {self.name}")
        return {}

    def load_state_dict(self, state):
        note(f"load_state_dict {self.name}")

    def validate(self):
        note(f"validate {self.name}")

    def checkpoint(self):
        note(f"checkpoint {self.name}")

    def cleanup(self):
        os.write(1, f"cleanup {self.name}\\n".encode())


class Work(PipelineProcess):
    done = 0

    def execute(self):
        while self.done < 4:
            self.done += 1
            if os.environ.get("FAIL_AT") == str(self.done):
                raise RuntimeError("no luck")
            self.controller.tick()

    def state_dict(self):
        note("state_dict work")
        return {"done": self.done}

    def load_state_dict(self, state):
        note("load_state_dict work")
        self.done = state["done"]
"""
HOOKS_FILE = (
    '[pipeline]\npackage = "hooks"\nprogress = false\ncheckpoint = { every_steps = 1 }\n'
    + "".join(f'[permanences.{name}]\ntype = "Held"\nname = "{name}"\n' for name in "abc")
    + '[processes.work]\ntype = "Work"\n'
)
PLACES = [
    "load_state_dict a",
    "load_state_dict c",
    "load_state_dict work",
    "validate b",
    "checkpoint b",
    "state_dict b",
]


def fail_in_third(here):
    here.write(hooks__toml=HOOKS_FILE, hooks__py=HOOKS)
    assert here.call("run", "hooks.toml", FAIL_AT="3").returncode == 1


@pytest.mark.fault("an exception in any hook of a checkpoint and of a resume")
@pytest.mark.parametrize("error", ["ValueError", "KeyboardInterrupt"])
@pytest.mark.parametrize("at", [*PLACES, "state_dict work"])
def test_an_exception_in_a_hook(at, error, command_server, keep_copy):
    """Everyone is cleaned up once, in reverse; the error comes out with its place; and the run can still go on."""
    here = Place(
        command_server,
        keep_copy("failed in its third step", lambda path: fail_in_third(Place(command_server, path)))[0],
    )
    done = here.call("resume", RAISES=at, ERROR=error)
    assert done.returncode == (1 if error == "ValueError" else 130), done.stderr
    cleaned = [line for line in done.stdout.splitlines() if line.startswith("cleanup")]
    assert cleaned == ["cleanup c", "cleanup b", "cleanup a"]
    if error == "ValueError":
        hook, name = at.split()
        kind = "process" if name == "work" else "permanence"
        assert "on purpose" in done.stderr
        assert f"{kind} {name!r}" in done.stderr, done.stderr
        assert hook in done.stderr
    last = here.call("resume")
    assert last.returncode == 0, last.stderr
    assert read_run(here.run).status == "finished"


def test_a_refusal_leaves_the_run_to_the_next_one(place):
    """Whoever was refused lets go of the run."""
    before = content(place.run)
    place.change(("rate = 0.5", "rate = 0.1"))
    for _ in range(3):
        assert refused(place.call("resume"), place.run, before, "rate: 0.5 -> 0.1")
    place.change()
    assert place.call("resume", KILL_AT="6").returncode == -signal.SIGKILL
    assert went_on(place.call("resume"), place.run, step=6)
