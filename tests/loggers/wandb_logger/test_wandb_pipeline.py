"""WandBLogger declared in a pipeline, beside the local record that every run has."""

import json
import shlex

import numpy as np
import pytest

from ridgepole import Pipeline, PipelineProcess, process
from ridgepole.metrics import load_metrics
from ridgepole.permanences import BaseLoggerManager, WandBLogger
from wandb_server import SweepServer

TOML = """
[pipeline]
name = "small"
package = "steps"
seed = 7

[permanences.tracker]
type = "WandBLogger"
mode = "offline"
tags = ["one", "two"]

[processes.train]
type = "train"
epochs = 3
password = "canary-word"
"""

STEPS = """
import numpy as np
from ridgepole import process
from ridgepole.permanences import BaseLoggerManager

@process
def train(logger: BaseLoggerManager, epochs: int = 1, password: str = ""):
    for epoch in range(epochs):
        logger.log_metrics({"loss": 1 / (epoch + 1)})
        yield
    logger.log_metrics({"late": 1.0}, step=0)
    logger.log_figure("noise", np.zeros((4, 4)))
    logger.info("done")
"""


def test_a_run_declared_in_toml(project, ridgepole, tmp_path, recorded):
    project(small__toml=TOML, steps__py=STEPS)
    done = ridgepole("run", "small.toml")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    attached = json.loads((run / "wandb" / "attached.json").read_text())
    assert attached["id"] == run.name
    (name,) = attached["unsent"]
    found = recorded(run / "wandb" / name)
    local = load_metrics(run).frame
    assert [(row["step"], row["loss"]) for row in found.rows if "loss" in row] == list(
        local.filter(local["name"] == "loss").select("step", "value").iter_rows()
    )
    assert [row["step"] for row in found.rows if "late" in row] == [0]
    (line,) = map(json.loads, (run / "media.jsonl").read_text().splitlines())
    (noise,) = found.column("noise")
    assert (run / "wandb" / name / "files" / noise["path"]).read_bytes() == (run / line["file"]).read_bytes()
    (header,) = found.of("run")
    assert (header.project, header.display_name, list(header.tags)) == ("small", run.name, ["one", "two"])
    assert found.config["pipeline"]["seed"] == 7
    given = found.config["processes"]["train"]["params"]
    assert (given["epochs"], given["password"]) == (3, "***")
    assert "INFO done" in found.messages
    assert f"wandb sync {run / 'wandb' / name}" in done.stdout + done.stderr
    assert b"canary-word" not in found.path.read_bytes()


@process
def log_three(logger: BaseLoggerManager):
    for i in range(3):
        logger.log_metrics({"a": i})
        yield


def fail(*given):
    raise RuntimeError("the client is broken")


def test_a_client_that_fails_in_a_run_is_no_failure_of_the_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.executable", "/bin/false")
    pipeline = Pipeline("p").permanence("tracker", WandBLogger, mode="offline").process("log", log_three)
    result = pipeline.run(tmp_path / "runs")
    assert result.status == "finished"
    assert load_metrics(result.path).records == 3
    assert capfd.readouterr().err.count("switched off for this run") == 1


def test_a_resume_off_line_adds_a_directory_to_the_same_run(inside, recorded, capfd):
    directories = []
    for attempt in (1, 2):
        with inside(WandBLogger, mode="offline") as logger:
            logger.log_metrics({"attempt": attempt})
            directories.append(logger.get_state()["sync_dir"])
    ids = [run.run_id for directory in directories for run in recorded(directory).of("run")]
    assert ids == ["20261122-101500-7f3a91c2"] * 2
    assert shlex.join(["wandb", "sync", *directories]) in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("logger", [True, False])
def test_check_starts_nothing(tmp_path, logger, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", fail)
    pipeline = Pipeline("p", logger=logger).permanence("t", WandBLogger, mode="offline").process("log", log_three)
    assert not [problem for problem in pipeline.check() if problem.severity == "error"]
    assert np.array_equal(list(tmp_path.glob("**/wandb")), [])


def test_a_run_that_fails_is_marked_so(tmp_path, recorded):
    @process
    def fail():
        raise ValueError("no good")

    pipeline = Pipeline("small", progress=False).permanence("tracker", WandBLogger, mode="offline")
    with pytest.raises(ValueError, match="no good"):
        pipeline.process("fail", fail).run(tmp_path / "runs")
    (run,) = (tmp_path / "runs").iterdir()
    (directory,) = (run / "wandb").glob("offline-run-*")
    assert [end.exit_code for end in recorded(directory).of("exit")] == [1]


class Train(PipelineProcess):
    """Dies after five values the first time, two after its checkpoint."""

    def __init__(self, logger: BaseLoggerManager):
        self.logger, self.done = logger, 0

    def execute(self):
        while self.done < 6:
            first = self.controller.attempt == 1
            if first and self.done == 3:
                self.controller.checkpoint()
            if first and self.done == 5:
                raise RuntimeError("the first attempt ends here")
            self.logger.log_metrics({"a": self.done + 10 * self.controller.attempt})
            self.done += 1

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


def test_a_resumed_run_takes_its_steps_up_where_the_checkpoint_was(tmp_path, recorded):
    pipeline = Pipeline("p", progress=False).permanence("tracker", WandBLogger, mode="offline").process("train", Train)
    with pytest.raises(RuntimeError, match="ends here"):
        pipeline.run(tmp_path / "runs")
    run = pipeline.resume(root=tmp_path / "runs").path
    attached = json.loads((run / "wandb" / "attached.json").read_text())
    found = [recorded(run / "wandb" / name) for name in attached["unsent"]]
    assert [[(row["step"], row["a"]) for row in each.rows] for each in found] == [
        [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)],
        [(3, 23), (4, 24), (5, 25)],
    ]
    assert {header.run_id for each in found for header in each.of("run")} == {run.name}


ENDLESS = """
import time
from ridgepole import PipelineProcess
from ridgepole.permanences import BaseLoggerManager

class Endless(PipelineProcess):
    def __init__(self, logger: BaseLoggerManager):
        self.logger, self.step = logger, 0
    def state_dict(self):
        return {"step": self.step}
    def load_state_dict(self, state):
        self.step = state["step"]
    def execute(self):
        while True:
            time.sleep(0.05)
            self.step += 1
            self.logger.log_metrics({"loss": 1.0})
            self.controller.tick()
"""


def test_a_run_that_is_stopped_on_its_page(project, ridgepole, tmp_path, key):
    """It stops as on Ctrl-C: at a tick, with a checkpoint and clean-up. The client asks the server now and then."""
    one = SweepServer()
    try:
        project(
            endless__toml='[pipeline]\npackage = "walk"\n[permanences.tracker]\ntype = "WandBLogger"\n'
            '[processes.walk]\ntype = "Endless"\n',
            walk__py=ENDLESS,
        )
        one.stops_all = True
        done = ridgepole("run", "endless.toml", WANDB_BASE_URL=one.url, WANDB_API_KEY=key, timeout=100)
    finally:
        one.close()
    assert done.returncode == 130, done.stderr
    assert "W&B asks this run to stop" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert list((run / "checkpoints").iterdir())
