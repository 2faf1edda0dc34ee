"""The page of runs in a notebook's cell."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from ridgepole.runs.frame import load_runs
from ridgepole.view.extra import need

if TYPE_CHECKING:
    import polars as pl


class Runs:
    """Runs of a directory, which a notebook shows as the page.

    The cell holds a report, not a view of a server, which a browser could not reach on a remote
    machine. Run the cell again to see what is new.

    Args:
        root: The directory that holds runs.
        filter: An expression that runs must pass, such as `'lr > 1e-3'`.
        sort: Names of columns to sort by; `-` before a name sorts downwards.
        archived: Whether to include archived runs.
        limit: The most runs to show.
        height: The height of the cell in pixels.

    Example:
        ```python
        Runs("runs", filter='status == "finished"', sort="-val/accuracy")
        ```
    """

    def __init__(
        self,
        root: str | Path = "runs",
        *,
        filter: str | None = None,  # noqa: A002 - as in load_runs
        sort: str | None = None,
        archived: bool = False,
        limit: int = 50,
        height: int = 640,
    ) -> None:
        self._root, self._filter, self._sort, self._archived = root, filter, sort, archived
        self._limit, self._height = limit, height

    @property
    def frame(self) -> pl.DataFrame:
        """The runs as a frame; see `load_runs`."""
        found = load_runs(self._root, filter=self._filter, sort=self._sort, archived=self._archived)
        return found.head(self._limit)

    def __repr__(self) -> str:
        return f"Runs({str(self._root)!r}): {len(self.frame)} runs"

    def _repr_html_(self) -> str:
        """Return the cell: the report in a frame, or a table where there is no built page."""
        need("Runs", "numpy")
        from ridgepole.sweeps.stored import StoredSweeps
        from ridgepole.view.report import MissingPageError, render_report

        frame = self.frame
        try:
            paths = [Path(path) for path in frame["path"]]
            sweeps = StoredSweeps({path.parent for path in paths}, frame["sweep"].to_list())
            page = render_report(paths, sweeps).decode()
        except MissingPageError as error:
            return f"{frame._repr_html_()}<p>{html.escape(str(error))}</p>"
        return (
            f'<iframe sandbox="allow-scripts" title="runs" srcdoc="{html.escape(page)}" '
            f'style="width:100%;height:{self._height}px;border:0"></iframe>'
        )
