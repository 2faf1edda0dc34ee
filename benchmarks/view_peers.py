"""Measure the first list and one chart of all runs beside TensorBoard, Aim, MLflow and Trackio.

The same runs are written with each tool's own client. Ridgepole, TensorBoard and Aim are asked over HTTP, as
by their pages; MLflow and Trackio by the calls that their servers make, without a server, which
flatters them. A tool that is not installed is left out. Shown are the seconds to the first answer
with all runs, and the median of five further answers.

    python benchmarks/view_peers.py [runs] [points]
"""

import json
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
POINTS = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
METRICS = ("m0", "m1", "m2", "m3", "m4")
PORT = 6397


def value(run: int, step: int) -> float:
    return 1 / (1 + step / (run + 10))


def fetch(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=60) as answer:
        return answer.read()


@contextmanager
def server(*command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | environ,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # Aim's server is a child of its command


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            if ask():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def warm(call: Callable[[], object]) -> float:
    return statistics.median(seconds(call) for _ in range(5))


def ridgepole(folder: Path) -> tuple[float, float]:
    from ridgepole.permanences import BasicLogger

    for run in range(RUNS):
        path = folder / "runs" / f"20260101-{run:06d}-00000000"
        with BasicLogger(path, log_file=None) as logger:
            for step in range(POINTS):
                logger.log_metrics(dict.fromkeys(METRICS, value(run, step)), step=step)
        (path / "run.json").write_text(json.dumps({"status": "finished", "pipeline": "bench", "started": 1e9 + run}))
    began = time.perf_counter()
    command = (sys.executable, "-m", "ridgepole", "view", str(folder / "runs"), "--port", "0")
    with server(*command, XDG_CACHE_HOME=str(folder / "cache")) as process:
        assert process.stdout is not None
        address, token = re.search(r"(http://\S+)/\?(token=\S+)", process.stdout.readline()).groups()  # type: ignore[union-attr]
        keys = json.loads(fetch(f"{address}/api/runs?{token}"))["keys"]
        assert len(keys) == RUNS
        body = json.dumps({"metric": "m0", "runs": keys, "columns": 1000}).encode()
        headers = {"X-Ridgepole": "1", "Content-Type": "application/json", "Origin": address}

        def chart() -> bytes:
            return fetch(f"{address}/api/chart?{token}", body, headers)

        until(lambda: b'"preview"' not in chart())
        return time.perf_counter() - began, warm(chart)


def tensorboard(folder: Path) -> tuple[float, float]:
    from ridgepole.permanences import TensorBoardLogger

    for run in range(RUNS):
        with TensorBoardLogger(folder / f"run{run}") as logger:
            for step in range(POINTS):
                logger.log_metrics(dict.fromkeys(METRICS, value(run, step)), step=step)
    base = f"http://127.0.0.1:{PORT}/data/plugin/scalars"
    body = urlencode([("tag", "m0"), *(("runs", f"run{run}") for run in range(RUNS))]).encode()

    def chart() -> dict[str, list[list[float]]]:
        return json.loads(fetch(f"{base}/scalars_multirun", body))

    began = time.perf_counter()
    command = ("-m", "tensorboard.main", "--logdir", str(folder), "--port", str(PORT), "--reload_interval", "1")
    with server(sys.executable, *command):
        # it thins a curve to at most 1,000 points
        until(lambda: sum(len(points) >= min(POINTS, 1000) for points in chart().values()) == RUNS)
        return time.perf_counter() - began, warm(chart)


def aim(folder: Path) -> tuple[float, float]:
    from aim import Repo, Run
    from aim.storage.treeutils import decode_tree

    Repo.from_path(str(folder), init=True)
    quiet = {"system_tracking_interval": None, "log_system_params": False, "capture_terminal_logs": False}
    for run in range(RUNS):
        logged = Run(repo=str(folder), experiment="bench", **quiet)
        for step in range(POINTS):
            for name in METRICS:
                logged.track(value(run, step), name=name, step=step)
        logged.close()
    query = urlencode({"q": 'metric.name == "m0"', "p": 1000, "report_progress": "false"})

    def chart() -> bytes:
        return fetch(f"http://127.0.0.1:{PORT}/api/runs/search/metric/?{query}")

    def parts(answer: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(answer):
            (size,) = struct.unpack_from("<I", answer, at)
            yield answer[at + 4 : at + 4 + size]
            at += 4 + size

    def whole(answer: bytes) -> bool:
        frames = parts(answer)
        curves = [run["traces"] for run in decode_tree(zip(frames, frames, strict=True)).values()]
        # it sends at most as many points of a curve as are asked for
        return len(curves) == RUNS and all(len(curve["values"]["blob"]) >= 8 * min(POINTS, 1000) for (curve,) in curves)

    began = time.perf_counter()
    command = (str(Path(sys.executable).with_name("aim")), "up", "--repo", str(folder), "--port", str(PORT))
    with server(*command):
        until(lambda: whole(chart()))
        return time.perf_counter() - began, warm(chart)


def mlflow(folder: Path) -> tuple[float, float]:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("bench", artifact_location=str(folder / "artifacts"))
    ids = []
    for run in range(RUNS):
        ids.append(client.create_run(experiment).info.run_id)
        rows = [Metric(name, value(run, step), step, step) for step in range(POINTS) for name in METRICS]
        for at in range(0, len(rows), 1000):
            client.log_batch(ids[-1], metrics=rows[at : at + 1000])

    def chart() -> None:
        assert all(len(client.get_metric_history(each, "m0")) == POINTS for each in ids)

    return seconds(lambda: (client.search_runs([experiment]), chart())), warm(chart)


def trackio(folder: Path) -> tuple[float, float]:
    os.environ["TRACKIO_DIR"] = str(folder)
    from ridgepole.loggers.trackio import TrackioLogger

    for _run in range(RUNS):
        with TrackioLogger("bench") as logger:
            for step in range(POINTS):
                logger.log_metrics(dict.fromkeys(METRICS, value(_run, step)), step=step)
    from trackio.sqlite_storage import SQLiteStorage

    def chart() -> None:
        for each in SQLiteStorage.get_runs("bench"):
            assert SQLiteStorage.get_logs("bench", each)

    return seconds(chart), warm(chart)


def main() -> None:
    print(f"{RUNS} runs x {len(METRICS)} metrics x {POINTS:,} points; a chart of one metric of all runs")
    with tempfile.TemporaryDirectory() as scratch:
        for measure in (ridgepole, tensorboard, aim, mlflow, trackio):
            name = measure.__name__
            if find_spec(name) is None:
                print(f"{name}: not installed", flush=True)
                continue
            folder = Path(scratch, name)
            folder.mkdir()
            try:
                first, again = measure(folder)
            except Exception as error:
                print(f"{name}: failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
            else:
                print(f"{name}: first {first:.2f} s, a chart again {again * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
