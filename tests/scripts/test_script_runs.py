"""`ridgepole run train.py -- …`: a script is a run like any other, whatever it does and however it ends."""

import contextlib
import json
import re
import shlex
import signal
import sys
import textwrap
from pathlib import Path

import pexpect
import psutil
import pytest

from isolation import send
from ridgepole.rundir import list_runs, read_attempts
from ridgepole.scripts.record import Script, parameters
from ridgepole.watch import console
from ridgepole.watch.console import Console

USES = """
import argparse, sys
from ridgepole import load_checkpoint, track
from ridgepole.permanences import BasicLogger, Device, TensorBoardLogger

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--api-key")
given = parser.parse_args()
with BasicLogger() as logger, TensorBoardLogger() as board, Device(cpu="allow") as device:
    for epoch in track(range(3), "train", tick=True):
        logger.log_metrics({"loss": given.lr / (epoch + 1)})
        board.log_metrics({"loss": given.lr / (epoch + 1)})
    print(device.get_state()["type"], logger.log_dir.name == board.log_dir.name)
try:
    load_checkpoint(which="latest")
except OSError as error:
    print(error)
"""


@pytest.fixture
def script(tmp_path):
    def write(text: str, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


def only(folder: Path):
    (run,) = list_runs(folder / "runs")
    return run


def printed(run) -> str:
    return (run.path / "console.log").read_text()


def test_an_unchanged_script_is_a_run_like_any_other(ridgepole, script, tmp_path):
    script(USES)
    done = ridgepole("run", "train.py", "--", "--lr", "0.5", "--api-key", "sk-secret")
    assert done.returncode == 0, done.stderr
    run = only(tmp_path)
    assert run.status == "finished"
    assert run.fields["exit_code"] == 0
    assert run.json("config.resolved.json")["params"] == {"lr": "0.5", "api-key": "***"}
    origin = run.json("provenance.json")
    assert origin["command"][1:] == ["train.py", "--lr", "0.5", "--api-key", "***"]
    assert "train.py" in origin["code"]
    assert origin["packages"]["numpy"]
    assert "Device True" in done.stdout
    assert "no checkpoint" in done.stdout
    assert done.stdout in printed(run)
    assert run.json("summary.json")["metrics"]["loss"]["count"] == 3
    assert list(run.path.glob("events.out.tfevents.*"))
    took = re.search(rf"^finished in (.*) · runs/{run.id}$", done.stderr, re.MULTILINE)
    assert took
    assert f"  {took[1]} " in ridgepole("runs", "ls").stdout, "as the listing says"
    secret = [path for path in run.path.rglob("*") if path.is_file() and b"sk-secret" in path.read_bytes()]
    assert secret == []

    shown = ridgepole("runs", "show").stdout
    assert re.search(r"command +.+ train.py --lr 0.5 --api-key '\*\*\*'", shown)
    assert "exit code 0" in shown
    listed = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert [(row["pipeline"], row["status"], row["best"]["value"]) for row in listed] == [
        ("train", "finished", pytest.approx(0.5 / 3))
    ]
    ridgepole("run", "train.py", "--", "--lr", "0.25")
    newest, oldest = (each.id for each in list_runs(tmp_path / "runs"))
    found = json.loads(ridgepole("runs", "diff", oldest, newest, "--json").stdout)
    assert {"key": "params.lr", "a": "0.5", "b": "0.25"} in found["config"]


QUIET = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
QUIET |= {"WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_META": "true"}


def test_the_metrics_of_a_w_b_script_are_in_its_run(ridgepole, script, tmp_path):
    pytest.importorskip("wandb")
    script("""
        import os, sys, wandb
        first = int(os.environ.get("FIRST", "0"))
        with wandb.init(project="p") as run:
            for step in range(first, first + 2):
                run.log({"loss": 1 / (step + 1), "inner": {"size": step}, "kind": "a"}, step=step)
        sys.exit(int(os.environ["CODE"]))
    """)
    assert ridgepole("run", "train.py", **QUIET, CODE="3").returncode == 3
    found = json.loads(ridgepole("runs", "ls", "--json").stdout)
    assert found[0]["best"]["value"] == 0.5
    assert series(only(tmp_path)) == [(0, 1.0), (1, 0.5)]
    assert only(tmp_path).json("summary.json")["metrics"]["inner.size"]["count"] == 2
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb")), "where it is without Ridgepole"
    ridgepole("run", "train.py", "--resume", **QUIET, CODE="3", FIRST="2")
    assert series(only(tmp_path)) == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.25)], "it has continued"
    ridgepole("run", "train.py", "--resume", **QUIET, CODE="0")
    assert series(only(tmp_path)) == [(0, 1.0), (1, 0.5)], "it has started over"


def series(run) -> list[tuple[int, float]]:
    from ridgepole import read_metrics

    frame = read_metrics(run.path)
    return list(frame.filter(frame["name"] == "loss").select("step", "value").iter_rows())


def test_the_scalars_of_a_tensorboard_script_are_in_its_run(ridgepole, script, tmp_path):
    script("""
        from ridgepole.permanences import TensorBoardLogger
        with TensorBoardLogger(log_dir="elsewhere") as board:
            board.log_metrics({"loss": 0.5})
    """)
    assert ridgepole("run", "train.py").returncode == 0
    assert series(only(tmp_path)) == [(0, 0.5)]


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "error"),
    [
        ("sys.exit(3)", 3, "failed", "train exited with code 3"),
        ("raise ValueError('my mistake')", 1, "failed", "train exited with code 1: ValueError: my mistake"),
        ("os._exit(5)", 5, "failed", "train exited with code 5"),
        (
            "import argparse; argparse.ArgumentParser('train.py').parse_args(['--lrr', '3'])",
            *(2, "failed", "train exited with code 2: train.py: error: unrecognized arguments: --lrr 3"),
        ),
        ("os.kill(os.getpid(), 11)", 139, "failed", "train was killed by SIGSEGV (a segmentation fault)"),
        ("os.kill(os.getpid(), 9)", 137, "failed", "train was killed by SIGKILL, as when memory runs out"),
        ("os.kill(os.getpid(), 15)", 143, "interrupted", "train was killed by SIGTERM"),
        ("sys.exit(75)", 75, "interrupted", "train exited with code 75"),
    ],
)  # fmt: skip
def test_every_end_is_recorded(ridgepole, script, tmp_path, code, exit_code, status, error):
    script(f"import os, sys\nprint('out', flush=True)\nos.write(2, b'from C\\n')\n{code}\n")
    done = ridgepole("run", "train.py")
    run = only(tmp_path)
    assert (done.returncode, run.status, run.fields["exit_code"]) == (exit_code, status, exit_code)
    assert run.fields["error"]["message"] == error
    assert {"out", "from C"} <= set(printed(run).splitlines())
    assert done.stdout == "out\n"
    assert "from C\n" in done.stderr
    assert f"{status} in" in done.stderr


def test_modules_and_programs_run_too(ridgepole, script, tmp_path):
    (tmp_path / "package").mkdir()
    script("import sys\nprint(__name__, sys.argv[1:])\n", "package/__main__.py")
    done = ridgepole("run", "-m", "package", "--", "--x", "1")
    assert (done.returncode, done.stdout) == (0, "__main__ ['--x', '1']\n")
    program = script("#!/bin/sh\necho $1; exit 4\n", "go.sh")
    program.chmod(0o755)
    done = ridgepole("run", "./go.sh", "--", "hello")
    assert (done.returncode, done.stdout) == (4, "hello\n")
    assert [run.fields["pipeline"] for run in list_runs(tmp_path / "runs")] == ["go.sh", "package"]


def test_a_signal_to_the_supervisor_reaches_the_script_once(command_server, script, tmp_path):
    script("""
        import os, signal, sys
        got = []
        def stop(number, frame):
            got.append(number)
            os.write(1, b"got %d\\n" % len(got))  # a print could interrupt another one
            if number == signal.SIGTERM:
                sys.exit(143)
        for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT"):
            signal.signal(getattr(signal, name), stop)
        os.write(1, b"ready\\n")
        while True:
            signal.pause()
    """)
    child = command_server.start("run", "train.py", cwd=tmp_path).until("ready")
    for count, name in enumerate(("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGTERM"), 1):
        child.send(getattr(signal, name))
        child.until(f"got {count}") if name != "SIGTERM" else child.wait()
    assert child.wait() == 143
    run = only(tmp_path)
    assert (run.status, run.fields["exit_code"]) == ("interrupted", 143)
    assert printed(run).splitlines()[-1] == "got 5"


def test_ctrl_c_at_a_terminal_reaches_the_script_once(script, tmp_path):
    script("""
        import os, signal, sys
        got = []
        signal.signal(signal.SIGINT, lambda *_: (got.append(1), os.write(1, b"interrupted\\n")))
        signal.signal(signal.SIGUSR1, lambda *_: (os.write(1, b"in all %d\\n" % len(got)), os._exit(0)))
        os.write(1, f"terminal {os.isatty(1)} {os.isatty(2)} {os.get_terminal_size()}\\n".encode())
        while True:
            signal.pause()
    """)
    child = pexpect.spawn(
        sys.executable, ["-m", "ridgepole", "run", "train.py"], cwd=str(tmp_path), dimensions=(31, 97), timeout=60
    )
    with contextlib.closing(child):
        child.expect_exact("terminal True True os.terminal_size(columns=97, lines=31)")
        child.sendintr()
        child.expect_exact("interrupted")
        send(child.pid, signal.SIGUSR1)  # behind the first one, which had been dealt with before
        child.expect_exact("in all 1")
        child.expect(pexpect.EOF)
        child.wait()
    assert child.exitstatus == 0
    assert "in all 1\n" in printed(only(tmp_path))  # without the terminal's line ends


def test_the_bars_of_a_killed_script_are_taken_off_the_terminal(script, tmp_path):
    script("import os\nos.write(1, b'bar\\r')\nos.kill(os.getpid(), 9)")
    child = pexpect.spawn(sys.executable, ["-m", "ridgepole", "run", "train.py"], cwd=str(tmp_path), timeout=60)
    with contextlib.closing(child):
        child.expect_exact("\r\x1b[J\x1b[?25h")
        child.expect_exact("was killed by SIGKILL")
        child.expect(pexpect.EOF)
        child.wait()
    assert child.exitstatus == 137


def test_the_script_does_not_outlive_its_supervisor(command_server, script, tmp_path):
    script("import os, signal\nprint('pid', os.getpid(), flush=True)\nwhile True:\n    signal.pause()\n")
    child = command_server.start("run", "train.py", cwd=tmp_path).until("\n")
    trained = psutil.Process(int(child.stdout.split()[1]))
    child.send(signal.SIGKILL)
    child.wait()
    psutil.wait_procs([trained], 60)
    assert not trained.is_running()
    assert only(tmp_path).status == "crashed"


def test_a_child_that_the_script_leaves_behind_does_not_hold_the_run_up(ridgepole, script, tmp_path):
    script("""
        import subprocess, sys
        print(subprocess.Popen(["sleep", "100"]).pid)
    """)
    done = ridgepole("run", "train.py")
    left = int(done.stdout)
    assert psutil.pid_exists(left)
    send(left, signal.SIGKILL)
    assert done.returncode == 0


def test_a_reader_that_leaves_ends_the_script_as_without_ridgepole(script, tmp_path):
    script("import sys\nfor i in range(10**9):\n    print(i)\n")
    line = f"{shlex.quote(sys.executable)} -m ridgepole run train.py | head -n 2"
    child = pexpect.spawn("bash", ["-c", line], cwd=str(tmp_path), timeout=60)
    with contextlib.closing(child):
        child.expect(pexpect.EOF)
        child.wait()
    run = only(tmp_path)
    assert run.status == "failed"
    assert "BrokenPipeError" in printed(run) or "Broken pipe" in run.fields["error"]["message"]


def test_a_flood_of_output_takes_a_bounded_space(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_FILE_BYTES", 1000)
    kept = Console(tmp_path / "console.log")
    for number in range(1000):
        kept.write(b"%09d\n" % number)
    kept.close()
    files = [tmp_path / "console.1.log", tmp_path / "console.log"]
    assert sorted(tmp_path.iterdir()) == files
    lines = b"".join(path.read_bytes() for path in files).split()
    assert lines == [b"%09d" % number for number in range(1000 - len(lines), 1000)]
    assert 100 <= len(lines) <= 200
    assert kept.tail().endswith("000000999\n")


# --- resume

LOOP = """
import argparse, os, random, signal
import ridgepole

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=6)
given = parser.parse_args()
with ridgepole.run("loop", config=given, tags=["a", "b"], seed=3) as run:
    state = run.restore() or {"epoch": 0, "weight": 1.0}
    for epoch in range(state["epoch"], given.epochs):
        weight = state["weight"] * random.random()
        run.log({"weight": weight})
        if epoch == 3 and run.attempt == 1 and os.environ.get("HOW"):
            os.kill(os.getpid(), getattr(signal, os.environ["HOW"]))
        run.tick()
        state = {"epoch": epoch + 1, "weight": weight}
        run.checkpoint(state)
print("end", state, run.dir.name)
"""


def weights(run) -> list[tuple[int, float]]:
    from ridgepole import read_metrics

    return list(read_metrics(run.path).select("step", "value").iter_rows())


@pytest.fixture(scope="module")
def whole(command_server, tmp_path_factory):
    """What the loop logs where nothing interrupts it."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "train.py").write_text(LOOP)
    assert command_server.call(cwd=folder, script=folder / "train.py").returncode == 0
    return weights(only(folder))


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("supervised", [False, True])
def test_a_plain_loop_resumes_exactly(command_server, ridgepole, script, tmp_path, whole, how, supervised):
    path = script(LOOP)
    code = {"SIGKILL": 137 if supervised else -9, "SIGTERM": 143}[how]
    if supervised:
        ended = ridgepole("run", "train.py", HOW=how)
        assert ended.returncode == code
        assert ended.stderr.splitlines()[-1] == f"resume with: ridgepole resume runs/{only(tmp_path).path.name}"
        assert only(tmp_path).status == ("failed" if how == "SIGKILL" else "interrupted")
        done = ridgepole("run", "train.py", "--resume", HOW=how)
        assert "a script that ignores it starts over" in done.stderr
    else:
        assert command_server.call(cwd=tmp_path, script=path, HOW=how).returncode == code
        assert only(tmp_path).status == ("crashed" if how == "SIGKILL" else "interrupted")
        done = command_server.call(cwd=tmp_path, script=path, HOW=how, RIDGEPOLE_RESUME="1")
        assert f"resuming runs/{only(tmp_path).path.name}\n" in done.stderr
    assert done.returncode == 0, done.stderr
    run = only(tmp_path)
    assert f"end {{'epoch': 6, 'weight': {whole[-1][1]}}} {run.id}" in done.stdout
    assert re.search(r"^resumes from \d{6}-step-\d+, step \d+$", done.stderr, re.MULTILINE)
    assert (run.status, run.fields["attempt"], run.labels.tags) == ("finished", 2, ("a", "b"))
    assert (run.labels.name, run.fields["pipeline"]) == ("loop", "train")
    assert run.json("config.resolved.json")["params"] == {"epochs": 6}
    assert weights(run) == whole
    first, second = read_attempts(run.path)
    assert first["checkpoint"] is None
    assert second["checkpoint"].endswith(f"-step-{second['step']}")
    parts = run.fields["attempts"]
    assert [part["attempt"] for part in parts] == [1, 2]
    assert run.fields["seconds"] == pytest.approx(sum(part["seconds"] for part in parts), abs=0.002)
    shown = ridgepole("runs", "show").stdout
    assert f"from {second['checkpoint']}, step {second['step']}; finished after" in shown


def test_resume_starts_the_recorded_command_again(ridgepole, script, tmp_path):
    script("import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ.get('RIDGEPOLE_RESUME'))\nsys.exit(3)\n")
    (tmp_path / "elsewhere").mkdir()
    ended = ridgepole("run", "train.py", "--", "--lr", "0.1")
    first = only(tmp_path)
    again = f"ridgepole resume runs/{first.path.name}"
    assert ended.stderr.splitlines()[-1] == f"the run has no checkpoint; run the script again with: {again}"
    assert f"resume    {again}\n" in ridgepole("runs", "show").stdout
    assert printed(first) == f"['--lr', '0.1'] {tmp_path} None\n"
    done = ridgepole("resume", str(first.path), cwd=tmp_path / "elsewhere")
    assert (done.returncode, done.stdout) == (3, f"['--lr', '0.1'] {tmp_path} 1\n")
    assert only(tmp_path).fields["attempt"] == 2
    told = ridgepole("run", "train.py", "--resume", "--dry-run", "--", "--lr", "0.1")
    assert told.stderr == f"would resume runs/{first.path.name}\n"
    other = ridgepole("run", "train.py", "--resume", "--", "--lr", "0.2")  # other arguments: another run
    lines = other.stderr.splitlines()
    assert lines[0] == "no unfinished run of this command in runs: starting a new one"
    assert lines[1].startswith(f"runs/{first.path.name} is not resumed: its command was ")
    assert lines[1].endswith(" train.py --lr 0.1")
    assert lines[2] == f"to resume it as it was: {again}"
    ridgepole("run", "train.py", "--resume", "--", "--lr", "0.1")
    attempts = [run.fields["attempt"] for run in list_runs(tmp_path / "runs")]
    assert attempts == [1, 3]


def test_the_variable_that_finds_nothing_to_resume_says_so(command_server, script, tmp_path):
    path = script("import sys\nimport ridgepole\nwith ridgepole.run():\n    sys.exit(len(sys.argv) - 1)\n")
    fresh = command_server.call(cwd=tmp_path, script=path, RIDGEPOLE_RESUME="1")
    assert fresh.stderr.startswith("no unfinished run of this command in runs: starting a new one\nfinished in ")
    command_server.call("--lr", cwd=tmp_path, script=path)
    (failed,) = (run for run in list_runs(tmp_path / "runs") if run.status == "failed")
    other = command_server.call(cwd=tmp_path, script=path, RIDGEPOLE_RESUME="1").stderr.splitlines()
    assert other[1].startswith(f"runs/{failed.id} is not resumed: its command was ")
    assert other[2] == f"to resume it as it was: ridgepole resume runs/{failed.id}"
    assert len(list(list_runs(tmp_path / "runs"))) == 3


def test_a_finished_run_is_not_resumed(ridgepole, script, tmp_path):
    script("print('done')\n")
    ridgepole("run", "train.py")
    done = ridgepole("resume", "latest")
    assert done.returncode == 2
    assert "has finished: there is nothing to resume" in done.stderr
    assert ridgepole("run", "train.py", "--resume").returncode == 0
    assert len(list(list_runs(tmp_path / "runs"))) == 2


# --- in this process


def test_in_process_leaves_a_main_module_that_pickles(ridgepole, script, tmp_path):
    script("""
        import atexit, os, pickle, sys
        class Thing:
            pass
        atexit.register(lambda: print("pickled", len(pickle.dumps(Thing())) > 0, flush=True))
        if __name__ == "__main__":
            print(sys.argv, os.path.basename(os.environ["RIDGEPOLE_RUN_DIR"]), __file__)
            sys.exit(int(sys.argv[1]))
    """)
    for code, status in ((0, "finished"), (3, "failed")):
        done = ridgepole("run", "train.py", "--in-process", "--", str(code))
        run = next(iter(list_runs(tmp_path / "runs")))
        assert (done.returncode, run.status, run.fields["exit_code"]) == (code, status, code)
        assert done.stdout == f"['{tmp_path}/train.py', '{code}'] {run.id} {tmp_path}/train.py\npickled True\n"


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.py"], "no script none.py: there is no such file in"),
        (["none"], "none is not a pipeline (.toml), a script (.py) or a program; a module runs with: ridgepole run -m"),
        (["sweep.yaml"], "a sweep starts with: ridgepole sweep start sweep.yaml"),
        (["data.txt"], "data.txt is not executable"),
        (["train.py", "-s", "lr=1"], "arguments of a script go behind --"),
        (["a.toml", "--", "x"], "a.toml is a pipeline, which takes -s KEY=VALUE and no arguments behind --"),
        ([], "give one of them to run"),
        (["train.py", "-m", "train"], "give one of them to run"),
        (["/bin/true", "--in-process"], "--in-process runs Python code"),
    ],
)  # fmt: skip
def test_what_cannot_run_says_so_before_a_run_is_made(ridgepole, script, tmp_path, arguments, message):
    script("pass\n")
    for name in ("sweep.yaml", "data.txt", "a.toml"):
        (tmp_path / name).touch()
    done = ridgepole("run", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "runs").exists()


def test_dry_run_shows_the_command(ridgepole, script, tmp_path):
    script("pass\n")
    done = ridgepole("run", "train.py", "--dry-run", "--", "--token", "abc")
    assert done.stdout == f"{shlex.quote(sys.executable)} train.py --token '***'\n"
    assert not (tmp_path / "runs").exists()


def test_parameters_are_what_the_command_line_seems_to_set():
    given = ["--lr", "0.1", "--wd=1e-3", "--flag", "--shift", "-0.5", "model.width=3", "+new=x", "data", "-v"]
    assert parameters(given) == {
        "lr": "0.1",
        "wd": "1e-3",
        "flag": True,
        "shift": "-0.5",
        "model.width": "3",
        "new": "x",
        "arguments": ["data"],
        "v": True,
    }


def test_a_run_is_the_same_where_script_arguments_and_directory_are():
    def key(**other):
        known = {
            "name": "n",
            "command": ("python", "a.py", "1"),
            "arguments": ("1",),
            "directory": "/d",
            "file": "/d/a.py",
        }
        return Script(**known | other).key

    assert key() == key(name="other", command=("/other/python", "a.py", "1"))
    assert len({key(), key(arguments=("2",)), key(directory="/e"), key(file="/d/b.py")}) == 4


def test_a_name_of_the_command_line_wins_over_that_of_the_script(ridgepole, script, tmp_path):
    script("import ridgepole\nwith ridgepole.run('own', tags=['x']): pass\n")
    done = ridgepole("run", "train.py", "--name", "mine", "--tag", "y", "--", "--sort", "-x")
    assert done.returncode == 0
    assert only(tmp_path).json("provenance.json")["command"][1:] == ["train.py", "--sort", "-x"]
    assert (only(tmp_path).labels.name, set(only(tmp_path).labels.tags)) == ("mine", {"x", "y"})


def test_a_script_that_refuses_its_arguments_is_not_to_be_run_again(ridgepole, script):
    script("import argparse\nargparse.ArgumentParser().parse_args()\n")
    done = ridgepole("run", "train.py", "--", "--lrr", "0.1")
    assert done.returncode == 2
    assert "resume" not in done.stderr
