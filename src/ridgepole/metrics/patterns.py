"""The ready-made patterns in upper case, and functions of the same name that make records."""

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
    """A function that makes records of one pattern."""

    def __call__(self, value: Any, *, step: int | None = None) -> MetricRecord:
        """Make a record; see `MetricPattern.__call__`."""
        ...


def _maker(pattern: MetricPattern) -> RecordMaker:
    def make(value: Any, *, step: int | None = None) -> MetricRecord:
        return pattern(value, step=step)

    make.__name__ = make.__qualname__ = pattern.name
    make.__doc__ = f"Make a record of `{pattern.metric}` (step policy: {pattern.step_policy})."
    # pytest must not collect an imported `test_loss` as a test; it heeds this on functions only.
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
    """A line figure of metrics over steps, built from the history of a run.

    Attributes:
        name: Name of the logged figure.
        metrics: Names of metrics, or shell patterns of names (`"*loss"`); each match is a line.
        title: Title of the figure.
        y_label: Label of the vertical axis.
    """

    name: str
    metrics: tuple[str, ...]
    title: str = ""
    y_label: str = ""

    def build(self, history: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
        """Draw the curves from the steps and values of each metric; see `build_curve_figure`."""
        from ridgepole.metrics.curves import build_curve_figure

        return build_curve_figure(history, title=self.title or self.name, y_label=self.y_label)


@dataclass(frozen=True, slots=True)
class ConfusionMatrixFigurePattern:
    """A confusion matrix under a fixed name and with fixed labels.

    Attributes:
        name: Name of the logged figure.
        labels: The classes in the order of the axes; None takes the ones in the data.
        normalize: `"true"` divides each row by its sum, `"pred"` each column, `"all"` everything;
            None shows counts.
        title: Title of the figure.
        display_labels: Text for the axes instead of the labels, one for each.
        ignore_index: Leave out the pairs whose true label is this one.
    """

    name: str = "confusion_matrix"
    labels: tuple[Any, ...] | None = None
    normalize: Literal["true", "pred", "all"] | None = None
    title: str = "Confusion matrix"
    display_labels: tuple[str, ...] | None = None
    ignore_index: int | None = None

    def build(self, targets: Any, predictions: Any) -> Figure:
        """Count and draw; see `build_confusion_matrix_figure`."""
        from ridgepole.metrics.confusion import build_confusion_matrix_figure

        return build_confusion_matrix_figure(
            targets,
            predictions,
            labels=self.labels,
            normalize=self.normalize,
            title=self.title,
            display_labels=self.display_labels,
            ignore_index=self.ignore_index,
        )


LOSS_CURVE = CurveFigurePattern("loss_curve", ("*loss",), "Loss", "loss")
ACCURACY_CURVE = CurveFigurePattern("accuracy_curve", ("*accuracy", "*acc"), "Accuracy", "accuracy")
BINARY_CONFUSION_MATRIX = ConfusionMatrixFigurePattern(
    "confusion_matrix", labels=(0, 1), display_labels=("negative", "positive")
)
