"""The experiment learns, in one short run of the real thing."""

from pathlib import Path

from ridgepole import Pipeline

FILE = Path(__file__).parent.parent / "digits.toml"


def test_the_file_is_right() -> None:
    """Nothing is misspelt, nothing is missing."""
    assert Pipeline.from_toml(FILE).check() == []


def test_two_epochs_teach_most_digits(tmp_path: Path) -> None:
    """The whole pipeline, shortened: it learns and draws its pictures."""
    result = Pipeline.from_toml(FILE, ["train.epochs=2"]).run(tmp_path)

    assert result.metrics["test/accuracy"]["last"] > 0.8
    assert len(list((result.path / "figures").glob("*.png"))) == 3
