"""What a resume says it does is what it does: changed parameters, durations, what is in use."""

import json

import pytest
import torch

from ridgepole import Permanence, Pipeline, PipelineProcess
from ridgepole.cli.output import seconds
from ridgepole.errors import ConfigError
from ridgepole.rundir import list_runs, read_attempts, read_run
from ridgepole.runs.row import read_row

LR = "permanences.net.params.lr"


class DeathError(Exception):
    """In the place of whatever ends an attempt."""


class Net(Permanence):
    """An optimiser keeps the rate of its groups in its own state."""

    def __init__(self, lr: float = 0.1, width: int = 2) -> None:
        self.model = torch.nn.Linear(width, 1)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=lr)

    @property
    def lr(self):
        return self.optimiser.param_groups[0]["lr"]

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def cleanup(self):
        pass


class Adapts(Net):
    def on_change(self, old, new):
        assert (old, new) == ({"lr": 0.1}, {"lr": 0.001})
        for group in self.optimiser.param_groups:
            group["lr"] = new["lr"]


class Scheduled(Net):
    """The rate has decayed meanwhile: the state holds the old one under another name."""

    def __init__(self, lr: float = 0.1, width: int = 2):
        super().__init__(lr, width)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimiser, 0.5)

    def state_dict(self):
        return {"model": self.model.state_dict(), "start": self.scheduler.base_lrs[0]}

    def load_state_dict(self, state):
        self.scheduler.base_lrs = [state["start"]]


class Ignores(Net):
    """The constructor's value stays."""

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])


class Train(PipelineProcess):
    """Dies before a step; `used` is the rate of each step."""

    used: list = []  # noqa: RUF012
    dies_at = -1

    def __init__(self, net: Net, steps: int = 4):
        self.net, self.steps, self.done = net, steps, 0

    def execute(self):
        while self.done < self.steps:
            if self.done == Train.dies_at:
                raise DeathError
            Train.used.append(self.net.lr)
            self.done += 1
            self.controller.tick()

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def pipeline(net=Net, lr=0.1, **params):
    made = Pipeline("honest", progress=False, seed=3, checkpoint={"every_steps": 2})
    return made.permanence("net", net, lr=lr).process("train", Train, **params)


def dies(call, at):
    Train.used, Train.dies_at = [], at
    with pytest.raises(DeathError):
        call()
    Train.dies_at = -1


def log_of(run):
    return (run / "run.log").read_text()


@pytest.mark.parametrize(
    ("net", "used", "restored"),
    [(Net, 0.1, 0.1), (Adapts, 0.001, None), (Scheduled, 0.001, 0.1), (Ignores, 0.001, None)],
)
def test_the_record_says_which_value_is_in_use(net, used, restored, tmp_path, ridgepole):
    dies(lambda: pipeline(net).run(tmp_path), at=2)
    Train.used = []
    result = pipeline(net, lr=0.001).resume(root=tmp_path, allow_change=[LR])
    assert Train.used == [used] * 2
    told = f"the state restored permanences.net.lr: {restored} is in use, not 0.001; define on_change(old, new)"
    assert (told in log_of(result.path)) == (restored is not None)
    first, second = read_attempts(result.path)
    assert "changes" not in first
    assert second["changes"] == {LR: [[0.1], [0.001]]}
    assert second.get("restored") == (None if restored is None else {LR: restored})
    shown = ridgepole("runs", "show", str(result.path)).stdout
    note = "" if restored is None else f"; the state restored {restored}"
    assert f"          {LR}: 0.1 -> 0.001{note}\n" in shown
    row = read_row(read_run(result.path))
    assert row.config[LR] == (0.001 if restored is None else restored), "tables have the value in use"


def test_a_parameter_that_no_state_holds_is_no_warning(tmp_path):
    dies(lambda: pipeline().run(tmp_path), at=2)
    result = pipeline(steps=6).resume(root=tmp_path, allow_change=["processes.train.params.steps"])
    assert len(Train.used) == 6
    assert "WARNING" not in log_of(result.path)
    assert read_attempts(result.path)[1]["changes"] == {"processes.train.params.steps": [[4], [6]]}


def test_a_process_is_told_of_a_change_too(tmp_path):
    class Told(Train):
        def on_change(self, old, new):
            Train.used.append((old, new))

    def make(steps):
        made = Pipeline("told", progress=False, seed=3, checkpoint={"every_steps": 2}).permanence("net", Net)
        return made.process("train", Told, steps=steps)

    dies(lambda: make(4).run(tmp_path), at=2)
    Train.used = []
    make(5).resume(root=tmp_path, allow_change=["processes.train.params.steps"])
    assert Train.used == [({"steps": 4}, {"steps": 5}), 0.1, 0.1, 0.1]


def test_a_change_counts_from_the_first_checkpoint_on(tmp_path):
    """An attempt that failed before it has left nothing of the change; the run is what it was."""
    dies(lambda: pipeline().run(tmp_path), at=2)
    (run,) = list_runs(tmp_path)
    before = {name: (run.path / name).read_bytes() for name in ("config.toml", "config.resolved.json")}
    dies(lambda: pipeline(Adapts, lr=0.001).resume(root=tmp_path, allow_change=["permanences.net"]), at=2)
    assert {name: (run.path / name).read_bytes() for name in before} == before
    dies(lambda: pipeline().resume(root=tmp_path), at=3)
    with pytest.raises(ConfigError, match="is not what run"):
        pipeline(lr=0.001).resume(root=tmp_path)
    dies(lambda: pipeline(lr=0.001, steps=6).resume(root=tmp_path, allow_change=[LR, "processes.train"]), at=5)
    with pytest.raises(ConfigError, match="is not what run"):
        pipeline().resume(root=tmp_path)
    assert pipeline(lr=0.001, steps=6).resume(root=tmp_path).status == "finished"


def test_a_change_is_recorded_at_the_end_where_no_checkpoints_are_taken(tmp_path):
    def make(steps):
        made = Pipeline("none", progress=False, seed=3, checkpoint=False).permanence("net", Net)
        return made.process("train", Train, steps=steps)

    dies(lambda: make(4).run(tmp_path), at=2)
    dies(lambda: make(5).resume(root=tmp_path, allow_change=["processes.train"]), at=2)
    result = make(4).resume(root=tmp_path)
    assert json.loads((result.path / "config.resolved.json").read_text())["processes"]["train"]["params"]["steps"] == 4


def test_the_duration_of_a_run_is_that_of_its_attempts(tmp_path, ridgepole):
    dies(lambda: pipeline().run(tmp_path), at=2)
    (run,) = list_runs(tmp_path)
    dies(lambda: pipeline().resume(root=tmp_path), at=3)
    result = pipeline().resume(root=tmp_path)
    fields = read_run(run.path).fields
    assert [(each["attempt"], each["status"]) for each in fields["attempts"]] == [
        (1, "failed"),
        (2, "failed"),
        (3, "finished"),
    ]
    assert list(result.attempts) == [each["seconds"] for each in fields["attempts"]]
    assert result.seconds == fields["seconds"] == pytest.approx(sum(result.attempts))
    assert min(result.attempts) > 0
    shown = ridgepole("runs", "show", str(run.path)).stdout
    for each in fields["attempts"]:
        assert f"; {each['status']} after {seconds(each['seconds'])}\n" in shown


def test_an_attempt_that_was_killed_lasted_until_its_last_sign_of_life(place):
    done = place.call("resume")
    assert done.returncode == 0, done.stderr
    fields = read_run(place.run).fields
    first, second = fields["attempts"]
    assert first["status"] == "crashed"
    lines = [json.loads(line) for line in (place.run / "metrics.jsonl").read_text().splitlines()]
    assert first["seconds"] == pytest.approx(lines[4]["time"] - read_attempts(place.run)[0]["time"], abs=1e-3)
    assert fields["seconds"] == pytest.approx(first["seconds"] + second["seconds"])
    assert f" in 2 attempts ({seconds(first['seconds'])} + {seconds(second['seconds'])}) · " in done.stdout
