"""The plain script, killed and resumed."""

import signal
from pathlib import Path

import pytest

from ridgepole import read_metrics
from ridgepole.rundir import list_runs

SCRIPT = Path(__file__).parents[2] / "examples" / "script" / "train.py"
STEPS_PER_EPOCH = 23
ENDLESS = ("--epochs", "100000")


def values(run, name):
    return read_metrics(run.path).filter(name=name).sort("step")["value"].cast(float).to_list()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, torch_server):
    folder = tmp_path_factory.mktemp("whole")
    done = torch_server.call("--epochs", "12", cwd=folder, script=SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = list_runs(folder / "runs")
    return run


def test_it_reads_most_digits(whole):
    assert whole.status == "finished"
    assert whole.json("config.resolved.json")["params"] == {"epochs": 12, "width": 64, "lr": 0.003}
    assert values(whole, "accuracy")[-1] > 0.9
    assert len(values(whole, "loss")) == 12 * STEPS_PER_EPOCH


def test_a_killed_run_resumes_with_the_same_values(whole, tmp_path, torch_server):
    killed = torch_server.start(*ENDLESS, cwd=tmp_path, script=SCRIPT).until("epoch 3:").send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    last = killed.stdout.count("epoch")

    resumed = torch_server.start(*ENDLESS, cwd=tmp_path, script=SCRIPT, RIDGEPOLE_RESUME="1")
    code = resumed.until(f"epoch {max(last + 2, 12)}:").send(signal.SIGTERM).wait()
    assert code == 128 + signal.SIGTERM, resumed.stderr

    (run,) = list_runs(tmp_path / "runs")
    assert run.fields["attempt"] == 2
    assert "epoch 1:" not in resumed.stdout
    for name in ("loss", "accuracy"):
        length = len(values(whole, name))
        assert values(run, name)[:length] == values(whole, name)
