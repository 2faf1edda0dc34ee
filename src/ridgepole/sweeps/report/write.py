"""Write the report of a sweep."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole.errors import MissingExtraError, SweepError
from ridgepole.files import write_atomically
from ridgepole.sweeps.report.answers import HeldSweep
from ridgepole.sweeps.report.drawing import draw_history, draw_importances, draw_parallel, draw_slices
from ridgepole.sweeps.report.view import QUIET, View
from ridgepole.sweeps.sweepdir import PAGE
from ridgepole.view.extra import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ridgepole.sweeps.result import SweepResult

_PICTURES: dict[str, Callable[[View], Figure]] = {
    "history.png": draw_history,
    "parallel.png": draw_parallel,
    "importances.png": draw_importances,
    "slices.png": draw_slices,
}


def render_page(result: SweepResult) -> bytes:
    """Return the page of a sweep and of the runs of its trials, without their pictures, as HTML."""
    need("the page of a sweep", "numpy")
    from ridgepole.view.report import render_report

    home = result.path.parents[1]
    runs = [home / trial.run for trial in result.trials if trial.run is not None]
    sweeps = HeldSweep(result)
    return render_report([run for run in runs if run.is_dir()], sweeps, opens="sweep", with_media=False)


def write_report(result: SweepResult, directory: Path, pictures: bool | None = None) -> list[Path]:
    """Write the page and the pictures of a sweep; see `SweepResult.report`."""
    has_matplotlib = importlib.util.find_spec("matplotlib") is not None
    if pictures and not has_matplotlib:
        raise MissingExtraError("matplotlib", "plots", "the pictures of a sweep")
    contents = {PAGE: render_page(result)}
    if pictures or (pictures is None and has_matplotlib):
        view = result.report_view()
        with _style():
            contents |= {name: _png(draw(view)) for name, draw in _PICTURES.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(directory / name, content)
    except OSError as error:
        message = f"can't write the report of sweep {result.id} to {directory}: {error.strerror or error}"
        raise SweepError(message) from error
    return [directory / name for name in contents]


@contextmanager
def _style() -> Iterator[None]:
    """Set the style of all pictures; that of the user's own figures does not change."""
    import matplotlib as mpl

    style: dict[Any, Any] = {
        "axes.axisbelow": True,
        "axes.edgecolor": QUIET,
        "axes.grid": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "font.size": 10,
        "legend.frameon": False,
        "text.parse_math": False,  # a name may have a dollar in it
        "text.usetex": False,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
    }
    with warnings.catch_warnings(), mpl.rc_context():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        # Which may have more letters
        fonts = {key: mpl.rcParams[key] for key in ("font.family", "font.sans-serif")}
        mpl.rcdefaults()
        mpl.rcParams.update(style | fonts)
        yield


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
