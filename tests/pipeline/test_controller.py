"""Ticks, checkpoints by policy, processes that skip, retry, yield; seeds; what a process finds in its controller."""

import collections
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ridgepole import Controller, Permanence, Pipeline, PipelineProcess, process
from ridgepole.checkpoint.store import CheckpointStore
from ridgepole.permanence import RunContext
from ridgepole.permanences import BaseLoggerManager
from ridgepole.rundir import read_run


class Counted(Permanence):
    def __init__(self, log):
        self.log = log

    def checkpoint(self):
        self.log.append("checkpoint")

    def cleanup(self):
        self.log.append("cleanup")


class Steps(PipelineProcess):
    def __init__(self, n: int, log):
        self.n, self.log = n, log

    def execute(self):
        for step in range(self.n):
            self.log.append(step)
            self.controller.tick()


class Log(list):
    """A list that a pipeline hands over as it is."""


def run(checkpoint, tmp_path, n=4, processes=1):
    log = Log()
    pipeline = Pipeline("ticks", progress=False, logger=False, checkpoint=checkpoint).permanence(
        "counted", Counted, log=log
    )
    for index in range(processes):
        pipeline.process(f"steps{index}", Steps, n=n, log=log)
    pipeline.run(tmp_path)
    return log[:-1]


C = "checkpoint"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (False, [0, 1, 2, 3]),
        ({"enabled": False}, [0, 1, 2, 3]),
        (True, [C, 0, 1, 2, 3, C]),
        ({}, [C, 0, 1, 2, 3, C]),
        ({"after_process": False}, [0, 1, 2, 3]),
        ({"after_process": False, "every_steps": 2}, [0, 1, C, 2, 3, C]),
        ({"every_steps": 3}, [C, 0, 1, 2, C, 3, C]),
        ({"every_minutes": 1e-9, "after_process": False}, [0, C, 1, C, 2, C, 3, C, C]),
    ],
    ids=str,
)
def test_checkpoints_come_when_the_policy_says(policy, expected, tmp_path):
    assert run(policy, tmp_path) == expected


def test_steps_count_across_processes(tmp_path):
    log = run({"after_process": False, "every_steps": 3}, tmp_path, n=2, processes=2)
    assert log == [0, 1, C, 0, 1, C], "the end of a process is a tick too"


def test_on_error(tmp_path):
    log = Log()

    @process
    def fail():
        raise ValueError("no good")

    for on_error, expected in ((True, [C, C]), (False, [C])):
        log.clear()
        pipeline = Pipeline(progress=False, logger=False, checkpoint={"on_error": on_error})
        with pytest.raises(ValueError, match="no good"):
            pipeline.permanence("counted", Counted, log=log).process("fail", fail).run(tmp_path)
        assert log[:-1] == expected


def test_a_new_best_makes_a_checkpoint_due_at_the_next_tick(tmp_path):
    log = Log()

    class Train(PipelineProcess):
        def __init__(self, logger: BaseLoggerManager):
            self.logger = logger

        def execute(self):
            for accuracy in (0.5, 0.4, 0.7, 0.7, 0.6):
                self.logger.log_metrics({"accuracy": accuracy})
                log.append(accuracy)
                self.controller.tick()

    policy = {"after_process": False, "keep_best": {"metric": "accuracy", "mode": "max"}}
    pipeline = Pipeline(progress=False, checkpoint=policy).permanence("counted", Counted, log=log)
    pipeline.process("train", Train).run(tmp_path)
    assert log[:-1] == [0.5, C, 0.4, 0.7, C, 0.7, 0.6]


@pytest.mark.parametrize(("value", "says"), [("0.5", "text ('0.5')"), ([0.5], "a sequence ([0.5])")])
def test_a_metric_that_is_never_a_number_is_warned_of_at_the_first_checkpoint(tmp_path, capfd, value, says):
    class Train(PipelineProcess):
        def __init__(self, logger: BaseLoggerManager):
            self.logger = logger

        def execute(self):
            for _ in range(3):
                self.logger.log_metrics({"accuracy": value})
                self.controller.tick()
                self.controller.checkpoint()

    policy = {"after_process": False, "keep_best": {"metric": "accuracy", "mode": "max"}}
    Pipeline(progress=False, checkpoint=policy).process("train", Train).run(tmp_path)
    warned = capfd.readouterr().err
    assert warned.count(f"keep_best: 'accuracy' was logged as {says}, which is not a number") == 1


def test_a_tensor_of_one_element_ranks_checkpoints(tmp_path, capfd):
    class Train(PipelineProcess):
        def __init__(self, logger: BaseLoggerManager):
            self.logger = logger

        def execute(self):
            for accuracy in (0.5, 0.7):
                self.logger.log_metrics({"accuracy": np.array([[accuracy]])})
                self.controller.tick()

    policy = {"after_process": False, "keep_best": {"metric": "accuracy", "mode": "max", "k": 1}}
    result = Pipeline(progress=False, checkpoint=policy).process("train", Train).run(tmp_path)
    scores = [info.score for info in CheckpointStore(result.path / "checkpoints").list() if info.score]
    assert [score.value for score in scores] == [0.5, 0.7]
    assert "keep_best" not in capfd.readouterr().err


def test_a_checkpoint_that_fails_fails_the_run_and_says_where(tmp_path):
    class Full(Counted):
        def checkpoint(self):
            raise OSError(28, "No space left on device")

    pipeline = Pipeline(progress=False, logger=False).permanence("full", Full, log=Log())
    with pytest.raises(OSError, match="No space left") as caught:
        pipeline.process("steps", Steps, n=1, log=Log()).run(tmp_path)
    assert "in checkpoint of permanence 'full'" in "\n".join(caught.value.__notes__)


def test_tick_counts_and_sets_the_step(tmp_path):
    seen = []

    class Look(PipelineProcess):
        def execute(self):
            for step in (None, None, 10, None):
                self.controller.tick(step)
                seen.append(self.controller.step)

    Pipeline(progress=False, logger=False).process("look", Look).run(tmp_path)
    assert seen == [1, 2, 10, 11]


def test_a_generator_ticks_at_each_yield(tmp_path):
    steps = []

    class Ask(PipelineProcess):
        def execute(self):
            steps.append(self.controller.step)

    @process
    def generate(n: int = 3):
        yield from range(n)

    Pipeline(progress=False, logger=False).process("generate", generate).process("ask", Ask).run(tmp_path)
    assert steps == [3]


@pytest.mark.parametrize("fails_in", ["body", "tick"])
def test_a_generator_is_closed_before_its_permanences(fails_in, tmp_path):
    log = Log()

    class Fragile(Counted):
        def checkpoint(self):
            if fails_in == "tick":
                raise OSError("full")

    @process
    def generate(held: Fragile):
        try:
            yield
            raise OSError("body")
        finally:
            log.append("closed")

    policy = {"after_process": False, "every_steps": 1}
    pipeline = Pipeline(progress=False, logger=False, checkpoint=policy).permanence("held", Fragile, log=log)
    with pytest.raises(OSError, match=r"body|full"):
        pipeline.process("generate", generate).run(tmp_path)
    assert log == ["closed", "cleanup"]


def test_skipping_says_why(tmp_path):
    class Done(PipelineProcess):
        def skip(self):
            return "the model is there already"

        def execute(self):
            raise AssertionError("must not run")

    @process(skip=lambda: True)
    def also_done():
        raise AssertionError("must not run")

    result = Pipeline(progress=False).process("done", Done).process("also", also_done).run(tmp_path)
    assert [(p.status, p.reason) for p in result.processes] == [
        ("skipped", "the model is there already"),
        ("skipped", ""),
    ]
    assert "done skipped: the model is there already" in (result.path / "run.log").read_text()


def test_force_runs_what_would_be_skipped(tmp_path):
    ran = []

    class Done(PipelineProcess):
        def skip(self):
            ran.append("asked")
            return True

        def execute(self):
            ran.append("executed")

    Pipeline(progress=False, logger=False).process("done", Done, force=True).run(tmp_path)
    assert ran == ["executed"]


def test_retries(tmp_path):
    tries = []

    @process
    def flaky(fail: int, error):
        tries.append(1)
        if len(tries) <= fail:
            raise error("not yet")

    def attempt(fail, error, **retries):
        tries.clear()
        pipeline = Pipeline(progress=False, logger=False).process(
            "flaky", flaky, fail=fail, error=error, retries=retries
        )
        return pipeline.run(tmp_path).status

    assert attempt(2, ConnectionError, n=2) == "finished"
    assert len(tries) == 3
    with pytest.raises(ConnectionError):
        attempt(3, ConnectionError, n=2)
    assert attempt(1, ConnectionError, n=1, on=["OSError"]) == "finished", "a base class counts"
    with pytest.raises(ValueError, match="not yet"):
        attempt(1, ValueError, n=5, on=["OSError"])
    assert len(tries) == 1
    with pytest.raises(KeyboardInterrupt):
        attempt(1, KeyboardInterrupt, n=5)
    assert len(tries) == 1


def test_async_functions_are_refused():
    with pytest.raises(TypeError, match="calls asyncio"):

        @process
        async def wrong():
            pass

    with pytest.raises(TypeError, match="takes a function, not <class"):
        process(Steps)


def test_the_decorated_function_stays_itself():
    @process
    def double(x: int) -> int:
        return 2 * x

    assert double(2) == 4


def test_what_a_controller_offers(tmp_path):
    seen = {}

    class Look(PipelineProcess):
        def execute(self):
            seen.update(
                run_dir=self.controller.run_dir,
                seed=self.controller.seed,
                config=self.controller.config,
                attempt=self.controller.attempt,
            )

    result = Pipeline("offers", progress=False, logger=False, seed=5).process("look", Look).run(tmp_path)
    assert seen["run_dir"] == result.path
    assert seen["seed"] == seen["config"]["pipeline"]["seed"] == 5
    assert seen["attempt"] == 1


@pytest.mark.slow
def test_the_seed_reaches_every_generator(tmp_path):
    """Also those of packages that are imported only inside a constructor."""
    script = """
import sys
from pathlib import Path
from ridgepole import Controller, Permanence, Pipeline
class Late(Permanence):
    def __init__(self):
        assert "torch" not in sys.modules
        import random, numpy, torch
        print(random.random(), numpy.random.rand(), torch.rand(1).item(), torch.__spec__.loader is torch.__loader__)
    def cleanup(self): pass
Pipeline(seed=int(sys.argv[1]), progress=False, logger=False).permanence("late", Late).run(sys.argv[2])
"""

    def numbers(seed):
        command = [sys.executable, "-c", script, str(seed), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    import numpy as np
    import torch

    expected = [str(random.Random(5).random()), str(np.random.RandomState(5).rand())]
    expected += [str(torch.rand(1, generator=torch.Generator().manual_seed(5)).item()), "True"]
    assert numbers(5) == expected
    assert numbers(6) != expected


@pytest.mark.slow
def test_determinism_is_asked_for_and_given_back(tmp_path):
    import torch

    seen = []

    @process
    def look():
        seen.append(torch.are_deterministic_algorithms_enabled())

    Pipeline(deterministic=True, progress=False, logger=False).process("look", look).run(tmp_path)
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_pipeline_runs_more_than_once(tmp_path):
    log = Log()
    pipeline = Pipeline(progress=False, logger=False, checkpoint=False).permanence("counted", Counted, log=log)
    first, second = pipeline.run(tmp_path), pipeline.run(tmp_path)
    assert first.id != second.id
    assert log == ["cleanup", "cleanup"]


def test_a_pipeline_built_in_python_keeps_its_description(tmp_path):
    pipeline = Pipeline("built", progress=False, logger=False, checkpoint=False)
    result = pipeline.permanence("counted", Counted, log=collections.deque()).run(tmp_path)
    assert "has no TOML form" in (result.path / "config.toml").read_text()
    result = Pipeline("built", progress=False, logger=False).process("steps", Steps, n=0, log=[]).run(tmp_path)
    assert 'type = "Steps"' in (result.path / "config.toml").read_text()
    assert read_run(result.path).json("config.resolved.json")["processes"]["steps"]["params"]["n"] == 0


def test_a_tick_does_not_look_at_metrics_that_nobody_ranks_by(tmp_path, monkeypatch):
    """With `keep_best` a tick looks one value up, however many metrics there are."""
    from ridgepole.metrics.summary import Summary

    whole = []
    monkeypatch.setattr(Summary, "as_dict", lambda self: whole.append(1) or {})

    class Train(PipelineProcess):
        def __init__(self, logger: BaseLoggerManager):
            self.logger = logger

        def execute(self):
            for step in range(50):
                self.logger.log_metrics({f"m{index}": 1.0 for index in range(20)} | {"accuracy": -step})
                self.controller.tick()
            assert len(whole) == 1, "the checkpoint at the first best writes the summary; no tick reads it"

    policy = {"after_process": False, "keep_best": {"metric": "accuracy", "mode": "max"}}
    Pipeline(progress=False, checkpoint=policy).process("train", Train).run(tmp_path)


def test_the_number_of_processes_costs_no_waits_for_the_disk(tmp_path, monkeypatch):
    syncs = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: syncs.append(fd) or real(fd))

    @process
    def nothing():
        pass

    counts = []
    for number in (1, 40):
        pipeline = Pipeline(progress=False, logger=False, checkpoint=False, seed=1)
        for index in range(number):
            pipeline.process(f"nothing{index}", nothing)
        syncs.clear()
        pipeline.run(tmp_path)
        counts.append(len(syncs))
    assert counts[0] == counts[1], "what a process writes for itself is not synced"


def test_its_type_is_public_and_each_member_is_documented(tmp_path):
    import inspect

    import ridgepole

    seen = []

    @process
    def look(controller: ridgepole.Controller) -> None:
        seen.append(controller)

    Pipeline("p", progress=False, logger=False, checkpoint=False, seed=1).process("look", look).run(tmp_path)
    assert isinstance(seen[0], ridgepole.Controller)
    members = [name for name in dir(ridgepole.Controller) if not name.startswith("_")]
    assert {"get_permanence", "tick", "step", "seed", "run_dir"} <= {*members, *vars(seen[0])}
    assert [name for name in members if not inspect.getdoc(getattr(ridgepole.Controller, name))] == []


def test_the_page_about_the_controller_names_what_there_is(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "controller.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    found = set()

    @process
    def look(controller: Controller):
        found.update(name for name in dir(controller) if not name.startswith("_"))

    Pipeline("controller", progress=False).process("look", look).run(tmp_path)

    assert {"tick", "checkpoint", "step", "run_dir", "get_permanence"} <= named <= found
    for_users = {name for name in dir(RunContext) if not name.startswith("_")} | set(RunContext.__annotations__)
    assert for_users - {"ticks"} <= named
