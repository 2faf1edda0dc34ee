"""MLflow as one of a run's loggers."""

from __future__ import annotations

import hashlib
import posixpath
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from ridgepole.errors import MissingExtraError, TrackerError
from ridgepole.files import read_json, write_atomically
from ridgepole.loggers.figures.names import file_stem
from ridgepole.loggers.media_types import RenderedFigure
from ridgepole.loggers.sending import SendingLogger
from ridgepole.metrics.steps import Metrics
from ridgepole.permanence import run_of

_LONGEST = 250
_FORBIDDEN = re.compile(r"[^/\w.\- ]", re.ASCII)
_RUN_ID = "mlflow.json"


def mlflow_name(name: str) -> str:
    """Return the name under which MLflow shows a metric, which may hold few characters only.

    Others become `:` and their code. A name that MLflow reads as another path, or that is longer
    than 250 characters, gets a hash.
    """
    shown = _FORBIDDEN.sub(lambda found: f":{ord(found[0]):x}:", name)
    if posixpath.normpath(shown) == shown and not shown.startswith(("/", "..")) and len(shown) <= _LONGEST:
        return shown
    kept = shown.replace("..", ":2e::2e:").replace("/", ":2f:")[: _LONGEST - 20]
    return f"{kept}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class MLflowLogger(SendingLogger):
    """MLflow logger backend: numbers, figures and parameters of a run, at a tracking server.

    A thread sends what was logged, many values in one call, so that a training loop waits for
    neither a server nor a database. Every step is kept. Texts and sequences are left out. A resumed
    run continues the same run at MLflow.

    Args:
        experiment: Name of the experiment; by default the name of the pipeline, else `Default`.
        tracking_uri: The server or database, such as `sqlite:///mlflow.db`; by default MLflow's own
            `MLFLOW_TRACKING_URI`.
        name: Name of the run; by default the run id.
        tags: Tags of the run.
        log_level: The lowest level of messages to show.
        strict: Whether a value that can't be sent is an error, instead of one warning.

    Raises:
        ValueError: If the level is invalid.
    """

    export_target = "mlflow"
    backend = "MLflow"

    def __init__(
        self,
        experiment: str | None = None,
        tracking_uri: str | None = None,
        name: str | None = None,
        tags: dict[str, str] | None = None,
        log_level: str = "INFO",
        strict: bool = False,
    ) -> None:
        super().__init__(log_level, strict)
        self.experiment, self.tracking_uri, self.name, self.tags = experiment, tracking_uri, name, dict(tags or {})
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_client": None}

    # -- lifecycle ---------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Begin the run at MLflow, or continue it.

        Raises:
            MissingExtraError: If mlflow is not installed.
            TrackerError: If the server or database can't be reached.
        """
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise MissingExtraError("mlflow-skinny", "mlflow", "MLflowLogger") from error
        try:
            self._client = MlflowClient(self.tracking_uri)
            self._id = self._earlier() or self._create()
        except MlflowException as error:
            raise TrackerError(f"MLflow: the run can't be made: {error}") from error
        self._start()

    def _create(self) -> str:
        run = run_of(self)
        pipeline = run.config.get("pipeline") if run is not None else None
        named = pipeline.get("name") if isinstance(pipeline, dict) else None
        experiment = self.experiment or named or "Default"
        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        name = self.name or (None if run is None else run.run_id)
        made: str = self._client.create_run(number, run_name=name, tags=self.tags).info.run_id
        if run is not None:
            write_atomically(run.run_dir / _RUN_ID, f'{{"run_id": "{made}"}}\n'.encode())
        return made

    def _earlier(self) -> str:
        run = run_of(self)
        if run is None or run.attempt == 1:
            return ""
        found = str(read_json(run.run_dir / _RUN_ID).get("run_id") or "")
        if found:
            self._client.update_run(found, status="RUNNING")
        return found

    def _end(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    # -- logging -----------------------------------------------------------------------------------

    def log_metrics(self, metrics: Metrics, *, step: int | None = None) -> None:
        """Log the numbers among some metrics, without waiting for MLflow.

        Arguments and errors are as in `BaseLoggerManager.log_metrics`.
        """
        self._open_if_new()
        at = int(1000 * (time.time() if self._wall_time is None else self._wall_time))
        for record in self.resolve(metrics, step):
            if isinstance(record.value, bool | int | float):
                self._put((mlflow_name(record.name), float(record.value), at, record.step))

    def log_figure(self, name: str, figure: Any, *, step: int | None = None, close: bool = True) -> None:
        """Log a figure as an artifact; arguments and errors as in `BasicLogger.log_figure`."""
        self._log_drawn_here(name, figure, step, close=close)

    def log_rendered(self, name: str, rendered: RenderedFigure, *, step: int | None = None) -> None:
        """Log the unchanged bytes of a drawn figure as an artifact."""
        name, at = self._named_figure(name, rendered, step)
        self._open_if_new()

        def send() -> None:
            with tempfile.TemporaryDirectory(prefix="ridgepole-") as folder:
                path = Path(folder) / (file_stem(name, at) + rendered.suffix)
                path.write_bytes(rendered.data)
                self._client.log_artifact(self._id, str(path), "figures")

        self._put(send)

    def _log_hparams(self, params: dict[str, Any], metrics: dict[str, float], step: int) -> None:
        from mlflow.entities import Param

        self._open_if_new()
        entries = [Param(mlflow_name(key), str(value)[:6000]) for key, value in params.items()]
        for start in range(0, len(entries), 100):
            part = entries[start : start + 100]
            self._put(lambda part=part: self._client.log_batch(self._id, params=part))
        for key, value in metrics.items():
            self._put((mlflow_name(key), float(value), int(1000 * time.time()), step))

    def _send_rows(self, rows: list[tuple[Any, ...]]) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self._id, metrics=[Metric(*row) for row in rows])
