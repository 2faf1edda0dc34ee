"""MLflowLogger passes the contract of loggers, read back with MLflow's own client."""

from math import inf

import pytest

from ridgepole.loggers.mlflow import MLflowLogger, mlflow_name
from ridgepole.testing import EVIL_NAMES, LoggerContract

pytest.importorskip("mlflow", reason="make peers runs it where mlflow is installed")

# MLflow's own, with a newer SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

LARGEST = 1.7976931348623157e308
NAMES = {mlflow_name(name): name for name in EVIL_NAMES}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database whose tables are made once, which takes a second."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{path}/mlflow.db"
    MlflowClient(uri).create_experiment("contract", artifact_location=str(path / "artifacts"))
    return uri


class TestMLflowLogger(LoggerContract):
    @pytest.fixture(autouse=True)
    def _database(self, database):
        self.uri = database

    def make_logger(self, tmp_path):
        return MLflowLogger("contract", self.uri)

    def read_back(self, logger, tmp_path):
        from mlflow.tracking import MlflowClient

        client, run_id = MlflowClient(self.uri), logger.get_state()["id"]
        for name in client.get_run(run_id).data.metrics:
            for each in client.get_metric_history(run_id, name):
                value = {LARGEST: inf, -LARGEST: -inf}.get(each.value, each.value)
                yield each.step, NAMES.get(name, name), value


def test_names_stay_apart():
    assert len(NAMES) == len(EVIL_NAMES)
    assert all(len(name) <= 250 for name in NAMES)
