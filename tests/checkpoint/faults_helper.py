"""Saves a checkpoint again and again, each time in a child that strace harms at another system call.

A process of its own, so that forking it copies no threads. Prints a JSON line for each trial.

    python faults_helper.py DIRECTORY trace FILE
    python faults_helper.py DIRECTORY kill STRIDE
    python faults_helper.py DIRECTORY EIO|ENOSPC|EROFS STRIDE
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ridgepole.checkpoint.store import CheckpointStore
from ridgepole.errors import CheckpointError

CALLS = "write,fsync,fdatasync,rename,renameat,renameat2,openat,mkdir,unlink,unlinkat,rmdir,getdents64,close"
BLOCK = os.urandom(200_000)


def state(number):
    return {"number": number, "block": BLOCK, "more": [{"step": number}]}


def save_traced(store, *options):
    """Forks a child that saves number 3 under strace; gives its status and what it said."""
    go_read, go_write = os.pipe()
    said_read, said_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go_read, 1)
        try:
            saved = store.save(state(3), step=3, kind="step")
            said = ["saved", saved.problems]
        except CheckpointError as error:
            said = ["refused", error.errno, str(error)]
        except BaseException as error:
            said = ["raised", repr(error)]
        os.write(said_write, json.dumps(said).encode())
        os._exit(0)
    tracer = subprocess.Popen(["strace", "-f", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    line = tracer.stderr.readline()
    if "attached" not in line:
        os.kill(pid, 9)
        sys.exit(f"strace may not trace here: {line}")
    os.write(go_write, b"x")
    tracer.communicate()
    _, status = os.waitpid(pid, 0)
    os.close(said_write)
    said = os.read(said_read, 65536)
    for fd in (go_read, go_write, said_read):
        os.close(fd)
    return os.WTERMSIG(status), json.loads(said) if said else None


def calls_of(trace):
    """How often a save makes each call, by its own thread alone."""
    counts = {}
    lines = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    main = lines[0][0]
    for pid, rest in lines:
        name = rest.partition("(")[0]
        # what the child says at its end is none of the save's
        if pid == main and name.isidentifier():
            counts[name] = counts.get(name, 0) + 1
    counts["write"] -= 1
    return counts


def check(path, killed, said, what):
    """What must be true whatever happened: a usable checkpoint, nothing damaged, and the next save works."""
    store = CheckpointStore(path)
    loaded = store.load()
    assert loaded.state in (state(2), state(3)), f"{what}: {loaded.info}"
    assert not loaded.passed_over, f"{what}: {loaded.passed_over}"
    for info in store.list():
        assert not info.problem, f"{what}: {info}"
        assert store.verify(info.name) == (), f"{what}: {info.name}"
    if not killed:
        assert said[0] in ("saved", "refused"), f"{what}: {said}"
        assert not list(path.glob(".saving-*")), f"{what}: {said}, and the temporary directory is left"
        if said[0] == "saved":
            assert loaded.state == state(3), f"{what}: {said}"
    store.save(state(4), step=4, kind="step")
    left = sorted(entry.name for entry in path.iterdir())
    newest = store.load()
    assert newest.state == state(4), what
    assert not newest.passed_over, what
    assert left == [*(info.name for info in store.list()), "index.json"], f"{what}: {left}"
    assert len(store.list()) == 2, what


def main(directory, mode, *arguments):
    template = directory / "template"
    for number in (1, 2):
        CheckpointStore(template).save(state(number), step=number, kind="step")

    def fresh():
        shutil.rmtree(directory / "c", ignore_errors=True)
        shutil.copytree(template, directory / "c")
        return CheckpointStore(directory / "c")

    trace = directory / "trace"
    if mode == "trace":
        print(json.dumps(save_traced(fresh(), "-y", "-o", arguments[0], "-e", f"trace={CALLS}")))
        return
    save_traced(fresh(), "-o", trace, "-e", f"trace={CALLS}")
    counts = calls_of(trace)
    print(json.dumps(counts))
    trials = [(call, number) for call, count in sorted(counts.items()) for number in range(1, count + 1)]
    harm = "signal=KILL" if mode == "kill" else f"error={mode}"
    for call, number in trials[:: int(arguments[0])]:
        if mode != "kill" and call == "close":  # the descriptor stays open then, which no kernel does
            continue
        store = fresh()
        inject = f"inject={call}:{harm}:when={number}"
        signal, said = save_traced(store, "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
        check(store.path, signal == 9, said, inject)
        print(json.dumps([call, number, signal, said]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
