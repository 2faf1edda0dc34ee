"""What tests of whole runs share: a quick way to start the command line in processes of their own."""

import shutil
import time

import pytest
from steps_project import Place, store


def remove(folder):
    """Removes a folder to which the helper of a killed run may still add its alert."""
    until = time.monotonic() + 60
    while True:
        try:
            return shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


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
        remove(place)
        shutil.copytree(copy, place, symlinks=True)
        return place, made

    return again


@pytest.fixture
def here(command_server, tmp_path):
    return Place(command_server, tmp_path)


@pytest.fixture
def place(command_server, keep_copy):
    """The place of a run that was killed after five steps; its newest checkpoint is that after four."""
    path, steps = keep_copy(
        "killed after five", lambda path: [i.step for i in store(Place(command_server, path).kill()).list()]
    )
    assert steps == [0, 0, 2, 4]
    return Place(command_server, path)


@pytest.fixture
def killed(place):
    return place.run
