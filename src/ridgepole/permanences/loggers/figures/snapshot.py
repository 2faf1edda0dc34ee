"""A figure as it is at one moment, in a form that can wait or travel."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
from dataclasses import dataclass, replace
from typing import Any

from ridgepole.permanences.loggers.figures.render import Rendered, as_array, is_instance, matplotlib_figure, prepare

LIGHT_PIXELS = 1 << 14


@dataclass(frozen=True, slots=True)
class Settings:
    """What drawing depends on besides the figure.

    Attributes:
        values: matplotlib's settings.
        fonts: How many fonts matplotlib knows.
    """

    values: dict[str, Any]
    fonts: int

    @classmethod
    def now(cls) -> Settings:
        """The settings as they are; none where nobody has imported matplotlib, and so there is no figure of it."""
        loaded = sys.modules.get("matplotlib.font_manager")
        if loaded is None:
            return cls({}, 0)
        return cls(_settings(), len(loaded.fontManager.ttflist))

    def is_current(self) -> bool:
        """Whether nothing has changed since."""
        loaded = sys.modules.get("matplotlib.font_manager")
        if loaded is None or not self.fonts:
            return loaded is None and not self.fonts
        # Past the own methods of RcParams, which take twenty times as long: this is asked at every figure.
        same: bool = dict.__eq__(sys.modules["matplotlib"].rcParams, self.values)
        return same and len(loaded.fontManager.ttflist) == self.fonts

    def portable(self) -> dict[str, Any]:
        """The values without the backend, which is nobody's but this process's."""
        return {name: value for name, value in self.values.items() if name != "backend"}

    def pickled(self) -> bytes:
        """What a render process is told of them, and of where modules are found."""
        fonts = sys.modules["matplotlib.font_manager"].fontManager.ttflist[: self.fonts] if self.fonts else []
        path = [place or os.getcwd() for place in sys.path]  # noqa: PTH109 - text, as all of the path
        return pickle.dumps({"path": path, "settings": self.portable(), "fonts": fonts})


def _settings() -> dict[str, Any]:
    values: dict[str, Any] = sys.modules["matplotlib"].rcParams
    return dict.copy(values)


def snapshot(figure: Any) -> bytes | None:
    """A figure as it is now, for another process or for later.

    Args:
        figure: What `prepare` takes.

    Returns:
        A pickle; None for what has no such form (a formatter that is a lambda, an artist of a local class).
    """
    whole = matplotlib_figure(figure)
    if whole is None and is_instance(figure, "plotly.basedatatypes", "BaseFigure"):
        return None  # drawn by a browser of its own, or not at all
    if whole is None and not is_instance(figure, "PIL.Image", "Image"):
        whole = as_array(figure, "a figure")
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = copyreg.dispatch_table | {type(whole): _reduce} if matplotlib_figure(whole) else {}
    try:
        pickler.dump(figure if whole is None else whole)
    except Exception:  # noqa: BLE001 - whatever a user's object may raise
        return None
    return buffer.getvalue()


def _reduce(figure: Any) -> Any:
    """A figure's reduction without the wish to be shown by pyplot again, which would import and fill that."""
    reduced = figure.__reduce_ex__(2)
    reduced[2].pop("_restore_to_pylab", None)
    return reduced


def drawn_from(data: bytes, settings: Settings, source: Any) -> Rendered:
    """Draws a snapshot in this process, with the settings of its time; raises whatever the drawing raises."""
    figure = pickle.loads(data)  # noqa: S301 - made by `snapshot`, and never out of this process's memory
    if settings.is_current():
        return replace(prepare(figure)(), source=source)
    with sys.modules["matplotlib"].rc_context(settings.portable()):
        return replace(prepare(figure)(), source=source)


def is_light(figure: Any) -> bool:
    """Whether a figure is drawn about as soon as it is sent elsewhere: a small array or image."""
    size = getattr(figure, "size", None)
    if is_instance(figure, "PIL.Image", "Image"):
        size = figure.width * figure.height
    elif callable(size):  # a tensor
        size = figure.numel()
    return isinstance(size, int) and size < LIGHT_PIXELS
