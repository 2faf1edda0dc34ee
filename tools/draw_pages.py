"""Draw the pictures of the page in docs/images: made-up runs and a sweep, in a headless Chromium.

Call it as `.venv/bin/python tools/draw_pages.py`; it takes a minute. With `--look FOLDER` it draws
every view instead, with 1, 20 and 1,000 runs, at three widths, light and dark, for a person to look
at.
"""

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser, Tab  # noqa: E402 - of the tests
from ridgepole import Pipeline, process, track  # noqa: E402
from ridgepole.permanences import BaseLoggerManager  # noqa: E402

IMAGES = ROOT / "docs" / "images"
STEPS = 160
LOOKS = {"sparse": 1, "some": 20, "many": 1000}
VIEWS = {
    "runs": "",
    "media": "view=media",
    "compare": "view=compare&pick={first},{second}",
    "sweep": "view=sweep",
    "run": "view=run&run={first}",
}


@process
def train(logger: BaseLoggerManager, lr: float = 0.01, width: int = 32, momentum: float = 0.9) -> None:
    """Log curves as those of a small network, which depend on the parameters."""
    rng = random.Random(width + int(1e4 * lr))
    speed = 1 / (1 + abs(math.log10(lr) + 2.5)) / (1 + abs(math.log2(width) - 6) / 4) / (1 + abs(momentum - 0.9))
    for step in range(STEPS):
        loss = 2.3 * math.exp(-step / 40 * speed * 2) + 0.05 + rng.random() * 0.15 * math.exp(-step / 80)
        metrics = {"train/loss": loss, "train/accuracy": 1 - loss / 2.6}
        if step % 8 == 7:
            metrics |= {"validation/loss": loss * 1.1, "validation/accuracy": 0.985 - loss / 2.7}
        logger.log_metrics(metrics)
        if step % 40 == 39:
            logger.log_image("filters", picture(rng, width, step))
            logger.log_histogram("weights", np.array([rng.gauss(0, 0.4 + step / STEPS) for _ in range(400)]))
    logger.log_text("summary", f"a made-up network of width {width}, trained with the rate {lr}")
    logger.info("trained")
    if lr > 0.4:
        raise ValueError("the loss is not finite any more: lower lr")


def picture(rng: random.Random, width: int, step: int) -> np.ndarray:
    """Return waves, more of them in a wider network."""
    y, x = np.mgrid[0:96, 0:96] / 96
    waves = np.sin(x * (3 + width / 8) + rng.random() * 3) * np.cos(y * (3 + step / 20) + rng.random() * 3)
    return np.stack([(waves + 1) * 127, (1 - waves) * 90 + 40, np.full_like(waves, 90.0)], axis=-1).astype(np.uint8)


def make_runs(root: Path, count: int) -> None:
    """Make runs of pipelines, and beyond a few bare ones, which are quick to make."""
    names = ["narrow", "middle", "wide", "slow", "broken", "again", "longer"]
    for number in range(min(count, 20)):
        lr, width = [0.003, 0.01, 0.03, 0.0001, 0.5][number % 5], [16, 32, 64, 128][number % 4]
        pipeline = Pipeline("digits", progress=False, seed=number, checkpoint=False)
        pipeline.process("train", train, lr=lr, width=width)
        try:
            name = f"{names[number % 7]}{'' if number < 7 else f'-{number // 7 + 1}'}"
            pipeline.run(root, name=name, tags=["baseline"] * (number % 5 == 0) + ["width"] * (number % 3 == 1))
        except ValueError:
            continue
    for number in range(20, count):
        run = root / f"20261101-{number:06d}-{number:08x}"
        run.mkdir(parents=True)
        record = {"pipeline": "digits", "status": "finished", "started": 1.793e9 + 60 * number, "seconds": 60.0}
        (run / "run.json").write_text(json.dumps({"format": 1, "id": run.name, **record}))
        params = {"lr": 10 ** -(1 + number % 40 / 10), "width": 2 ** (3 + number % 6)}
        (run / "config.resolved.json").write_text(json.dumps({"processes": {"train": {"params": params}}}))
        lines, loss = [], 0.0
        for step in range(30):
            loss = 2.3 * math.exp(-step / (5 + number % 17)) + 0.01 * (number % 13)
            line = {"seq": step, "time": 1.793e9 + step, "step": step, "metrics": {"train/loss": loss}}
            lines.append(json.dumps(line))
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        summary = {"last": loss, "min": loss, "max": 2.5, "best": loss, "count": 30, "last_step": 29, "best_step": 29}
        (run / "summary.json").write_text(json.dumps({"metrics": {"train/loss": summary}}))


@process
def waits(logger: BaseLoggerManager, batches: int = 800) -> None:
    """Learn a little, and wait for data more than half of the time."""

    def load() -> Iterator[np.ndarray]:
        for _ in range(batches):
            time.sleep(random.uniform(0.005, 0.011))
            yield np.zeros((64, 8))

    for step, batch in enumerate(track(load(), "train", tick=True)):
        time.sleep(0.004)
        logger.log_metrics({"train/loss": 2 / (1 + step / 50) + float(batch.mean())})


def make_sweep(root: Path) -> None:
    """Make a sweep of a pipeline over three parameters."""
    from ridgepole.sweeps import run_sweep

    pipeline = Pipeline("digits", progress=False, checkpoint=False).process("train", train)
    space = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.3},
        "width": {"values": [16, 32, 64, 128]},
        "momentum": {"min": 0.0, "max": 0.99},
    }
    metric = {"name": "validation/accuracy", "goal": "maximize"}
    config = {"name": "digits", "method": "random", "metric": metric, "parameters": space, "run_cap": 30}
    run_sweep(pipeline.run, config, root=root, progress=False)


@contextmanager
def served(root: Path, cache: Path) -> Iterator[str]:
    """Serve the page of some runs; give its address."""
    command = [sys.executable, "-m", "ridgepole", "view", str(root), "--port", "0"]
    environ = os.environ | {"XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as server:
        assert server.stdout is not None
        yield re.search(r"http://\S+", server.stdout.readline())[0]  # type: ignore[index]
        server.send_signal(signal.SIGINT)


def opened(browser: Browser, address: str, place: str = "", **how: object) -> Tab:
    """Open a view, and wait until it is drawn."""
    tab = browser.open("about:blank", **how)
    tab.call("Emulation.setScrollbarsHidden", hidden=True)  # a picture of the whole page has none
    tab.own = address.partition("?")[0]
    tab.call("Page.navigate", url=f"{address}#{place}")
    tab.wait("document.querySelector('main > *') && !document.querySelector('main > .wait')")
    tab.js("new Promise(done => setTimeout(done, 300))")
    seen = "each => each.getBoundingClientRect().top < innerHeight"
    things = (
        ("article.chart", "each.dataset.drawn > 0"),
        (".drawing", "each.dataset.drawn"),
        ("main img", "each.complete"),
    )
    for elements, is_drawn in things:
        tab.wait(f"[...document.querySelectorAll('{elements}')].filter({seen}).every(each => {is_drawn})")
    tab.wait("!/Reading the|Computing the/.test(document.body.innerText)")
    tab.js("new Promise(done => setTimeout(done, 500))")  # sparklines come after the rest
    return tab


def look(folder: Path, browser: Browser, scratch: Path) -> None:
    """Draw every view of every number of runs, at every width, light and dark."""
    for name, count in LOOKS.items():
        root = scratch / name / "runs"
        make_runs(root, count)
        if count == 20:
            make_sweep(root)
        with served(root, scratch / "cache") as address:
            keys = keys_of(browser, address)
            for view, place in VIEWS.items():
                for width in (360, 1280, 2560):
                    for dark in (False, True):
                        tab = opened(browser, address, place.format(**keys), width=width, height=900, dark=dark)
                        over = tab.js("document.documentElement.scrollWidth - innerWidth")
                        file = folder / f"{view}-{count}-{width}-{'dark' if dark else 'light'}.png"
                        tab.screenshot(file)
                        print(file.name, f"{over} px too wide" if over > 0 else "", *tab.complaints()[:3], flush=True)
                        tab.close()


def keys_of(browser: Browser, address: str) -> dict[str, str]:
    """Return the keys of two runs."""
    tab = opened(browser, address)
    keys = tab.js("[...document.querySelectorAll('tr[data-run]')].map(each => each.dataset.run)")
    tab.close()
    return {"first": keys[0], "second": keys[min(1, len(keys) - 1)]}


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", type=Path, help="a folder for pictures of every view")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        browser = Browser(scratch / "profile")
        try:
            if arguments.look:
                arguments.look.mkdir(parents=True, exist_ok=True)
                look(arguments.look, browser, scratch)
            else:
                draw(browser, scratch)
        finally:
            browser.close()


def draw(browser: Browser, scratch: Path) -> None:
    """Draw the pictures of the documentation."""
    root = scratch / "digits" / "runs"
    make_runs(root, 7)
    make_sweep(scratch / "sweeps" / "runs")
    with served(root, scratch / "cache") as address:
        keys = keys_of(browser, address)
        for view, height in (("runs", 900), ("media", 700), ("compare", 800), ("run", 760)):
            place = VIEWS[view].format(**keys)
            tab = opened(browser, address, place, width=1280, height=height, dark=view == "run")
            keep(tab, view)
    watched = Pipeline("digits", progress=False, checkpoint=False, system={"every_seconds": 0.5})
    watched.process("train", waits).run(scratch / "watched" / "runs", name="starved")
    with served(scratch / "watched" / "runs", scratch / "cache") as address:
        place = f"{VIEWS['run']}&tab=system".format(**keys_of(browser, address))
        keep(opened(browser, address, place, width=1280, height=860), "system")
    with served(scratch / "sweeps" / "runs", scratch / "cache") as address:
        tab = opened(browser, address, VIEWS["sweep"], width=1280, height=1240)
        keep(tab, "sweep")


def keep(tab: Tab, view: str) -> None:
    """Keep what a tab shows, with a palette: a fifth of the bytes."""
    file = IMAGES / f"view-{view}.png"
    tab.screenshot(file, whole=False)
    tab.close()
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    small.save(file, optimize=True)
    print(file.relative_to(ROOT), flush=True)


if __name__ == "__main__":
    main()
