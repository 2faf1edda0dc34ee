"""The pictures of a report as PNG files, drawn by matplotlib without pyplot or a display."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ridgepole.sweeps.report.drawing import draw_history, draw_importances, draw_parallel, draw_slices
from ridgepole.sweeps.report.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[View], Figure]] = {
    "history.png": draw_history,
    "parallel.png": draw_parallel,
    "importances.png": draw_importances,
    "slices.png": draw_slices,
}


def render_pictures(view: View) -> dict[str, bytes]:
    """The pictures by file name."""
    with _look():
        return {name: _png(draw(view)) for name, draw in PICTURES.items()}


@contextmanager
def _look() -> Iterator[None]:
    """The looks of all pictures; those of the user's own figures stay what they are."""
    import matplotlib as mpl

    look: dict[Any, Any] = {
        "axes.axisbelow": True,
        "axes.edgecolor": "#62626b",
        "axes.grid": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "font.size": 10,
        "legend.frameon": False,
        "text.parse_math": False,  # a name may have a dollar in it
        "text.usetex": False,
        "xtick.color": "#62626b",
        "ytick.color": "#62626b",
    }
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        fonts = {key: mpl.rcParams[key] for key in ("font.family", "font.sans-serif")}  # which may have more letters
        mpl.rcdefaults()
        mpl.rcParams.update(look | fonts)
        yield


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
