"""Executors of installed plugins, found by their entry point."""

import sys

import pytest

from ridgepole.cli import build_parser
from ridgepole.errors import ConfigError, SweepError
from ridgepole.sweeps import run_sweep

PLUGIN = """
from ridgepole.sweeps.executors.inline import InlineExecutor

class NotingExecutor(InlineExecutor):
    submitted = []

    @classmethod
    def validate(cls, options):
        cls.submitted.append(("validate", options.place))

    def submit(self, spec):
        self.submitted.append(spec.number)
        super().submit(spec)
"""


def config(executor: str) -> dict:
    parameters = {"x": {"values": [1, 2]}}
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": parameters, "ridgepole": {"executor": executor}}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package with two entry points, one of which leads nowhere."""
    site = tmp_path / "site"
    info = site / "noting-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "noting.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1.0\n")
    entries = "noting = noting:NotingExecutor\nbroken = noting:Missing\n"
    (info / "entry_points.txt").write_text(f"[ridgepole.executors]\n{entries}")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("noting", None)


def test_sweep_with_plugin_executor_runs_its_trials_there(plugin, tmp_path):
    result = run_sweep(lambda trial: trial.params["x"], config("noting"), root=tmp_path / "runs", progress=False)
    assert sys.modules["noting"].NotingExecutor.submitted == [("validate", "noting"), 0, 1]
    assert [trial.value for trial in result.trials] == [1, 2]


def test_sweep_with_plugin_that_lacks_its_class_says_where_it_was_looked_for(plugin, tmp_path):
    with pytest.raises(SweepError, match="the executor 'broken' can't be imported from noting:Missing"):
        run_sweep(lambda: 1.0, config("broken"), root=tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists(), "nothing was made"


def test_sweep_file_with_unknown_executor_lists_plugins_too(plugin):
    with pytest.raises(ConfigError, match="'inline', 'noting', 'process', 'ray', 'slurm', 'wandb'"):
        run_sweep(lambda: 1.0, config("dask"), progress=False)


def test_argument_with_unknown_executor_suggests_the_nearest(tmp_path):
    with pytest.raises(SweepError, match="unknown executor 'proces'; did you mean 'process'"):
        run_sweep(lambda: 1.0, config("inline"), executor="proces", root=tmp_path / "runs", progress=False)


def test_command_line_takes_a_plugin_executor_and_lists_it_for_an_unknown_one(plugin, capsys):
    parser = build_parser()
    assert parser.parse_args(["sweep", "start", "s.toml", "--executor", "noting"]).executor == "noting"
    with pytest.raises(SystemExit):
        parser.parse_args(["sweep", "resume", "--executor", "moon"])
    assert "unknown executor 'moon'; available are broken, inline, noting, process" in capsys.readouterr().err
