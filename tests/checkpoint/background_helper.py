"""Kills a process at another call of a save in the background, again and again; prints a JSON line for each trial.

A process of its own, so that forking it copies no threads.

    python background_helper.py DIRECTORY TRIALS
"""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import torch

from ridgepole.checkpoint.saving import Part
from ridgepole.checkpoint.store import CheckpointStore
from ridgepole.pipeline.lifecycle.background import BackgroundSaves

CALLS = ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir", "close", "scandir", "lseek")
SIZE = 60_000


def state(number):
    return {"number": number, "weights": torch.full((SIZE,), float(number)), "text": ["a", number]}


def child(path, at):
    """Saves number 3 in the background, changes the state meanwhile, and is killed at a call of the thread."""
    store = CheckpointStore(path)
    saves, held = BackgroundSaves(None), state(3)
    count = 0

    def counted(call):
        def wrapped(*arguments, **keywords):
            nonlocal count
            if threading.current_thread().name == "ridgepole-save":
                count += 1
                if count == at:
                    if call.__name__ == "write":  # a torn one
                        call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        wrapped.__name__ = call.__name__
        return wrapped

    part = Part(held)
    assert saves.hold(part) == ""
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))

    def save():
        with store.begin(step=3, kind="step") as saving:
            return saving.commit(part)

    saves.start(save)
    held["weights"].zero_()  # the training continues
    assert saves.wait(float("inf"))
    result = saves.take_result()
    os.write(1, f"{json.dumps({'calls': count, 'problems': list(result.problems)})}\n".encode())


def check(path):
    """The newest checkpoint is one of the two, whole, and the next save works."""
    store = CheckpointStore(path)
    loaded = store.load()
    number = loaded.state["number"]
    assert number in (2, 3), number
    assert torch.equal(loaded.state["weights"], torch.full((SIZE,), float(number)))
    assert not loaded.passed_over
    for info in store.list():
        assert store.verify(info.name) == (), info
    store.save(state(4), step=4, kind="step")
    assert CheckpointStore(path).load().state["number"] == 4
    assert not list(path.glob(".saving-*"))
    return number


def trial(template, path, at):
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(template, path)
    pid = os.fork()
    if pid == 0:
        child(path, at)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code


def main(directory, trials):
    torch.set_num_threads(1)
    template = directory / "template"
    for number in (1, 2):
        CheckpointStore(template).save(state(number), step=number, kind="step")
    assert trial(template, directory / "c", 0) == 0
    assert check(directory / "c") == 3
    at = 1
    for index in range(trials):
        at = 1 + index * 7 % 61 if trials > 61 else 1 + index * 3
        code = trial(template, directory / "c", at)
        print(json.dumps({"at": at, "code": code, "left": check(directory / "c")}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
