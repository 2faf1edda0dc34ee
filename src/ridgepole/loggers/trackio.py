"""Trackio as one of a run's loggers."""

from __future__ import annotations

import tempfile
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from ridgepole.errors import MissingExtraError, TrackerError
from ridgepole.files import read_json, write_atomically
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.loggers.sending import SendingLogger
from ridgepole.metrics.steps import Metrics
from ridgepole.permanence import run_of

_RESERVED = frozenset({"project", "run", "timestamp", "step", "time", "metrics"})
_RUN_ID = "trackio.json"


def trackio_name(name: str) -> str:
    """Return the name under which Trackio shows a metric: it puts `__` before those it reserves."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    return f"__{shown}" if shown in _RESERVED or shown.startswith("__") else shown


class TrackioLogger(SendingLogger):
    """Trackio logger backend: numbers, figures and parameters of a run, in its local database.

    A thread writes what was logged, many values in one call. Every step is kept, with its time.
    Texts and sequences are left out. A resumed run continues the same run.
    The database is where `TRACKIO_DIR` says; `trackio.sync` brings a project to a Space.

    Args:
        project: Name of the project; by default the name of the pipeline, else `ridgepole`.
        name: Name of the run; by default the run id.
        group: Name of a group of runs.
        log_level: The lowest level of messages to show.
        strict: Whether a value that can't be sent is an error, instead of one warning.

    Raises:
        ValueError: If the level is invalid.
    """

    export_target = "trackio"
    backend = "Trackio"

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        log_level: str = "INFO",
        strict: bool = False,
    ) -> None:
        super().__init__(log_level, strict)
        self.project, self.name, self.group = project, name, group
        self._project = self._name = ""
        self._config: dict[str, Any] = {}

    def initialize(self) -> None:
        """Begin the run in Trackio's database, or continue it.

        Raises:
            MissingExtraError: If trackio is not installed.
            TrackerError: If the project's name is not allowed, or the database can't be made.
        """
        try:
            from trackio import utils
            from trackio.sqlite_storage import SQLiteStorage
        except ImportError as error:
            raise MissingExtraError("trackio", "trackio", "TrackioLogger") from error
        run = run_of(self)
        pipeline = run.config.get("pipeline") if run is not None else None
        named = pipeline.get("name") if isinstance(pipeline, dict) else None
        self._project = self.project or named or "ridgepole"
        if utils.get_storage_mode() != "sqlite":
            raise TrackerError("Trackio: its directory is on a network filesystem: set TRACKIO_DIR to a local one")
        try:
            SQLiteStorage.validate_project_name(self._project)
            SQLiteStorage.init_db(self._project)
        except Exception as error:
            raise TrackerError(f"Trackio: the run can't be made: {error}") from error
        earlier = {} if run is None or run.attempt == 1 else read_json(run.run_dir / _RUN_ID)
        self._id = str(earlier.get("run_id") or uuid.uuid4().hex)
        if run is not None and not earlier:
            write_atomically(run.run_dir / _RUN_ID, f'{{"run_id": "{self._id}"}}\n'.encode())
        self._name = self.name or (self._id if run is None else run.run_id)
        self._config = {
            **(SQLiteStorage.get_run_config(self._project, self._name, self._id) or {}),
            "_Group": self.group,
        }
        self._config.setdefault("_Created", datetime.now(UTC).isoformat())
        self._start()

    # -- logging -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log the numbers among some metrics, without waiting for the database.

        Arguments and errors are as in `BaseLoggerManager.log_metrics`.
        """
        self._open_if_new()
        at = self._now()
        for record in self.resolve(metrics, step):
            if isinstance(record.value, bool | int | float):
                self._put((trackio_name(record.name), float(record.value), at, record.step))

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Log a figure as an image; arguments and errors as in `BasicLogger.log_figure`."""
        self._log_drawn_here(name, figure, step, close=close)

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log the unchanged bytes of a drawn figure as an image."""
        name, number = self._named_figure(name, rendered, step)
        self._open_if_new()
        at = self._now()
        self._put(lambda: self._write([({trackio_name(name): self._stored(rendered, number)}, at, number)]))

    def _log_hparams(self, params: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        self._open_if_new()
        shown = {f"param{key}" if key.startswith("_") else key: value for key, value in params.items()}
        self._put(lambda: self._keep({**self._config, **shown}, step))
        for key, value in metrics.items():
            self._put((trackio_name(key), float(value), self._now(), step))

    def _now(self) -> str:
        return datetime.fromtimestamp(time.time() if self._wall_time is None else self._wall_time, UTC).isoformat()

    # -- the thread --------------------------------------------------------------------------------

    def _keep(self, config: dict[str, Any], step: int) -> None:
        from trackio.utils import to_json_safe

        self._config = to_json_safe(config)
        self._write([({}, self._now(), step)])

    def _stored(self, rendered: RenderedFigure, step: int) -> dict[str, Any]:
        from trackio import Image

        with tempfile.NamedTemporaryFile(suffix=rendered.suffix) as file:
            file.write(rendered.data)
            file.flush()
            image = Image(file.name)
            image._save(self._project, self._name, step)  # noqa: SLF001 - what its own Run.log does
        stored: dict[str, Any] = image._to_dict()  # noqa: SLF001
        return stored

    def _send_rows(self, rows: list[tuple[Any, ...]]) -> None:
        written: list[tuple[dict[str, Any], str, int]] = []
        for name, value, at, step in rows:  # a row of Trackio's holds what was logged together
            if not written or written[-1][1:] != (at, step) or name in written[-1][0]:
                written.append(({}, at, step))
            written[-1][0][name] = value
        self._write(written)

    def _write(self, rows: list[tuple[dict[str, Any], str, int]]) -> None:
        from trackio.sqlite_storage import SQLiteStorage

        metrics, times, steps = zip(*rows, strict=True)
        SQLiteStorage.bulk_log(
            self._project, self._name, list(metrics), list(steps), list(times), self._config, run_id=self._id
        )
