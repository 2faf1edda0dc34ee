"""The part of the logger interface for images, tables, histograms, texts and hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ridgepole.loggers.figures.annotations import drawn
from ridgepole.loggers.figures.names import checked_name
from ridgepole.loggers.media.validate import Notes, binned, plain_metrics, plain_params, plain_table
from ridgepole.loggers.media.validate_files import artifact_file, audio_file, html_file, video_file
from ridgepole.loggers.media.validate_image import annotated_images
from ridgepole.loggers.media_types import AnnotatedImage, Histogram, MediaFile, RenderedFigure, Table
from ridgepole.metrics.convert import Scalar, safe_text
from ridgepole.metrics.steps import checked_step


class MediaLoggingMixin:
    """Public methods that check their arguments and bring them into one form, each with a hook.

    A backend overrides the hooks (`_log_image` and so on) of the media that it can show. A
    `LoggerGroup` converts once and gives the same object to the hook of every member.
    """

    @property
    def last_step(self) -> int:
        """The step that media without an explicit one belong to."""
        raise NotImplementedError

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log a figure that is drawn already."""
        raise NotImplementedError

    def log_image(
        self,
        name: str,
        image: Any,
        *,
        masks: Mapping[str, Any] | None = None,
        boxes: Mapping[str, Any] | None = None,
        range: tuple[float, float] | None = None,  # noqa: A002 - the word that users expect
        grid: bool | int | None = None,
        step: int | None = None,
    ) -> None:
        """Log an image with its masks and boxes.

        Args:
            name: Any text; names are data and never paths.
            image: A PIL image, or an array or tensor of shape (height, width), (height, width,
                channels) or (channels, height, width) with 1, 3 or 4 channels. Channels are last
                if the last axis has 1, 3 or 4 entries, else first. Integers from 0 to 255 or
                floats from 0 to 1, and 0.01 beyond; other values are stretched from the smallest to
                the largest. Transparent pixels are laid on white. Or a batch or a list of these.
            masks: Name of a layer, such as `"prediction"`, to a class for each pixel: an array of
                integers of shape (height, width), a `Mask`, or
                `{"labels": array, "names": {1: "cat"}}`. Class 0 stays uncoloured. Classes that are
                not between 0 and 65535 get a free number, and their own as name.
            boxes: Name of a layer to its boxes: a list of `Box` or of mappings (`corners`, and
                optionally `label`, `name`, `score`), an array of shape (n, 4), or the
                `{"boxes": …, "labels": …, "scores": …}` of torchvision's detectors. Corners are
                left, top, right, bottom in pixels.
            range: The values that are black and white; others are clipped. By default as above.
            grid: Whether several images become one, in rows; or the number of columns. By default a
                batch, an array of four dimensions, does, and a list is logged image by image.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If an argument is of an unsupported type; the message names it.
            ValueError: If an argument has an impossible shape or value; nothing is logged.
            MissingExtraError: If numpy or Pillow is not installed.
        """
        name, at = self._named("an image", name, step)
        for each in annotated_images(image, masks, boxes, span=range, grid=grid):
            self._log_image(name, each, at)

    def log_table(self, name: str, data: Any, *, columns: Sequence[str] | None = None, step: int | None = None) -> None:
        """Log a table.

        Args:
            name: Any text; names are data and never paths.
            data: A pandas or polars frame, a mapping of columns, a list of mappings, a list of
                rows, or an array of two dimensions. Values are None, bools, numbers, text and
                images. Any other value becomes text, and its type is noted. The index of a pandas
                frame becomes columns.
            columns: Names of the columns of a list of rows or an array; for the other forms,
                the columns to keep.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If the data is of an unsupported type.
            ValueError: If columns or rows differ in length, or two columns have the same name;
                nothing is logged.
        """
        name, at = self._named("a table", name, step)
        notes: Notes = []
        self._log_table(name, plain_table(data, columns, notes), at)
        self._say_as_text(notes, "log_table")

    def log_histogram(self, name: str, values: Any, *, bins: int = 64, step: int | None = None) -> None:
        """Log the distribution of values.

        Args:
            name: Any text.
            values: An array, tensor or sequence of real numbers, of any shape, or a sequence of
                these. NaN and infinities are counted apart, also if there is nothing else. Other
                arrays are logged as text.
            bins: Number of bins of equal width between the smallest and the largest value.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If the values are not an array or a sequence.
            ValueError: If `bins` is not between 1 and 4096; nothing is logged.
            MissingExtraError: If numpy is not installed.
        """
        name, at = self._named("a histogram", name, step)
        found = binned(values, bins)
        if isinstance(found, Histogram):
            self._log_histogram(name, found, at)
        else:
            self._log_text(name, str(found), at)
            self._say_as_text([(name, found.kind)], "log_histogram")

    def log_text(self, name: str, text: str, *, step: int | None = None) -> None:
        """Log a text, such as a sample that a model wrote; some backends show it as Markdown.

        Args:
            name: Any text.
            text: The text.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is not a string.
        """
        name, at = self._named("a text", name, step)
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, not {type(text).__name__}")
        safe = safe_text(str.__str__(text))
        self._log_text(name, safe, at)
        if safe != text:
            self._say_as_text([(name, "text with a lone surrogate")], "log_text")

    def log_hparams(
        self, params: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, *, step: int | None = None
    ) -> None:
        """Log a run's hyperparameters and results, by which runs are compared.

        A second call adds to the first; the later value of a name counts.

        Args:
            params: Names to values, nested if you like (joined with `/`): a mapping, a namespace, a
                data class or another configuration object. Numbers, bools, text and None stay as
                they are, sequences and arrays become JSON text, other values their text.
            metrics: Names to the numbers that the run is compared by; other values are left out,
                with a warning.
            step: The step of `metrics` in a backend that keeps them by step; by default that of
                the latest metrics.

        Raises:
            TypeError: If they are not such objects.
            ValueError: If a name is empty, or two names are the same once joined.
        """
        at = self._at(step)
        notes: Notes = []
        left_out: Notes = []
        plain = plain_params(params, notes), plain_metrics({} if metrics is None else metrics, left_out)
        self._log_hparams(*plain, at)
        self._say_as_text(notes, "log_hparams")
        for name, kind in left_out:
            self._say_once(f"log_hparams {name} {kind}", "log_hparams: %r is a %s and is left out", name, kind)

    def _say_once(self, saying: str, message: str, *args: object) -> None:
        """Warn, unless the saying was said before."""
        raise NotImplementedError

    def _say_as_text(self, notes: Iterable[tuple[str, str]], call: str) -> None:
        """Warn once of each type whose values a call stores as text."""
        for name, kind in notes:
            text = "%s: %r is a %s; such values are stored as text (said once)"
            self._say_once(f"{call} {kind}", text, call, name, kind)

    def log_audio(self, name: str, audio: Any, *, sample_rate: int | None = None, step: int | None = None) -> None:
        """Log a sound.

        Args:
            name: Any text; names are data and never paths.
            audio: The path of a sound file, which is kept unchanged; or an array or tensor of shape
                (samples,) or (samples, channels), of floats from -1 to 1 or 16-bit integers. It is
                stored with 16 bits; louder samples are clipped, and NaN is silence.
            sample_rate: Samples per second of an array.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is of an unsupported type.
            ValueError: If the shape is not that of a sound, or the sample rate is missing.
            FileNotFoundError: If there is no such file.
        """
        name, at = self._named("a sound", name, step)
        self._log_media_file(name, audio_file(audio, sample_rate), at)

    def log_video(self, name: str, video: Any, *, fps: float = 4.0, step: int | None = None) -> None:
        """Log a video.

        Args:
            name: Any text; names are data and never paths.
            video: The path of a video file, which is kept unchanged; or an array or tensor of shape
                (frames, height, width), or that with 1 or 3 channels, of floats from 0 to 1 or
                integers from 0 to 255. It becomes an animated GIF, of 256 colours a frame.
            fps: Frames per second of an array.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is of an unsupported type.
            ValueError: If the shape is not that of a video.
            FileNotFoundError: If there is no such file.
            MissingExtraError: If Pillow is not installed.
        """
        name, at = self._named("a video", name, step)
        self._log_media_file(name, video_file(video, fps), at)

    def log_html(self, name: str, html: Any, *, step: int | None = None) -> None:
        """Log a page: HTML as text, or the `Path` of an HTML file.

        Args:
            name: Any text; names are data and never paths.
            html: The text or the path.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is neither text nor a path.
            FileNotFoundError: If there is no such file.
        """
        name, at = self._named("a page", name, step)
        self._log_media_file(name, html_file(html), at)

    def log_artifact(self, path: Any, *, name: str | None = None, link: bool = False, step: int | None = None) -> None:
        """Keep a file in the run, such as an exported model, with its SHA-256.

        Args:
            path: The file; it may have any content and size.
            name: A name for it; by default the file's.
            link: Whether to keep a hard link where the filesystem allows, instead of a copy. Only
                for a file that is never changed in place: the link would change with it.
            step: The step that it belongs to; by default that of the latest metrics.

        Raises:
            TypeError: If it is not a path.
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a regular file.
        """
        file = artifact_file(path, link=link)
        assert file.source is not None
        name, at = self._named("an artifact", file.source.name if name is None else name, step)
        self._log_media_file(name, file, at)

    def _at(self, step: int | None) -> int:
        """Return the step of a figure or another medium: the explicit one, else `last_step`."""
        at = checked_step(step)
        return self.last_step if at is None else at

    def _named(self, kind: str, name: object, step: int | None) -> tuple[str, int]:
        return checked_name(name, kind), self._at(step)

    def _named_figure(self, name: object, rendered: object, step: int | None) -> tuple[str, int]:
        if not isinstance(rendered, RenderedFigure):
            raise TypeError(f"rendered must be a RenderedFigure, not {type(rendered).__name__}; use log_figure")
        return self._named("a figure", name, step)

    # -- hooks -------------------------------------------------------------------------------------

    def _log_image(self, name: str, image: AnnotatedImage, step: int) -> None:
        """Log an image; by default as a figure, with masks and boxes drawn in."""
        self.log_rendered(name, drawn(image), step=step)

    def _log_table(self, name: str, table: Table, step: int) -> None:
        """Log a table; by default leave it out."""

    def _log_histogram(self, name: str, histogram: Histogram, step: int) -> None:
        """Log a histogram; by default leave it out."""

    def _log_text(self, name: str, text: str, step: int) -> None:
        """Log a text; by default leave it out."""

    def _log_hparams(self, params: dict[str, Scalar | None], metrics: dict[str, float], step: int) -> None:
        """Log hyperparameters under flat names; by default leave them out."""

    def _log_media_file(self, name: str, file: MediaFile, step: int) -> None:
        """Log a sound, video, page or artifact; by default leave it out."""
