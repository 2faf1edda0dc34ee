"""`ridgepole export`."""

import pandas as pd
import polars as pl
import pytest

from ridgepole import Pipeline, process
from ridgepole.extras import install_command
from ridgepole.permanences import BaseLoggerManager, BasicLogger


@process
def train(logger: BaseLoggerManager):
    for step in range(3):
        logger.log_metrics({"loss": 1 / (step + 1), "validation": {"accuracy": 0.5}})


@pytest.fixture
def run(tmp_path):
    Pipeline("exported", progress=False, seed=1).process("train", train).run(tmp_path / "runs")
    return next((tmp_path / "runs").iterdir())


def test_csv(run, ridgepole):
    done = ridgepole("export", "latest", "--to", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"exported 6 values of {run.name} to runs/{run.name}/export/csv/metrics.csv\n"
    assert done.stderr == ""
    assert pd.read_csv(run / "export/csv/metrics.csv")["loss"].tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_parquet_elsewhere(run, tmp_path, ridgepole):
    done = ridgepole("export", run.name[:10], "--to", "parquet", "--output", "out/here", "--runs-dir", "runs")
    assert done.stdout.endswith("to out/here/metrics.parquet\n"), done.stderr
    assert pl.read_parquet(tmp_path / "out/here/metrics.parquet").height == 6
    assert not (run / "export").exists()


def test_a_log_directory_of_a_plain_script(tmp_path, ridgepole):
    with BasicLogger(tmp_path / "logs") as logger:
        logger.log_metrics({"a": 1})
    assert "exported 1 value of logs" in ridgepole("export", "logs", "--to", "csv").stdout


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_twice_is_refused(to, run, ridgepole):
    assert ridgepole("export", "latest", "--to", to).returncode == 0
    again = ridgepole("export", "latest", "--to", to)
    assert again.returncode == 2
    assert again.stdout == ""
    assert again.stderr.startswith("error: ")
    assert "holds a finished export" in again.stderr
    assert "--output" in again.stderr


def test_calls_that_are_wrong(run, tmp_path, ridgepole):
    (tmp_path / "file").write_text("")
    (tmp_path / "bare").mkdir()
    for arguments, word in (
        (["nope", "--to", "csv"], "no run 'nope'"),
        (["latest", "--to", "parket"], "no export target 'parket'; did you mean 'parquet'?"),
        (["latest"], "--to"),
        (["latest", "--to", "csv", "--runs-dir", "bare"], "no runs in bare"),
        (["latest", "--to", "csv", "--output", "file"], "it is a file"),
        (["latest", "--to", "csv", "--output", "file/below"], "name another place with --output"),
    ):
        done = ridgepole("export", *arguments)
        assert done.returncode == 2, f"{arguments}: {done.stderr}"
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_a_run_that_logged_nothing(tmp_path, ridgepole):
    Pipeline("silent", progress=False, seed=1).run(tmp_path / "runs")
    done = ridgepole("export", "latest", "--to", "csv")
    assert done.returncode == 2
    assert "has logged nothing yet" in done.stderr


def test_a_missing_package_is_named_with_the_way_to_get_it(run, tmp_path, fresh_ridgepole):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    names = ["polars", "numpy", "tensorboard", "wandb"]
    (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules |= dict.fromkeys({names})\n")
    for to, extra in (("parquet", "plots"), ("tensorboard", "tensorboard"), ("wandb", "wandb")):
        done = fresh_ridgepole("export", "latest", "--to", to, PYTHONPATH=str(hidden))
        assert done.returncode == 1, done.stderr
        assert install_command(extra) in done.stderr
        assert not (run / "export" / to).exists()
    done = fresh_ridgepole("export", "latest", "--to", "csv", PYTHONPATH=str(hidden))
    assert done.returncode == 0, done.stderr
    assert (run / "export/csv/metrics.csv").read_text().startswith("step,time,loss,validation/accuracy\n")


def test_a_plugin_adds_a_target(run, tmp_path, ridgepole):
    plugin = tmp_path / "site"
    (plugin / "plug-1.0.dist-info").mkdir(parents=True)
    (plugin / "plug-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (plugin / "plug-1.0.dist-info" / "entry_points.txt").write_text(
        "[ridgepole.exporters]\nsteps = plug:to_steps\ncsv = plug:to_steps\n"
    )
    (plugin / "plug.py").write_text(
        "from ridgepole.export import Exported\nfrom ridgepole.metrics import read_metrics\n\n\n"
        "def to_steps(run, path):\n"
        "    steps = read_metrics(run.path)['step'].to_list()\n"
        "    (path / 'steps.txt').write_text(' '.join(map(str, steps)))\n"
        "    return Exported(to='steps', path=path, records=len(steps))\n"
    )
    done = ridgepole("export", "latest", "--to", "steps", PYTHONPATH=str(plugin))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"exported 6 records of {run.name} to ")
    assert (run / "export/steps/steps.txt").read_text() == "0 0 1 1 2 2"
    assert ridgepole("export", "latest", "--to", "csv", PYTHONPATH=str(plugin)).returncode == 0
    assert (run / "export/csv/metrics.csv").exists(), "a plug-in must not replace a built-in target"


def test_damage_is_said(run, ridgepole):
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    done = ridgepole("export", "latest", "--to", "csv")
    assert done.returncode == 0
    assert "passed over 1 line that could not be read" in done.stderr


def test_a_run_that_goes_on(tmp_path, ridgepole):
    results = []

    @process
    def midway(logger: BaseLoggerManager):
        logger.log_metrics({"loss": 1.0})
        results.append(ridgepole("export", "latest", "--to", "csv"))
        logger.log_metrics({"loss": 0.5})

    Pipeline("going", progress=False, seed=1).process("midway", midway).run(tmp_path / "runs")
    (done,) = results
    assert done.returncode == 0, done.stderr
    assert "still running" in done.stderr
    assert "exported 1 value" in done.stdout
