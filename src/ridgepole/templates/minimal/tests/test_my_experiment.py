"""The experiment learns, in one run of the real thing."""

from pathlib import Path

import pytest
from ridgepole import Pipeline

FILE = Path(__file__).parent.parent / "my_experiment.toml"


def test_the_file_is_right() -> None:
    """Nothing is misspelt, nothing is missing."""
    assert Pipeline.from_toml(FILE).check() == []


def test_the_line_is_found(tmp_path: Path) -> None:
    """The whole pipeline ends near y = 3x - 1."""
    result = Pipeline.from_toml(FILE).run(tmp_path)

    assert result.metrics["slope"]["last"] == pytest.approx(3, abs=0.2)
    assert result.metrics["offset"]["last"] == pytest.approx(-1, abs=0.2)
