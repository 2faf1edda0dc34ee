"""Measure how long training waits for a background checkpoint, and how fast its steps are during the save.

The state is that of a network and its AdamW optimiser, on the CPU, by default 1 GB. Each contender runs the same steps
(products of matrices, by as many threads as told) and saves in the middle of them, twice; the first save, in which
buffers are made, is left out. Contenders take turns, each in a process of its own.

    foreground           Ridgepole: the loop waits until the checkpoint is on the disk
    background           Ridgepole, `checkpoint = { background = true }`
    torch.save           the whole state by pickle, and fsync
    DCP async_save       `torch.distributed.checkpoint`, in one process
    Lightning            `AsyncCheckpointIO` around its usual torch.save

A wait is the time of the step at whose end the save begins, less that of a usual step. Steps during a save are those
that begin within the time of a foreground save after it. Targets: a background save waits at most 0.15 times as long
as a foreground one; steps take at most 1.1 times as long meanwhile with a core free, and 1.25 times without.

    python benchmarks/checkpoint_background.py [rounds] [megabytes] [threads of a step]
"""

import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

STEPS_BETWEEN = 1000  # these must take longer than a save
STEPS = 3 * STEPS_BETWEEN - 1
NAMES = ("foreground", "background", "torch.save", "DCP async_save", "Lightning")


class Training:
    """Steps, and the state that is saved among them."""

    def __init__(self, megabytes: int, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        width = 2048
        layers = max(1, round(megabytes * 1e6 / (3 * 4 * width * width)))
        self.network = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(layers)])
        self.optimiser = torch.optim.AdamW(self.network.parameters(), foreach=False)
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.matrix = torch.randn(350, 350)
        self.times: list[float] = []

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def step(self) -> None:
        for _ in range(6):
            self.matrix = self.matrix @ self.matrix
            self.matrix /= self.matrix.abs().max()

    def loop(self, save: Callable[[int], None]) -> None:
        for number in range(1, STEPS + 1):
            began = perf_counter()
            self.step()
            if number % STEPS_BETWEEN == 0 and number < STEPS:
                save(number)
            self.times.append(perf_counter() - began)


def by_ridgepole(training: Training, folder: Path, *, background: bool) -> None:
    from ridgepole import Permanence, Pipeline, process, track
    from ridgepole.checkpoint import CheckpointStore

    class Model(Permanence):
        def state_dict(self) -> dict[str, Any]:
            return training.state()

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise NotImplementedError

        def cleanup(self) -> None:
            pass

    @process
    def train(model: Model) -> None:
        began = perf_counter()
        for number in track(range(STEPS), "train", tick=True):
            now = perf_counter()
            if number:
                training.times.append(now - began)  # with the save at the end of the step
            began = now
            training.step()

    policy = {"every_steps": STEPS_BETWEEN, "every_minutes": None, "keep_last": 3, "background": background}
    done = (
        Pipeline("bench", progress=False, seed=1, checkpoint=policy, console=False, guard=False)
        .permanence("model", Model)
        .process("train", train)
        .run(folder)
    )
    stored = [info.step for info in CheckpointStore(done.path / "checkpoints").list()]
    if not {STEPS_BETWEEN, 2 * STEPS_BETWEEN} <= {*stored}:
        raise SystemExit(f"only the checkpoints {stored} were stored: a save took longer than {STEPS_BETWEEN} steps")


def by_torch(training: Training, folder: Path) -> None:
    import os

    import torch

    def save(number: int) -> None:
        with (folder / "torch.pt").open("wb") as file:
            torch.save(training.state(), file)
            file.flush()
            os.fsync(file.fileno())

    training.loop(save)


def by_dcp(training: Training, folder: Path) -> None:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=0, world_size=1)
    writes: list[Any] = []

    def save(number: int) -> None:
        for write in writes:
            write.result()
        writes[:] = [dcp.async_save(training.state(), checkpoint_id=folder / str(number))]

    training.loop(save)
    writes[0].result()
    dist.destroy_process_group()


def by_lightning(training: Training, folder: Path) -> None:
    from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

    writer = AsyncCheckpointIO(TorchCheckpointIO())
    training.loop(lambda number: writer.save_checkpoint(training.state(), folder / f"{number}.ckpt"))
    writer.teardown()


def measure(name: str, megabytes: int, threads: int, folder: Path) -> list[float]:
    """Return the times of all steps."""
    training = Training(megabytes, threads)
    if name in ("foreground", "background"):
        by_ridgepole(training, folder, background=name == "background")
    else:
        {"torch.save": by_torch, "DCP async_save": by_dcp, "Lightning": by_lightning}[name](training, folder)
    return training.times


def main(rounds: int, megabytes: int, threads: int) -> None:
    waits: dict[str, list[float]] = {name: [] for name in NAMES}
    slower: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        span = 0.0
        for name in NAMES:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--one", name, str(megabytes), str(threads), folder]
                done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            times, at = json.loads(done.stdout.splitlines()[-1]), 2 * STEPS_BETWEEN - 1
            usual = statistics.median(times[: STEPS_BETWEEN - 1])
            wait = max(0.0, times[at] - usual)
            span = span or wait
            after, meanwhile = 0.0, []
            for each in times[at + 1 :]:
                if after >= span:
                    break
                meanwhile.append(each)
                after += each
            waits[name].append(wait)
            slower[name].append(statistics.median(meanwhile) / usual)
    print(f"{megabytes} MB, steps of {threads} threads, medians of {rounds} rounds")
    print(f"{'':18s} {'wait (s)':>9s} {'of foreground':>14s} {'steps meanwhile':>16s}")
    for name in NAMES:
        if not waits[name]:
            continue
        ratio = statistics.median(a / b for a, b in zip(waits[name], waits["foreground"], strict=False))
        print(
            f"{name:18s} {statistics.median(waits[name]):9.2f} {ratio:13.2f}x {statistics.median(slower[name]):15.2f}x"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--one"]:
        one, size, count, where = sys.argv[2:6]
        print(json.dumps(measure(one, int(size), int(count), Path(where))))
    else:
        given = [int(each) for each in sys.argv[1:]]
        main(*(given + [3, 1000, 1][len(given) :]))
