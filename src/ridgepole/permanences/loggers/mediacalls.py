"""What a logger takes besides metrics and figures: images, tables, histograms, texts, hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ridgepole.metrics.steps import checked_step
from ridgepole.metrics.values import Scalar
from ridgepole.permanences.loggers.payloads import AnnotatedImage, Histogram, Table

if TYPE_CHECKING:
    from ridgepole.permanences.loggers.figures.render import Rendered


class MediaCalls:
    """The public methods, which check what they are given and bring it into one form; and a hook behind each.

    A backend overrides the hooks (`_log_image` and so on) of what it can show. A `LoggerGroup` brings things into
    their form once and gives the same object to the hook of every member.
    """

    if TYPE_CHECKING:

        @property
        def last_step(self) -> int: ...  # noqa: D102 - what the logger that this is mixed into has
        def log_rendered(self, name: str, rendered: Rendered, *, step: int | None = None) -> None: ...  # noqa: D102

    def log_image(
        self,
        name: str,
        image: Any,
        *,
        masks: Mapping[str, Any] | None = None,
        boxes: Mapping[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Logs an image, with what was found in it.

        Args:
            name: Any text; names are data and never paths.
            image: A PIL image, or an array or tensor of shape (height, width), (height, width, channels) or (channels,
                height, width) with 1, 3 or 4 channels; channels stand last where the last axis has 1, 3 or 4 entries,
                else first. Whole numbers from 0 to 255 or floats from 0 to 1; where a value lies outside, all are
                stretched from the smallest to the largest. What is transparent is laid on white.
            masks: Name of a layer, such as `"prediction"`, to a class for each pixel: an array of whole numbers from 0
                to 65535 of shape (height, width), a `Mask`, or `{"labels": array, "names": {1: "cat"}}`. Class 0 is
                left as it is in the picture, the others are coloured.
            boxes: Name of a layer to its boxes: a list of `Box` or of mappings (`corners`, and where wanted `label`,
                `name`, `score`), an array of shape (n, 4), or `{"boxes": …, "labels": …, "scores": …}` as torchvision's
                detectors return it. Corners are left, top, right, bottom in pixels.
            step: The step that it belongs to; that of the latest metrics where left out.

        Raises:
            TypeError: If something is of another type; it names the argument.
            ValueError: If it has a shape or a value that it can't have; nothing is logged.
            MissingExtraError: If numpy or Pillow is not installed.
        """
        from ridgepole.permanences.loggers.normalise_image import annotated_image

        name, at = self._named("an image", name, step)
        self._log_image(name, annotated_image(image, masks, boxes), at)

    def log_table(self, name: str, data: Any, *, columns: Sequence[str] | None = None, step: int | None = None) -> None:
        """Logs a table.

        Args:
            name: Any text; names are data and never paths.
            data: A pandas or polars frame, a mapping of columns, a list of mappings, a list of rows, or an array of two
                dimensions. Values are None, bools, numbers and text; times become text.
            columns: Names of the columns of a list of rows or an array; for the other forms, which columns to keep.
            step: The step that it belongs to; that of the latest metrics where left out.

        Raises:
            TypeError: If the data, or a value in it, is of another type; it names the column and the row.
            ValueError: If columns or rows differ in length, or two columns have one name; nothing is logged.
        """
        from ridgepole.permanences.loggers.normalise_table import plain_table

        name, at = self._named("a table", name, step)
        self._log_table(name, plain_table(data, columns), at)

    def log_histogram(self, name: str, values: Any, *, bins: int = 64, step: int | None = None) -> None:
        """Logs how values are distributed.

        Args:
            name: Any text.
            values: An array, tensor or sequence of real numbers, of any shape; what is not finite is counted apart.
            bins: How many bins of equal width there are between the smallest and the largest value.
            step: The step that it belongs to; that of the latest metrics where left out.

        Raises:
            TypeError: If they are no real numbers.
            ValueError: If there are none, or `bins` is not between 1 and 4096; nothing is logged.
            MissingExtraError: If numpy is not installed.
        """
        from ridgepole.permanences.loggers.normalise import binned

        name, at = self._named("a histogram", name, step)
        self._log_histogram(name, binned(values, bins), at)

    def log_text(self, name: str, text: str, *, step: int | None = None) -> None:
        """Logs a text, such as a sample of what a model wrote; backends that show Markdown show it as that.

        Args:
            name: Any text.
            text: The text.
            step: The step that it belongs to; that of the latest metrics where left out.

        Raises:
            TypeError: If it is no text, or has a lone surrogate in it.
        """
        from ridgepole.permanences.loggers.normalise import checked_text

        name, at = self._named("a text", name, step)
        self._log_text(name, checked_text(text), at)

    def log_hparams(self, params: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> None:
        """Logs what a run was made with, and what came out of it, so that runs can be compared.

        A second call adds to the first; the later value of a name counts.

        Args:
            params: Names to numbers, bools, text, None, short sequences or nested mappings (joined with `/`).
            metrics: Names to the numbers that the run is compared by.

        Raises:
            TypeError: If a value can't be logged; it names the key, and nothing is logged.
            ValueError: If two names are the same once joined.
        """
        from ridgepole.permanences.loggers.normalise import plain_metrics, plain_params

        self._log_hparams(plain_params(params), plain_metrics(metrics or {}))

    def _named(self, what: str, name: object, step: int | None) -> tuple[str, int]:
        from ridgepole.permanences.loggers.figures.names import checked_name

        name, at = checked_name(name, what), checked_step(step)
        return name, self.last_step if at is None else at

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        """Logs an image; by default as a figure, with masks and boxes drawn in."""
        from ridgepole.permanences.loggers.figures.overlay import drawn

        self.log_rendered(name, drawn(image), step=step)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        """Logs a table; a backend without tables leaves it out."""

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        """Logs a histogram; a backend without histograms leaves it out."""

    def _log_text(self, name: str, text: str, step: int) -> None:
        """Logs a text; a backend without texts leaves it out."""

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float]) -> None:
        """Logs hyperparameters, under flat names; a backend without them leaves them out."""
