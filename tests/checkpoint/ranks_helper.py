"""Kills one of two ranks at another call of a sharded save, again and again; prints a JSON line for each trial.

A process of its own, so that forking it copies no threads.

    python ranks_helper.py DIRECTORY TRIALS background|foreground kill|full
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import torch
import torch._dynamo  # the children need it, and it takes seconds to import
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from ridgepole.checkpoint import CheckpointStore
from ridgepole.checkpoint.policy import CheckpointPolicy
from ridgepole.pipeline.distributed.failure import RankStop
from ridgepole.pipeline.distributed.rendezvous import join_ranks
from ridgepole.pipeline.distributed.synchronized import RankCheckpoints

CALLS = ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir", "close", "scandir", "lseek")
ROWS = 3001
"""Odd, so that the ranks have parts of different sizes."""


class Faults:
    """Has one call of the thread that saves fail, or kill the process."""

    def __init__(self, thread, at, fault):
        self.thread, self.at, self.fault, self.count = thread, at, fault, 0
        for name in CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name, call):
        def wrapped(*arguments, **keywords):
            if threading.current_thread().name == self.thread:
                self.count += 1
                if self.at and self.fault == "full" and self.count >= self.at and name in ("open", "write", "mkdir"):
                    raise OSError(28, "No space left on device")
                if self.count == self.at and self.fault == "kill":
                    if name == "write":  # a torn one
                        call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return wrapped


def state(mesh, rank, number):
    local = torch.full((ROWS - ROWS // 2 if rank == 0 else ROWS // 2, 5), float(number))
    weights = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=(ROWS, 5), stride=(5, 1))
    return local, {"net": {"number": number, "weights": weights}}


def child(path, rank, port, numbers, background, at, fault):
    """Saves some states together with the other rank; the last save is where the fault is."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    coordinator = join_ranks(path / "ranks")
    dist.init_process_group("gloo", init_method=f"file://{path}/group", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    plan = SimpleNamespace(policy=CheckpointPolicy(background=background, keep_last=9))
    saves = RankCheckpoints(coordinator, plan, path, {}, 1)
    faults = None
    told = []
    for number in numbers:
        if number == 3:
            faults = Faults("ridgepole-save" if background else "MainThread", at, fault)
        assert not saves.must_skip("boundary", until=float("inf"), best=False)
        local, states = state(mesh, rank, number)
        try:
            saved = saves.save(
                "step",
                permanences=states,
                process_run=None,
                ended=None,
                outcomes=(),
                position=0,
                framework={"step": number, "count": number},
                score=None,
            )
            told += saved.problems if saved is not None else ()
        except (RankStop, OSError) as error:
            told.append(str(error))
        local.zero_()  # the training continues
        saves.finish(float("inf"))
        told += saves.outcome()
    calls = 0
    if faults is not None:
        faults.at, calls = 0, faults.count
    os.write(1, f"{json.dumps({'rank': rank, 'calls': calls, 'told': told})}\n".encode())
    os._exit(0)


def together(path, numbers, background, victim=0, at=0, fault="kill"):
    """Return the exit codes of both ranks."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    (path / "group").unlink(missing_ok=True)
    children = []
    for rank in (0, 1):
        pid = os.fork()
        if pid == 0:
            try:
                child(path, rank, port, numbers, background, at if rank == victim else 0, fault)
            finally:
                import traceback

                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def check(path):
    """The newest checkpoint is one of the two, whole, and the next save works."""
    store = CheckpointStore(path / "checkpoints")
    loaded = store.load()
    net = loaded.state["permanences"]["net"]
    assert net["number"] in (2, 3), net["number"]
    assert torch.equal(net["weights"], torch.full((ROWS, 5), float(net["number"])))
    assert not loaded.passed_over
    for info in store.list():
        assert store.verify(info.name) == (), info
    store.save({"number": 4}, step=4, kind="step")
    assert store.load().state == {"number": 4}
    assert not list(store.path.glob(".saving-*"))
    return net["number"]


def main(directory, trials, background, fault):
    torch.set_num_threads(1)
    chance = random.Random(19)
    template = directory / "template"
    template.mkdir()
    assert together(template, (1, 2), background) == [0, 0]
    for index in range(trials):
        path = directory / "trial"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(template, path)
        victim = chance.randrange(2)
        # Rank 0 makes more calls: it begins and commits
        at = 1 + (index * 7 + chance.randrange(7)) % ((40, 12)[victim] if fault == "kill" else (8, 3)[victim])
        codes = together(path, (3,), background, victim, at, fault)
        assert codes[1 - victim] == 0, codes
        assert codes[victim] in ((0, -signal.SIGKILL) if fault == "kill" else (0,)), codes
        line = {"at": at, "victim": victim, "killed": codes[victim] != 0, "left": check(path)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "background", sys.argv[4])
