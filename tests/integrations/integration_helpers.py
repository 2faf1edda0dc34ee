"""What the tests of all frameworks use."""

from pathlib import Path

from ridgepole import read_metrics
from ridgepole.rundir import list_runs

HERE = Path(__file__).parent


def values(run):
    """What readers see of a run: step, name and value of each metric, in order."""
    return read_metrics(run)["step", "name", "value"].rows()


def newest(folder):
    return next(iter(list_runs(folder / "runs")))
