"""A copy of a figure at one moment, for later or for another process."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
from dataclasses import dataclass, replace
from typing import Any

from ridgepole.loggers.figures.render import as_array, is_instance, matplotlib_figure, prepare
from ridgepole.loggers.media_types import RenderedFigure

LIGHT_PIXELS = 1 << 14


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """matplotlib's settings, which a drawing depends on."""

    values: dict[str, Any]
    fonts: int

    @classmethod
    def now(cls) -> RenderSettings:
        """Return the current settings; empty if matplotlib is not imported."""
        loaded = sys.modules.get("matplotlib.font_manager")
        if loaded is None:
            return cls({}, 0)
        return cls(_settings(), len(loaded.fontManager.ttflist))

    def is_current(self) -> bool:
        """Tell whether nothing has changed since."""
        loaded = sys.modules.get("matplotlib.font_manager")
        if loaded is None or not self.fonts:
            return loaded is None and not self.fonts
        # Not the methods of RcParams, which take twenty times as long: this runs for every figure.
        same: bool = dict.__eq__(sys.modules["matplotlib"].rcParams, self.values)
        return same and len(loaded.fontManager.ttflist) == self.fonts

    def portable(self) -> dict[str, Any]:
        """Return the values without the backend, which only matters in this process."""
        return {name: value for name, value in self.values.items() if name != "backend"}

    def pickled(self) -> bytes:
        """Return the settings, the fonts and the import path for a render process."""
        fonts = sys.modules["matplotlib.font_manager"].fontManager.ttflist[: self.fonts] if self.fonts else []
        path = [place or os.getcwd() for place in sys.path]  # noqa: PTH109 - text, as all of the path
        return pickle.dumps({"path": path, "settings": self.portable(), "fonts": fonts})


def _settings() -> dict[str, Any]:
    values: dict[str, Any] = sys.modules["matplotlib"].rcParams
    return dict.copy(values)


def snapshot(figure: Any) -> bytes | None:
    """Pickle a figure that `prepare` accepts; return None if it can't be pickled.

    Examples are a formatter that is a lambda, or an artist of a local class.
    """
    whole = matplotlib_figure(figure)
    if whole is None and is_instance(figure, "plotly.basedatatypes", "BaseFigure"):
        return None  # it needs a browser of its own
    if whole is None and not is_instance(figure, "PIL.Image", "Image"):
        whole = as_array(figure, "a figure")
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = copyreg.dispatch_table | {type(whole): _reduce} if matplotlib_figure(whole) else {}
    try:
        pickler.dump(figure if whole is None else whole)
    except Exception:  # noqa: BLE001 - any error of a user's object
        return None
    return buffer.getvalue()


def _reduce(figure: Any) -> Any:
    """Reduce a figure without its registration in pyplot, which unpickling would import."""
    reduced = figure.__reduce_ex__(2)
    reduced[2].pop("_restore_to_pylab", None)
    return reduced


def drawn_from(data: bytes, settings: RenderSettings, source: Any) -> RenderedFigure:
    """Draw a snapshot in this process, with the settings of its time; raise drawing errors."""
    figure = pickle.loads(data)  # noqa: S301 - made by `snapshot` in this process
    if settings.is_current():
        return replace(prepare(figure)(), source=source)
    with sys.modules["matplotlib"].rc_context(settings.portable()):
        return replace(prepare(figure)(), source=source)


def is_light(figure: Any) -> bool:
    """Tell whether drawing a figure costs about as much as sending it: a small array or image."""
    size = getattr(figure, "size", None)
    if is_instance(figure, "PIL.Image", "Image"):
        size = figure.width * figure.height
    elif callable(size):  # a tensor
        size = figure.numel()
    return isinstance(size, int) and size < LIGHT_PIXELS
