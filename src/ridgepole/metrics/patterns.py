"""The ready-made patterns: metrics in lower case make records, the patterns themselves stand in upper case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ridgepole.metrics.record import MetricPattern, MetricRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH_LOSS = MetricPattern("batch_loss", "train/batch_loss", "train", "train")
EPOCH_LOSS = MetricPattern("epoch_loss", "train/epoch_loss", "train", "train")
VALIDATION_LOSS = MetricPattern("validation_loss", "validation/loss", "validation", "validation", "reuse_last")
TEST_LOSS = MetricPattern("test_loss", "test/loss", "test", "test", "reuse_last")
TRAIN_ACCURACY = MetricPattern("train_accuracy", "train/accuracy", "train", "train")
VALIDATION_ACCURACY = MetricPattern(
    "validation_accuracy", "validation/accuracy", "validation", "validation", "reuse_last"
)
TEST_ACCURACY = MetricPattern("test_accuracy", "test/accuracy", "test", "test", "reuse_last")


class RecordMaker(Protocol):
    """Makes a record of one ready-made pattern."""

    def __call__(self, value: Any, *, step: int | None = None) -> MetricRecord:
        """Makes the record; see `MetricPattern.__call__`."""
        ...


def _maker(pattern: MetricPattern) -> RecordMaker:
    def make(value: Any, *, step: int | None = None) -> MetricRecord:
        return pattern(value, step=step)

    make.__name__ = make.__qualname__ = pattern.name
    make.__doc__ = f"A record of `{pattern.metric}` (step policy: {pattern.step_policy})."
    # A test module that imports `test_loss` must not have it collected as a test; pytest heeds this on functions only.
    make.__test__ = False  # type: ignore[attr-defined]
    return make


batch_loss = _maker(BATCH_LOSS)
epoch_loss = _maker(EPOCH_LOSS)
validation_loss = _maker(VALIDATION_LOSS)
test_loss = _maker(TEST_LOSS)
train_accuracy = _maker(TRAIN_ACCURACY)
validation_accuracy = _maker(VALIDATION_ACCURACY)
test_accuracy = _maker(TEST_ACCURACY)


@dataclass(frozen=True, slots=True)
class CurveFigurePattern:
    """A line figure of metrics over steps, rebuilt from the history of a run.

    Attributes:
        name: Name under which the figure is logged.
        metrics: Names of metrics, or shell patterns of names (`"*loss"`); each that exists becomes a line.
        title: Title of the figure.
        y_label: Label of the vertical axis.
    """

    name: str
    metrics: tuple[str, ...]
    title: str = ""
    y_label: str = ""

    def build(self, history: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
        """Draws the curves.

        Args:
            history: Steps and values of each metric.

        Returns:
            A matplotlib figure that pyplot knows nothing of.

        Raises:
            MissingExtraError: If matplotlib is not installed.
        """
        from ridgepole.metrics.curves import build_curve_figure

        return build_curve_figure(history, title=self.title or self.name, y_label=self.y_label)


@dataclass(frozen=True, slots=True)
class ConfusionMatrixFigurePattern:
    """A confusion matrix under a fixed name and with fixed labels.

    Attributes:
        name: Name under which the figure is logged.
        labels: The classes in the order of the axes; None takes those that occur.
        normalize: `"true"` divides each row by its sum, `"pred"` each column, `"all"` everything, None counts.
        title: Title of the figure.
        display_labels: What stands at the axes instead of the labels, one for each.
    """

    name: str = "confusion_matrix"
    labels: tuple[Any, ...] | None = None
    normalize: Literal["true", "pred", "all"] | None = None
    title: str = "Confusion matrix"
    display_labels: tuple[str, ...] | None = None

    def build(self, targets: Any, predictions: Any) -> Figure:
        """Counts and draws; see `build_confusion_matrix_figure`."""
        from ridgepole.metrics.confusion import build_confusion_matrix_figure

        return build_confusion_matrix_figure(
            targets,
            predictions,
            labels=self.labels,
            normalize=self.normalize,
            title=self.title,
            display_labels=self.display_labels,
        )


LOSS_CURVE = CurveFigurePattern("loss_curve", ("*loss",), "Loss", "loss")
ACCURACY_CURVE = CurveFigurePattern("accuracy_curve", ("*accuracy", "*acc"), "Accuracy", "accuracy")
BINARY_CONFUSION_MATRIX = ConfusionMatrixFigurePattern(
    "confusion_matrix", labels=(0, 1), display_labels=("negative", "positive")
)
