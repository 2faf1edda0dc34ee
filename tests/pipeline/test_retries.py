"""Retries, generator processes and `needs`, together with checkpoints and resume."""

import random

import pytest

from ridgepole import ConfigError, Permanence, Pipeline, PipelineProcess, ResumableLoader, process, read_metrics, track
from ridgepole.permanences import BaseLoggerManager
from ridgepole.rundir import read_run


class Net(Permanence):
    """Stands for a network: what it has learnt is a list of everything it was shown."""

    def __init__(self):
        self.seen = []

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]

    def cleanup(self):
        pass


failures = {}


@pytest.fixture(autouse=True)
def _no_failures():
    failures.clear()


def fails(at):
    """Whether this is the time to fail; each failure comes as often as it was asked for."""
    if failures.get(at, 0):
        failures[at] -= 1
        return True
    return False


class Train(PipelineProcess):
    """Can't be resumed in its middle."""

    def __init__(self, net: Net, logger: BaseLoggerManager, steps: int = 4):
        self.net, self.logger, self.steps = net, logger, steps

    def execute(self):
        for step in range(self.steps):
            self.net.seen.append((step, random.random()))
            self.logger.log_metrics({"seen": float(len(self.net.seen))})
            self.controller.tick()
            if fails(len(self.net.seen)):
                raise OSError("failed")


class Loop(PipelineProcess):
    """Can be resumed in its middle: all its steps are items of one loader."""

    def __init__(self, net: Net, logger: BaseLoggerManager):
        self.net, self.logger = net, logger

    def execute(self):
        for batch in track(ResumableLoader(range(12), 2, 2, collate_fn=list), "loop", tick=True):
            self.net.seen.append((batch, random.random()))
            self.logger.log_metrics({"seen": float(len(self.net.seen))})
            if fails(len(self.net.seen)):
                raise OSError("failed")


@process
def steps(net: Net, logger: BaseLoggerManager):
    for step in range(4):
        net.seen.append((step, random.random()))
        logger.log_metrics({"seen": float(len(net.seen))})
        yield
        if fails(len(net.seen)):
            raise OSError("failed")


@process
def looped(net: Net, logger: BaseLoggerManager):
    for batch in track(ResumableLoader(range(12), 2, 2, collate_fn=list), "loop", tick=True):
        net.seen.append((batch, random.random()))
        logger.log_metrics({"seen": float(len(net.seen))})
        if fails(len(net.seen)):
            raise OSError("failed")
        yield


kept = []


@process
def keep(net: Net):
    kept.append(list(net.seen))


def pipeline(work, checkpoint=True, **keys):
    made = Pipeline("retried", progress=False, seed=3, checkpoint=checkpoint).permanence("net", Net)
    return made.process("first", Train).process("work", work, **keys).process("keep", keep)


def outcome(made, root):
    """What a run has learnt and logged."""
    kept.clear()
    result = made.run(root)
    return kept[-1], rows_of(result.path)


def rows_of(path):
    return [(row["step"], row["value"]) for row in read_metrics(path).to_dicts()]


POLICIES = [
    True,
    False,
    {"after_process": False},
    {"every_steps": 1},
    {"after_process": False, "every_steps": 3},
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("work", [Train, Loop, steps, looped], ids=lambda work: work.__name__)
def test_a_retried_process_ends_where_one_that_never_failed_does(work, policy, tmp_path):
    expected = outcome(pipeline(work, policy), tmp_path / "whole")
    failures.update({6: 2, 8: 1})
    assert outcome(pipeline(work, policy, retries={"n": 3}), tmp_path / "retried") == expected
    assert not any(failures.values()), "it has failed as often as it was asked to"


def test_a_loop_goes_on_in_its_middle(tmp_path):
    failures[9] = 1
    result = pipeline(Loop, {"every_steps": 1}, retries={"n": 1}).run(tmp_path)
    log = (result.path / "run.log").read_text()
    assert "trying again from step 8, 0 retries left" in log
    assert result.status == "finished"


def test_the_last_failure_comes_out(tmp_path):
    failures[3] = 9
    made = Pipeline(progress=False).permanence("net", Net).process("work", Train, retries={"n": 2})
    with pytest.raises(OSError, match="failed"):
        made.run(tmp_path)
    assert failures[3] == 6, "once and two retries"


def test_what_can_not_go_back_is_not_tried_again(tmp_path):
    class Stubborn(Net):
        def state_dict(self):
            return {"seen": self.seen, "lock": (value for value in ())}

    failures[1] = 9
    made = Pipeline(progress=False, checkpoint=False).permanence("net", Stubborn)
    with pytest.raises(OSError, match="failed") as caught:
        made.process("work", Train, retries={"n": 2}).run(tmp_path)
    assert "work was not tried again: the state before it could not be copied" in "\n".join(caught.value.__notes__)
    assert failures[1] == 8


def test_a_failed_attempt_frees_what_it_held(tmp_path):
    import weakref

    class Big:
        pass

    alive = []

    @process
    def hold():
        big = Big()
        alive.append(weakref.ref(big))
        if len(alive) == 2:
            assert alive[0]() is None
        else:
            raise MemoryError("too big")

    Pipeline(progress=False).process("hold", hold, retries={"n": 1}).run(tmp_path)
    assert len(alive) == 2


# --- resume


def test_a_retry_after_a_resume(tmp_path):
    expected = outcome(pipeline(Loop), tmp_path / "whole")
    made = pipeline(Loop, {"every_steps": 1}, retries={"n": 1, "on": ["ValueError"]})
    failures[9] = 1
    with pytest.raises(OSError, match="failed"):
        made.run(tmp_path / "resumed")
    failures[11] = 1
    kept.clear()
    made = pipeline(Loop, {"every_steps": 1}, retries={"n": 1})
    result = made.resume(root=tmp_path / "resumed")
    assert (kept[-1], rows_of(result.path)) == expected


@pytest.mark.parametrize("work", [steps, looped], ids=lambda work: work.__name__)
def test_generators_resume(work, tmp_path):
    expected = outcome(pipeline(work), tmp_path / "whole")
    made = Pipeline("retried", progress=False, seed=3, checkpoint={"every_steps": 1}).permanence("net", Net)
    made.process("first", Train).process("work", work).process("keep", keep)
    failures[7] = 1
    with pytest.raises(OSError, match="failed"):
        made.run(tmp_path / "cut")
    kept.clear()
    path = made.resume(root=tmp_path / "cut").path
    assert (kept[-1], rows_of(path)) == expected
    expected_step = 6 if work is looped else 4
    assert f"step {expected_step}" in (path / "run.log").read_text(), "the middle of a loop, or the boundary before"


def test_needs_decides_where_a_resume_goes_on(tmp_path):
    done = []

    @process
    def prepare():
        done.append("prepare")

    @process
    def use():
        done.append("use")
        if len(done) == 2:
            raise OSError("not yet")

    def described(*needs):
        made = Pipeline(progress=False).process("use", use, needs=list(needs))
        return made.process("prepare", prepare).process("other", prepare)

    with pytest.raises(OSError, match="not yet"):
        described("prepare").run(tmp_path)
    with pytest.raises(ConfigError, match="when 'prepare' was done; today they are: use, prepare, other"):
        described().resume(root=tmp_path)
    assert done == ["prepare", "use"]
    result = described("prepare").resume(root=tmp_path)
    assert done == ["prepare", "use", "use", "prepare"]
    assert [item["name"] for item in read_run(result.path).fields["processes"]] == ["prepare", "use", "other"]


@pytest.mark.parametrize("policy", [True, False], ids=str)
def test_what_is_logged_while_permanences_start_is_there_once(policy, tmp_path):
    class Loud(Net):
        def __init__(self, logger: BaseLoggerManager):
            super().__init__()
            self.logger = logger

        def initialize(self):
            self.logger.log_metrics({"parameters": 7.0})

    failures[2] = 1
    made = Pipeline(progress=False, seed=1, checkpoint=policy).permanence("net", Loud).process("work", Train)
    with pytest.raises(OSError, match="failed"):
        made.run(tmp_path)
    path = made.resume(root=tmp_path).path
    assert [row["value"] for row in read_metrics(path).to_dicts()] == [7.0, 1.0, 2.0, 3.0, 4.0]
