"""Measure the work of the server of `ridgepole view`, without a browser.

Makes runs as the local logger would, in a temporary directory, and prints medians.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ridgepole.metrics import read_metrics
from ridgepole.view import answers
from ridgepole.view.catalog import Catalog
from ridgepole.view.charts import ChartQuery, draw, etag_of
from ridgepole.view.columns import RunColumns
from ridgepole.view.index_cache import IndexCache


def make_run(root, number, points, metrics=1):
    path = root / f"20260101-{number:06d}-00000000"
    path.mkdir(parents=True)
    config = {"processes": {"train": {"params": {"lr": number / 1000, "width": number % 7}}}}
    (path / "config.resolved.json").write_text(json.dumps(config))
    (path / "run.json").write_text(json.dumps({"status": "finished", "pipeline": "bench", "started": 1e9 + number}))
    entry = {"last": 0.5, "min": 0.1, "max": 1.0, "best": 0.1, "count": points}
    (path / "summary.json").write_text(json.dumps({"metrics": {f"m{at}": entry for at in range(20)}}))
    values = np.random.default_rng(number).random((points, metrics))
    with (path / "metrics.jsonl").open("w") as file:
        for step in range(points):
            pairs = ",".join(f'"m{at}":{value}' for at, value in enumerate(values[step].tolist()))
            file.write(f'{{"seq":{step},"time":{1e9 + step},"step":{step},"metrics":{{{pairs}}}}}\n')
    return path


def timed(function, times=5):
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), result


def listed(root, cache):
    catalog = Catalog([root], IndexCache(cache), cache)
    catalog.scan()
    return answers.runs(catalog)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs of the list")
    parser.add_argument("--points", type=int, default=1_000_000, help="points of the long run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, cache = Path(folder), Path(folder, "cache")
        os.environ["XDG_CACHE_HOME"] = str(cache)
        for number in range(arguments.runs):
            make_run(home / "many", number, 1)
        first, table = timed(lambda: listed(home / "many", cache), 1)
        again, _ = timed(lambda: listed(home / "many", cache))
        print(f"list of {len(table['keys'])} runs: {first:.2f} s, from the index {again:.2f} s")

        long = make_run(home / "long", 0, arguments.points)
        columns = RunColumns(long)
        cold, _ = timed(columns.update, 1)
        reader, _ = timed(lambda: read_metrics(long), 1)
        IndexCache(cache).store(columns)
        warm, _ = timed(lambda: IndexCache(cache).load(long))
        print(f"1 run x {arguments.points:,} points: {cold:.2f} s (read_metrics {reader:.2f} s)")
        print(f"the same from the index: {warm * 1e3:.1f} ms")

        found = {}
        for number in range(20):
            found[str(number)] = RunColumns(make_run(home / "chart", number, 100_000))
            found[str(number)].update()
        for smooth in (0, 0.9):
            query = ChartQuery(metric="m0", runs=tuple(found), smooth=smooth)
            seconds, data = timed(lambda query=query: (etag_of(query, found), draw(query, found))[1])
            print(f"20 runs x 100,000 points, smooth {smooth}: {seconds * 1e3:.0f} ms, {len(data) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
