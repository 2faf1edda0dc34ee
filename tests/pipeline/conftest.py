"""What tests of whole runs share: a quick way to start the command line in processes of their own."""

import importlib.util
import shutil
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("fork_server", Path(__file__).with_name("fork_server.py"))
fork_server = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fork_server)


CORE = (
    "ridgepole.cli.run",
    "ridgepole.cli.resume",
    "ridgepole.permanences.loggers.basic",
    "ridgepole.permanences.progress",
    "ridgepole.checkpoint.store",
    "pydantic",
    "numpy",
)
TORCH = ("torch", "torch.utils.data", "sklearn.datasets", "sklearn.model_selection", "ridgepole.loading.loader")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Forks `ridgepole` commands; see `fork_server.py`."""
    made = fork_server.ForkServer(tmp_path_factory.mktemp("server"), *CORE)
    yield made
    made.close()


@pytest.fixture(scope="session")
def torch_server(tmp_path_factory):
    """The same for runs that need torch and scikit-learn, whose imports take seconds."""
    made = fork_server.ForkServer(tmp_path_factory.mktemp("server"), *CORE, *TORCH)
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
