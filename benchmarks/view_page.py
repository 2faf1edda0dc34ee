"""Measure the page of `ridgepole view` in a real browser: first pixels, and following live runs.

Three parts: from the command to the first chart of many runs, with an empty index and with a full
one; a chart of long runs; and a page over live runs, each a process of its own that logs once a
second: the time from a log call to the page, and the memory and the processor time of server and
page. Needs a Chromium.

    python benchmarks/view_page.py [--runs N] [--points N] [--live N] [--minutes N]
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path += [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]  # the driver of the browser

from browser import Browser, Tab, find_browser
from view import make_run

METRICS = 20
LIVE = """
import os, sys, time
import ridgepole
with ridgepole.run("live", root=sys.argv[1]) as run:
    while not os.path.exists(sys.argv[2]):
        run.log({"sent": time.time() % 100, **{f"z{at}": time.time() % (at + 2) for at in range(9)}})
        time.sleep(1)
"""
CHARTS = "[...document.querySelectorAll('article.chart')]"
DRAWN = f"{CHARTS}.some(chart => chart.dataset.drawn > 0)"
EXACT = f"{DRAWN} && {CHARTS}.every(chart => !chart.textContent.includes('indexing'))"
CELLS = 'td[title^="sent = "]'
WATCH = """
window.seen = [];
const look = () => {
  for (const cell of document.querySelectorAll('td[title^="sent = "]')) {
    if (cell.title !== cell.before) {
      if (cell.before) seen.push((Date.now() / 1000 + 100 - Number(cell.title.slice(7))) % 100);
      cell.before = cell.title;
    }
  }
  requestAnimationFrame(look);
};
look();
"""


@contextmanager
def page_of(browser: Browser, root: Path, cache: Path) -> Iterator[tuple[Tab, psutil.Process, float]]:
    """Start the server, open its page, and yield it with the time at which the command was given."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ridgepole", "view", str(root), "--port", "0"]
    environ = os.environ | {"XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        tab = browser.open(address[0], width=1280)
        try:
            yield tab, psutil.Process(process.pid), began
        finally:
            tab.close()
            process.send_signal(signal.SIGINT)


def first_pixels(browser: Browser, folder: Path, runs: int, points: int) -> None:
    for number in range(runs):
        make_run(folder / "many", number, points, METRICS)
    print(f"{runs} runs, {METRICS} metrics, {points:,} points: seconds from the command")
    for index in ("empty", "full"):
        with page_of(browser, folder / "many", folder / "cache") as (tab, _, began):
            tab.wait("document.querySelector('td.name')", 120)
            table = time.perf_counter() - began
            tab.wait(DRAWN, 120)
            first = time.perf_counter() - began
            tab.wait(EXACT, 600)
            exact = time.perf_counter() - began
            print(f"  index {index}: table {table:.2f}, first chart {first:.2f}, all exact {exact:.2f}")


def long_chart(browser: Browser, folder: Path, runs: int, points: int) -> None:
    for number in range(runs):
        make_run(folder / "long", number, points)
    with page_of(browser, folder / "long", folder / "cache") as (tab, _, _):
        tab.wait(EXACT, 600)
        taken = []
        for _ in range(7):  # another look and back again: the chart is asked for and drawn anew
            tab.press("2", 50)
            tab.wait("!document.querySelector('article.chart')")
            began = time.perf_counter()
            tab.press("1", 49)
            tab.wait(EXACT, 60)
            tab.settle()
            taken.append(time.perf_counter() - began)
        median = statistics.median(taken) * 1000
        print(f"a chart of {runs} runs x {points:,} points, index full: {median:.0f} ms to pixels")


def renderers(browser: Browser) -> list[psutil.Process]:
    family = psutil.Process(browser.process.pid).children(recursive=True)
    return [each for each in family if "--type=renderer" in each.cmdline()]


def live(browser: Browser, folder: Path, runs: int, minutes: int) -> None:
    root, end = folder / "live", folder / "end"
    script = folder / "live.py"
    script.write_text(LIVE)
    writers = [subprocess.Popen([sys.executable, script, root, end], stdout=subprocess.DEVNULL) for _ in range(runs)]
    try:
        while len(list(root.glob("*/metrics.jsonl"))) < runs:
            time.sleep(0.1)
        with page_of(browser, root, folder / "cache") as (tab, server, _):
            tab.wait(f"document.querySelectorAll(`{CELLS}`).length === {runs}", 60)
            tab.js(WATCH)
            tab.call("Network.disable")  # it would keep all answers for a developer to look at
            print(f"{runs} live runs, 10 metrics a second each")
            print("  minute  log call to page: median, p95 (s)  server: cores, MB  page: heap MB, renderers MB")
            for minute in range(1, minutes + 1):
                before, began = sum(server.cpu_times()[:2]), time.monotonic()
                time.sleep(60)
                share = (sum(server.cpu_times()[:2]) - before) / (time.monotonic() - began)
                delays = tab.js("seen.splice(0)")
                tab.call("HeapProfiler.collectGarbage")
                heap = tab.js("performance.memory.usedJSHeapSize") / 1e6
                memory = sum(each.memory_info().rss for each in renderers(browser)) / 1e6
                if minute <= 10 or minute % 10 == 0 or minute == minutes:
                    late = statistics.quantiles(delays, n=20)[-1]
                    print(
                        f"  {minute:6}  {statistics.median(delays):28.2f}, {late:.2f}  {share:15.3f}, "
                        f"{server.memory_info().rss / 1e6:3.0f}  {heap:13.1f}, {memory:.0f}",
                        flush=True,
                    )
    finally:
        end.touch()
        for writer in writers:
            writer.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs of the first chart")
    parser.add_argument("--points", type=int, default=2000, help="points of each of their metrics")
    parser.add_argument("--live", type=int, default=20, help="live runs")
    parser.add_argument("--minutes", type=int, default=1, help="how long to follow them")
    arguments = parser.parse_args()
    if find_browser() is None:
        print("no Chromium: apt-get install chromium-headless-shell")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, browser = Path(name), Browser(Path(name) / "profile")
        try:
            first_pixels(browser, folder, arguments.runs, arguments.points)
            long_chart(browser, folder, 20, 10 * arguments.points)
            live(browser, folder, arguments.live, arguments.minutes)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
