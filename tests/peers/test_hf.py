"""Trainings under Transformers and Accelerate: recorded, stopped, killed, resumed."""

import json
from pathlib import Path

import pytest
import torch
from fork_server import ForkServer
from integration_helpers import newest, values

pytest.importorskip("transformers", reason="make peers runs it where transformers is installed")
pytestmark = pytest.mark.timeout(240)

PRELOADED = (
    "transformers.trainer",
    "transformers.models.bert.modeling_bert",
    "polars",
    "ridgepole.loggers.local.logger",
    "ridgepole.scripts.session",
)
TIMES = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
SPEEDS = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    server = ForkServer(tmp_path_factory.mktemp("server"), *PRELOADED)

    def call(folder, *words, code=0, resume=False):
        environment = {"RIDGEPOLE_RESUME": "1"} if resume else {}
        script = Path(__file__).parent / "hf_training.py"
        done = server.call(*words, cwd=folder, script=script, timeout=120, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    yield call
    server.close()


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A training that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def history(folder):
    rows = json.loads((folder / "history.json").read_text())
    return sorted((row["step"], name, value) for row in rows for name, value in row.items() if name != "step")


def steady(rows):
    """What two trainings have in common: all but the time they took."""
    return sorted(row for row in rows if row[1] not in TIMES | SPEEDS | {"train_loss", "total_flos"})


def test_the_record_is_the_history_of_the_trainer(whole):
    run = newest(whole)
    assert run.status == "finished"
    assert sorted(values(run.path)) == history(whole)
    assert {(step, name) for step, name, _ in history(whole)} >= {(1, "loss"), (8, "eval_loss"), (16, "loss")}
    assert run.json("config.resolved.json")["params"]["learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("at", "signal", "code", "step"),
    [
        ("step 6", "SIGTERM", 143, 7),
        ("evaluation 8", "SIGTERM", 143, 8),
        ("step 15", "SIGTERM", 143, 16),
        ("step 7", "SIGINT", 130, 8),
        ("step 7", "SIGKILL", -9, 5),
    ],
)
def test_a_resumed_training_ends_as_one_without_the_interruption(train, whole, tmp_path, at, signal, code, step):
    train(tmp_path, f"at={at}", f"signal={signal}", code=code)
    if code > 0:
        assert newest(tmp_path).status == "interrupted"
    assert not (tmp_path / "history.json").exists()
    train(tmp_path, f"at={at}", f"signal={signal}", resume=True)
    run = newest(tmp_path)
    assert (run.status, run.fields["attempt"]) == ("finished", 2)
    assert f"continuing from the trainer's checkpoint, step {step}" in (run.path / "run.log").read_text()
    assert sorted(values(run.path)) == history(tmp_path)
    assert steady(values(run.path)) == steady(values(newest(whole).path))
    assert (tmp_path / "weights.txt").read_text() == (whole / "weights.txt").read_text()


def test_a_resume_that_the_script_forgot_starts_over_and_says_so(train, whole, tmp_path):
    words = ["at=step 6", "signal=SIGTERM", "forgotten=yes"]
    train(tmp_path, *words, code=143)
    train(tmp_path, *words, resume=True)
    run = newest(tmp_path)
    assert "starting over: trainer.train got no resume_from_checkpoint" in (run.path / "run.log").read_text()
    assert steady(values(run.path)) == steady(values(newest(whole).path))


def test_accelerate_logs_to_the_run(tmp_path, monkeypatch):
    from accelerate import Accelerator

    import ridgepole
    from ridgepole.integrations.accelerate import RidgepoleTracker

    monkeypatch.chdir(tmp_path)
    weight = torch.nn.Linear(1, 1)
    with ridgepole.run("accelerated"):
        accelerator = Accelerator(cpu=True, log_with=RidgepoleTracker())
        accelerator.init_trackers("project", config={"lr": 0.1})
        model, optimizer = accelerator.prepare(weight, torch.optim.SGD(weight.parameters(), lr=0.1))
        losses = []
        for step in range(5):
            loss = (model(torch.ones(2, 1)) - 3).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            accelerator.log({"loss": loss.item()}, step=10 * step)
        accelerator.get_tracker("ridgepole", unwrap=True).log_text("note", "done", step=40)
        accelerator.end_training()
    run = newest(tmp_path)
    assert (run.status, run.json("config.resolved.json")["params"]["lr"]) == ("finished", 0.1)
    assert values(run.path) == [(10 * step, "loss", loss) for step, loss in enumerate(losses)]
    assert losses[-1] < losses[0]
