"""Functions that worker processes can import, and the driver in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent


def square(trial):
    return (trial.params["x"] - 3) ** 2


def slow(trial):
    """Marks each attempt, and takes a moment."""
    with Path("attempts").open("a") as file:
        file.write(f"{trial.number}\n")
    time.sleep(0.1)
    return float(trial.params["x"])


def endings(trial):
    """A way to end for each value."""
    match trial.params["x"]:
        case 1:
            os._exit(7)
        case 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case 3:
            raise ValueError("three")
        case 4:
            sys.exit("four")
        case 5:
            return "five"
    return os.getpid()


def environment(trial):
    keys = ("RIDGEPOLE_DEVICE_LEASE", "RIDGEPOLE_DEVICE_WAIT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    Path(f"environment{trial.number}").write_text(json.dumps({key: os.environ.get(key) for key in keys}))
    print("printed by the trial")
    return 0.0


def leaks(trial):
    """Leaves something behind in its process."""
    held = getattr(sys, "ridgepole_left_behind", 0)
    sys.ridgepole_left_behind = held + 1
    return held


def reports(trial):
    """Ten values, each worse the larger `x` is; says when it stops early."""
    try:
        for _ in range(200):
            trial.report(float(trial.params["x"]))
            time.sleep(0.02)
    finally:
        Path(f"stopped{trial.params['x']}").write_text(str(trial.count))


def prunable(trial):
    """The first trial is good and short; the next is worse, and goes on until it is stopped."""
    for count in range(10 if trial.number == 0 else 2000):
        trial.report(float(trial.number))
        time.sleep(0.01 if count < 10 else 0.02)


def fails_while_stopping(trial):
    """The first attempt fails a moment after it was asked to stop; the second one is fine."""
    trial.report(2.0)
    Path(f"begun{trial.number}.{trial.attempt}").touch()
    if trial.attempt == 1:
        time.sleep(1.5)
        raise RuntimeError("as asked")
    return 1.0


def plans_a_pipeline(trial):
    from ridgepole import Pipeline

    Pipeline.from_toml("toy.toml").run("runs")
    return 1.0


def stays(trial):
    """Leaves a thread that keeps its process."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    return 0.0


def steps_on(trial):
    """Reports for some seconds, if nobody stops it."""
    for _ in range(200):
        trial.report(1.0)
        time.sleep(0.05)


def endless(trial):
    Path(f"begun{trial.number}").touch()
    while True:
        time.sleep(0.02)
        trial.report(1.0)


def deaf(trial):
    """Ignores being asked."""
    begun = Path(f"begun{trial.number}.part")
    begun.write_text(str(os.getpid()))
    begun.replace(f"begun{trial.number}")
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            continue


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import sweep_helpers
from ridgepole.sweeps import run_sweep
if __name__ == "__main__":
    config = {config!r}
    try:
        result = run_sweep(sweep_helpers.{function}, config, progress=False, resume={resume!r})
    except KeyboardInterrupt:
        sys.exit(130)
    print(result.status, result.counts)
"""


def drive(function: str, config: dict, resume: str | None = None, **keys):
    """Starts a driver of its own in the working directory."""
    script = Path("drive.py")
    script.write_text(SCRIPT.format(here=str(HERE), config=config, function=function, resume=resume))
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keys
    )


def start_cli(*arguments: str, **keys):
    """Starts the command line in a process of its own, in the working directory."""
    command = [sys.executable, "-m", "ridgepole", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keys)


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes that live; the resource tracker of multiprocessing is not one."""
    found = []
    for each in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now, or is a zombie
            if "spawn_main" in " ".join(each.cmdline()):
                found.append(each)
    return found


def until(condition, seconds: float = 60.0, what: str = "it"):
    """Waits for a condition, and gives what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")
