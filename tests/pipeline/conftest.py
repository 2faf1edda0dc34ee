"""What tests of whole runs share: a quick way to start the command line in processes of their own."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one that are no tests

from fork_server import ForkServer
from steps_project import Place, store

CORE = (
    "ridgepole.cli.run",
    "ridgepole.cli.resume",
    "ridgepole.permanences.loggers.basic",
    "ridgepole.permanences.progress",
    "ridgepole.checkpoint.store",
    "pydantic",
    "numpy",
)
TORCH = (
    "torch",
    "torch.utils.data",
    "torch._dynamo",  # the first optimiser imports it
    "sklearn.datasets",
    "sklearn.model_selection",
    "ridgepole.loading.loader",
    "ridgepole.metrics.confusion",
    "matplotlib.backends.backend_agg",
    "polars",
    "seaborn",
)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Forks `ridgepole` commands; see `fork_server.py`."""
    made = ForkServer(tmp_path_factory.mktemp("server"), *CORE)
    yield made
    made.close()


@pytest.fixture(scope="session")
def torch_server(tmp_path_factory):
    """The same for runs that need torch and scikit-learn, whose imports take seconds."""
    made = ForkServer(tmp_path_factory.mktemp("server"), *CORE, *TORCH)
    yield made
    made.close()


@pytest.fixture(scope="session")
def keep_copy(tmp_path_factory):
    """Makes something once and puts it back in its place, as it was, each time it is asked for."""
    kept = {}

    def again(key, make):
        if key not in kept:
            place = tmp_path_factory.mktemp("kept")
            made = make(place)
            copy = tmp_path_factory.mktemp("copy") / "of"
            shutil.copytree(place, copy, symlinks=True)
            kept[key] = place, copy, made
        place, copy, made = kept[key]
        shutil.rmtree(place)
        shutil.copytree(copy, place, symlinks=True)
        return place, made

    return again


@pytest.fixture
def here(server, tmp_path):
    return Place(server, tmp_path)


@pytest.fixture
def place(server, keep_copy):
    """The place of a run that was killed after five steps; its newest checkpoint is that after four."""
    path, steps = keep_copy(
        "killed after five", lambda path: [i.step for i in store(Place(server, path).kill()).list()]
    )
    assert steps == [0, 0, 2, 4]
    return Place(server, path)


@pytest.fixture
def killed(place):
    return place.run
