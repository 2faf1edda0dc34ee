"""TrackioLogger passes the contract of loggers, read back with Trackio's own reader."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ridgepole import read_metrics
from ridgepole.export import export_run
from ridgepole.loggers.local.logger import BasicLogger
from ridgepole.loggers.trackio import TrackioLogger, trackio_name
from ridgepole.testing import EVIL_NAMES, LoggerContract

if find_spec("trackio") is None:
    pytest.skip("make peers runs it where trackio is installed", allow_module_level=True)

# Trackio's own, with newer packages
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

NAMES = {trackio_name(name): name for name in EVIL_NAMES}


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory):
    """Trackio reads the place of its database once, when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        from trackio.sqlite_storage import SQLiteStorage

        yield SQLiteStorage


class TestTrackioLogger(LoggerContract):
    @pytest.fixture(autouse=True)
    def _storage(self, storage):
        self.storage = storage

    def make_logger(self, tmp_path):
        return TrackioLogger("contract")

    def read_back(self, logger, tmp_path):
        for row in self.storage.get_logs("contract", run_id=logger.get_state()["id"]):
            for name, value in row.items():
                if isinstance(value, float):
                    yield row["step"], NAMES.get(name, name), value


def test_an_export_holds_what_the_run_logged(storage, tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_hparams({"lr": 0.5, "_hidden": 1})
        for step in range(3):
            logger.log_metrics({"loss": 1.0 / (step + 1), "step": float(step)})
        logger.log_figure("pixels", np.zeros((4, 6, 3), np.uint8))
    export_run(tmp_path, "trackio")
    (name,) = storage.get_runs("ridgepole")
    ours = read_metrics(tmp_path)["step", "name", "value"].rows()
    theirs = [
        (row["step"], key.removeprefix("__"), value)
        for row in storage.get_logs("ridgepole", run=name)
        for key, value in row.items()
        if isinstance(value, float)
    ]
    (image,) = [row["pixels"] for row in storage.get_logs("ridgepole", run=name) if "pixels" in row]
    assert image["_type"] == "trackio.image"
    assert len(list(Path(os.environ["TRACKIO_DIR"]).glob(f"media/{image['file_path']}"))) == 1
    assert sorted(theirs) == sorted(ours)
    assert len(theirs) == 6
    config = storage.get_run_config("ridgepole", name)
    assert (config["lr"], config["param_hidden"]) == (0.5, 1)


def test_names_stay_apart():
    names = {*EVIL_NAMES, "step", "__step", "____step", "run", "__run"}
    assert len({trackio_name(name) for name in names}) == len(names)
