"""The page of runs in a real browser, live: each view, growth, many runs, hostile names, runs that vanish."""

import json
import math
import shutil
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from page_client import PageClient

from browser import Browser, find_browser
from programs import needs
from ridgepole import Pipeline, process
from ridgepole import run as begin_run
from ridgepole.labels import read_labels
from ridgepole.permanences import BaseLoggerManager
from ridgepole.view.report import write_report
from ridgepole.watch import steptime
from ridgepole.watch.alerts import append_alert, new_alert
from ridgepole.watch.steptime import StepTime

PAGE = Path(__file__).resolve().parents[2] / "src" / "ridgepole" / "view" / "_page" / "build.json"
pytestmark = [
    needs("chromium-headless-shell", found=find_browser()),
    pytest.mark.skipif(not PAGE.exists(), reason="the page is not built: make frontend"),
]
EVIL = "</script><img src=x onerror=alert(1)>"


@process
def train(logger: BaseLoggerManager, lr: float = 0.1):
    for step in range(40):
        logger.log_metrics({"loss": lr / (step + 1), "val/acc": 1 - lr, EVIL: step})
    logger.log_image("picture", np.zeros((4, 6, 3), dtype=np.uint8))
    logger.log_histogram("weights", np.arange(10.0))
    logger.log_table("scores", {"class": ["a", "b,c"], "f1": [0.5, 0.75]})
    logger.log_text("words", "<b>said</b>")
    logger.log_audio("tone", np.sin(np.arange(800) / 10), sample_rate=8000)
    logger.log_video("clip", np.zeros((3, 4, 5, 3), dtype=np.uint8))
    logger.log_html("page", "<h1>a page</h1>")
    masks = {"sure": {"labels": np.eye(4, 6, dtype=np.uint8), "names": {1: "yes"}}}
    boxes = {"found": [{"corners": (1, 1, 4, 3), "label": 0, "name": "thing"}]}
    logger.log_image("marked", np.zeros((4, 6, 3), dtype=np.uint8), masks=masks, boxes=boxes)
    logger.info("a line of the log")


@process
def fails(logger: BaseLoggerManager):
    logger.log_metrics({"loss": 1.0})
    raise ValueError(EVIL)


def was_watched(run):
    """Leave in a run what a longer one on two ranks has: samples, step times, alerts, a console, a stall."""
    for rank, name in enumerate(("system.jsonl", "system-rank-1.jsonl")):
        header = {"node": "n7", "cpus": 8, "limit_cpus": 2.0, "rank": rank, "cards": [{"card": "gpu0", "name": EVIL}]}
        samples = [{"time": 1.7e9 + 10 * n, "values": {"gpu0_celsius": 50 + n, "ranks_percent": 0}} for n in range(900)]
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in [{"header": header}, *samples]))
        steptime.write(run, StepTime(rank=rank, seconds=10.0, steps=20, items=640, data=6.4, num_workers=2, cores=64.0))
    append_alert(run, new_alert("stall", "error", "no step for 60 s", EVIL, step=7, rank=1))
    (run / "console").mkdir()
    (run / "console" / "rank-1.log").write_text("printed by rank 1\n")
    (run / "stalls").mkdir()
    (run / "stalls" / "20261122-101500-rank-1.txt").write_text("Thread 0x1 in read\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("shown") / "runs"
    for number in range(3):
        pipeline = Pipeline("shown", progress=False, seed=1, checkpoint=False)
        pipeline.process("train", train, lr=0.25 * (number + 1))
        run = pipeline.run(root, name=[f"run{number}", EVIL][number == 2], tags=["odd"] if number == 1 else [])
        if number == 1:
            was_watched(run.path)
    with pytest.raises(ValueError, match="script"):
        Pipeline("shown", progress=False, seed=1, checkpoint=False).process("fails", fails).run(root, name="failed")
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def serve(command_server, root):
    running = command_server.start(
        "view", str(root), "--port", "0", cwd=root.parent, XDG_CACHE_HOME=str(root.parent / "cache")
    )
    return running, PageClient(running.until("token=").stdout).url.geturl()


@pytest.fixture(scope="module")
def address(command_server, root):
    running, address = serve(command_server, root)
    yield address
    running.send(signal.SIGINT)
    assert running.wait() == 0


@pytest.fixture
def show(browser, address):
    """Open the page at a place; at the end of the test the browser must have had nothing to complain of."""
    tabs = []

    def show(place="", address=address, **how):
        tabs.append(browser.open(f"{address}#{place}", **how))
        tabs[-1].wait("document.querySelector('main > *') && !document.querySelector('main > .wait')")
        return tabs[-1]

    yield show
    for tab in tabs:
        assert tab.complaints() == []
        tab.close()


def drawn(tab, metric):
    """Wait until a chart has its curves; return how many."""
    chart = f"[...document.querySelectorAll('article.chart')].find(e => e.textContent.includes({json.dumps(metric)}))"
    tab.wait(f"{chart}?.dataset.drawn > 0")
    return int(tab.js(f"{chart}.dataset.drawn"))


def names(tab):
    return tab.texts("td.name a")


def key_of(tab, name):
    rows = "[...document.querySelectorAll('tr[data-run]')]"
    find = f"{rows}.find(e => e.querySelector('a').textContent === {json.dumps(name)})"
    return tab.js(f"{find}.dataset.run")


def type_into(tab, selector, text):
    tab.js(f"""(e => {{ e.value = {json.dumps(text)}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})
        (document.querySelector({json.dumps(selector)}))""")
    tab.settle()


def test_runs_stand_in_a_table_with_their_curves_below(show):
    tab = show()
    tab.wait("document.querySelectorAll('svg.spark').length === 3")  # the failed run has one point
    assert names(tab) == ["failed", EVIL, "run1", "run0"]
    head = tab.texts("th button")
    assert {"val/acc", "loss", "lr ", "lr"} & set(head) >= {"val/acc", "loss", "lr"}
    assert "steps" not in head  # the same in all
    assert drawn(tab, "val/acc") == 3
    assert drawn(tab, "loss") == 4


def test_a_filter_is_applied_as_it_is_typed_and_says_what_is_wrong(show):
    tab = show()
    type_into(tab, ".bar input", 'lr < 0.6 and status == "finished"')
    assert names(tab) == ["run1", "run0"]
    assert tab.texts(".count") == ["2 of 4 runs"]
    type_into(tab, ".bar input", "lr = 3")
    assert tab.texts(".bar .problem") == ['"=" is not an operator: did you mean "=="? (at character 4)']
    type_into(tab, ".bar input", '"odd" in tags')
    assert names(tab) == ["run1"]
    assert "filter=" in tab.js("location.hash")


def test_the_address_brings_the_same_view_back(show):
    tab = show("filter=lr+%3E+0.3&sort=loss&smooth=0.5&x=relative&view=runs")
    assert names(tab) == ["run1", EVIL]
    assert tab.js("document.querySelector('input[type=range]').value") == "0.5"
    assert tab.texts("th[aria-sort=ascending] button") == ["loss ↑"]


def sees_every_medium(tab):
    for kind in ("image", "histogram", "table", "text", "audio", "video", "html"):
        medium = f"document.querySelector('.medium.{kind}')"
        tab.wait(f"{medium} && ({medium}.scrollIntoView(), !{medium}.querySelector('.blank'))")
    tab.wait("document.querySelector('.image img')?.naturalWidth === 6")
    tab.wait("document.querySelectorAll('svg.histogram rect').length > 2")
    tab.wait("document.querySelector('.medium.table td')")
    assert tab.texts(".medium.table td") == ["a", "0.5", "b,c", "0.75"]
    tab.js("document.querySelector('audio').load()")
    tab.js("document.querySelector('audio').preload = 'auto'")
    tab.wait("document.querySelector('audio').readyState > 0")
    tab.wait("document.querySelector('.video img')?.naturalWidth === 5")
    tab.wait("document.querySelectorAll('.layers input').length === 2")
    tab.wait("document.querySelector('img.layer')?.naturalWidth === 6")
    assert tab.texts("svg.layer text") == ["thing"]


def test_a_run_is_shown_with_all_that_it_left(show, root):
    tab = show()
    key = key_of(tab, "run1")
    tab = show(f"view=run&run={key}")
    assert drawn(tab, "loss") == 1
    tab.wait("document.querySelector('.timeline li span')")
    assert tab.texts(".timeline li span") == ["train"]

    def tab_of(name, wanted):
        tab.js(f"[...document.querySelectorAll('[role=tab]')].find(e => e.textContent === '{name}').click()")
        tab.wait(f"document.querySelector('main').textContent.includes({json.dumps(wanted)})")

    tab_of("media", "<b>said</b>")  # as text
    sees_every_medium(tab)
    tab.wait("document.querySelector('iframe')")
    tab_of("config", "processes.train.params.lr")
    tab_of("log", "a line of the log")
    tab_of("attempts", "no checkpoints")
    tab_of("provenance", "packages")
    tab_of("diff", "The code was" if not list(root.glob("2*/code.diff")) else "@@")


def test_a_link_to_a_tab_of_a_run_shows_it(show):
    key = key_of(show(), "run1")
    chosen = "document.querySelector('[role=tab][aria-selected=true]')?.textContent"
    tab = show(f"view=run&run={key}&tab=config")
    tab.wait(f"{chosen} === 'config'")
    tab.wait("document.querySelector('main').textContent.includes('processes.train.params.lr')")
    open_tab(tab, "log", "a line of the log")
    assert tab.js("location.hash") == f"#view=run&run={key}&tab=log"
    tab.js("location.hash = ''")
    tab.wait("document.querySelector('tr[data-run]')")
    tab.js(f"location.hash = 'view=run&run={key}'")
    tab.wait(f"{chosen} === 'curves'")
    unknown = show(f"view=run&run={key}&tab=nonsense")
    unknown.wait(f"{chosen} === 'curves'")
    assert drawn(unknown, "loss") == 1


def open_tab(tab, name, wanted):
    """Open one of a run's tabs, and wait until it says something."""
    tab.js(f"[...document.querySelectorAll('[role=tab]')].find(e => e.textContent.startsWith('{name}')).click()")
    tab.wait(f"document.querySelector('main').textContent.includes({json.dumps(wanted)})")


def sees_what_was_watched(tab):
    tab.wait("document.querySelector('.steptimes b')")
    assert tab.texts(".steptimes b") == ["64 % of the time waited for data on rank 0: num_workers = 2 → try 6"]
    assert tab.texts(".parts .data span") == ["waiting for data 64 %"] * 2
    open_tab(tab, "system", "n7, 8 cores, limited to 2 cores, gpu0 </script>")
    assert drawn(tab, "gpu0 temperature, °C") == 2
    assert "ranks, %" not in tab.texts("article.chart h3"), "nothing but zeros"
    open_tab(tab, "alerts", "no step for 60 s")
    assert tab.texts(".alerts .error b, .alerts .error pre") == ["no step for 60 s", EVIL]
    assert "step 7 · rank 1" in tab.js("document.querySelector('.alerts small').textContent")
    open_tab(tab, "log", "a line of the log")
    for file, wanted in (("rank-1.log", "printed by rank 1"), ("rank-1.txt", "Thread 0x1 in read")):
        tab.js(
            f"[...document.querySelectorAll('.controls button')].find(e => e.textContent.endsWith('{file}')).click()"
        )
        tab.wait(f"document.querySelector('.log').textContent.includes({json.dumps(wanted)})")


def test_a_run_shows_its_system_step_times_alerts_and_consoles(show):
    tab = show()
    sees_what_was_watched(show(f"view=run&run={key_of(tab, 'run1')}"))


def test_a_report_is_the_same_page_without_a_server(browser, root, tmp_path):
    write_report(sorted(root.glob("2*")), tmp_path / "page.html")
    tab = browser.open(tmp_path / "page.html")
    assert names(tab) == ["failed", EVIL, "run1", "run0"]
    assert drawn(tab, "val/acc") == 3
    key_of_run1 = key_of(tab, "run1")
    type_into(tab, ".bar input", "lr < 0.3")
    assert names(tab) == ["run0"]
    tab.js(f"location.hash = 'view=run&run={key_of(tab, 'run0')}'")
    tab.wait("document.querySelector('[role=tab]')")
    tab.js("[...document.querySelectorAll('[role=tab]')].find(e => e.textContent === 'media').click()")
    sees_every_medium(tab)
    tab.js(f"location.hash = 'view=run&run={key_of_run1}'")
    sees_what_was_watched(tab)
    open_tab(tab, "media", "<b>said</b>")
    assert "was left out" in tab.js("document.querySelector('.medium.html').textContent")
    assert tab.js("document.querySelector('.labels') === null")  # nothing can be changed
    assert tab.complaints() == []
    tab.close()


def test_a_diverged_run_leaves_the_others_in_sight_and_runs_of_one_name_are_told_apart(browser, tmp_path):
    """The rule is in `frontend/test/range.test.ts`; here it is seen that the page follows it."""
    for lr in (0.1, 0.2, 9.0):
        with begin_run("same", config={"lr": lr}, root=tmp_path / "runs") as run:
            for step in range(9):
                run.log({"loss": lr * 10.0**step if lr > 1 else lr + 1 / (step + 1), "huge": (step + 1) * 1e25})
            run.log({"loss": math.nan if lr > 1 else lr})
    write_report(sorted((tmp_path / "runs").glob("2*")), tmp_path / "report.html")
    tab = browser.open(tmp_path / "report.html")
    drawn(tab, "loss")
    tab.wait("document.querySelector('button.cut')")
    assert tab.texts("button.cut") == ["outliers cut off"], "of the loss, and not of the values that are huge in all"
    assert tab.texts("td b") == ["0.1"], "the best loss"
    assert tab.texts(".status .unseen") == ["finished, loss is not finite", "finished", "finished"]
    assert tab.js("document.title") == f"{tmp_path.name}/runs · Ridgepole"
    tab.js("document.querySelector('button.cut').click()")
    tab.wait("!document.querySelector('button.cut') && location.hash.includes('wholey=true')")
    tab.js("location.hash = 'view=compare'")
    tab.wait("document.querySelector('.compare')")
    assert tab.texts(".sides thead bdi") == ["same lr=0.1", "same lr=0.2", "same lr=9"]
    tab.close()


def test_labels_are_written_to_the_run(show, root):
    tab = show()
    key = key_of(tab, "run0")
    tab = show(f"view=run&run={key}")
    tab.js("""(e => { e.value = 'seen, good'; e.dispatchEvent(new Event('change', {bubbles: true})); })
        (document.querySelector('.labels label:nth-of-type(2) input'))""")
    tab.wait("document.querySelector('.labels label:nth-of-type(2) input').defaultValue === 'seen, good'")
    first = min(path for path in root.glob("2*"))
    assert read_labels(first).tags == ("seen", "good")


def test_two_runs_are_compared(show):
    tab = show()
    chosen = ",".join(key_of(tab, name) for name in ("run0", "run1"))
    tab = show(f"view=compare&pick={chosen}")
    table = tab.js("document.querySelector('.sides').innerText.replaceAll('\\u2212', '-')")
    assert "run0" in table
    assert "failed" not in table
    assert "-33 %" in table  # 0.5 against 0.75
    assert tab.js("[...document.querySelectorAll('.sides tr.differs')].map(e => e.innerText).join()").startswith("lr")
    assert drawn(tab, "val/acc") == 2


def test_keys_lead_through_the_page(show):
    tab = show()
    tab.js("document.querySelector('.table').focus()")
    tab.press("ArrowDown", 40)
    tab.press("c", 67)
    tab.press("ArrowDown", 40)
    tab.press("c", 67)
    assert tab.js("document.querySelectorAll('td.name input:checked').length") == 2
    tab.press("3", 51)
    tab.wait("document.querySelector('.sides')")
    tab.press("1", 49)
    tab.js("document.querySelector('.table').focus()")
    tab.press("Enter", 13)
    tab.wait("document.querySelector('.run h1')")
    tab.press("Escape", 27)
    tab.wait("document.querySelector('.table')")


def test_hostile_names_are_shown_and_not_executed(show):
    tab = show()
    assert EVIL in names(tab)
    key = key_of(tab, "failed")
    tab = show(f"view=run&run={key}")
    tab.wait("document.querySelector('summary')")
    assert "onerror" in tab.texts("summary")[0]
    assert tab.js("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("width", [360, 1280, 2560])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_every_width(show, width, dark):
    tab = show(width=width, dark=dark)
    drawn(tab, "loss")
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    low, high = sorted([tab.js("getComputedStyle(document.body).backgroundColor"), "rgb(128, 128, 128)"], key=light)
    assert (high if dark else low) == "rgb(128, 128, 128)"


def light(colour):
    return int(colour.removeprefix("rgb(").split(",")[0])


@contextmanager
def growing(command_server, root, target):
    """Run a process while the page of its run is served; yield the page's address."""
    pipeline = Pipeline("live", progress=False, checkpoint=False).process("grows", target)
    thread = threading.Thread(target=pipeline.run, args=(root,), kwargs={"name": "growing"})
    root.mkdir()
    running, address = serve(command_server, root)
    thread.start()
    try:
        yield address
    finally:
        thread.join()
        running.send(signal.SIGINT)
        assert running.wait() == 0


def test_points_appear_as_they_are_logged(command_server, show, tmp_path):
    root = tmp_path / "runs"
    goes_on, done = threading.Event(), threading.Event()

    @process
    def grows(logger: BaseLoggerManager):
        logger.log_metrics({"loss": 3.0})
        logger.log_metrics({"loss": 2.0})
        assert goes_on.wait(60)
        logger.log_metrics({"loss": 1.0})
        assert done.wait(60)

    with growing(command_server, root, grows) as address:
        try:
            tab = show(address=address)
            tab.wait("document.querySelector('td.name')?.textContent.includes('growing')")
            tab.wait("document.querySelector('td[title^=\"loss = 2\"]')")
            goes_on.set()
            tab.wait("document.querySelector('td[title^=\"loss = 1\"]')")
            assert drawn(tab, "loss") == 1
            done.set()
            tab.wait("document.querySelector('.status.finished')")
            shutil.rmtree(next(root.glob("2*")))
            tab.wait("document.querySelector('.empty')?.textContent === 'No runs yet.'")
        finally:
            goes_on.set()
            done.set()


def test_a_chart_is_drawn_although_its_run_changes_faster_than_it_is_answered(command_server, browser, tmp_path):
    done = threading.Event()

    @process
    def grows(logger: BaseLoggerManager):
        while not done.wait(0.2):
            logger.log_metrics({"loss": 1.0})

    with growing(command_server, tmp_path / "runs", grows) as address:
        tab = browser.open("about:blank")
        try:
            limits = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
            tab.call("Network.emulateNetworkConditions", latency=2500, **limits)  # a change comes each second
            tab.call("Page.navigate", url=address)
            tab.wait("document.querySelector('article.chart')?.dataset.drawn > 0", 90)
        finally:
            tab.close()
            done.set()


def test_a_server_that_ends_is_told(command_server, browser, root):
    running, address = serve(command_server, root)
    tab = browser.open(address)
    tab.wait("document.querySelector('.live')?.textContent === 'live' && document.querySelector('td.name a')")
    running.send(signal.SIGINT)
    assert running.wait() == 0
    tab.wait("document.querySelector('.live.lost')")
    assert names(tab)  # what was there stays
    tab.close()


def test_a_thousand_runs_are_listed_without_a_thousand_rows(command_server, browser, show, tmp_path):
    root = tmp_path / "runs"
    for number in range(1000):
        directory = root / f"20261122-{number:06d}-{number:08x}"
        directory.mkdir(parents=True)
        record = {
            "format": 1,
            "id": directory.name,
            "pipeline": "many",
            "status": "finished",
            "started": 1.7e9 + number,
        }
        (directory / "run.json").write_text(json.dumps(record | {"ended": 1.8e9, "seconds": 1.0, "attempt": 1}))
        values = {"last": number / 1000, "last_step": 0, "min": 0.0, "max": 1.0, "count": 1}
        (directory / "summary.json").write_text(json.dumps({"format": 1, "metrics": {"acc": values}}))
    running, address = serve(command_server, root)
    try:
        tab = show(address=address)
        assert tab.texts(".count") == ["1000 runs"]
        assert tab.js("document.querySelectorAll('tr[data-run]').length") < 60
        tab.js("document.querySelector('.table').scrollTop = 1e9")
        tab.wait("[...document.querySelectorAll('td.name a')].some(e => e.textContent.startsWith('20261122-000000'))")
        type_into(tab, ".bar input", "acc >= 0.995")
        assert len(names(tab)) == 5
    finally:
        running.send(signal.SIGINT)
        assert running.wait() == 0


def broken_run(root, number):
    """Make a run whose files are damaged."""
    run = root / f"20261122-00000{number}-00000000"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"pipeline": "torn')
    (run / "summary.json").write_text('{"metrics": {"loss": 3, "acc": {"last": "x"}}}')
    (run / "config.resolved.json").write_text("[1, 2]")
    (run / "metrics.jsonl").write_bytes(b'{"seq": 0, "step"\n\xff\xfe\n[]\n{"seq": 1}\n')
    (run / "labels.json").write_text('{"name": 7}')
    return run.name


def test_a_browser_without_events_asks_and_sees_broken_runs_come_and_their_directory_go(
    command_server, browser, tmp_path
):
    root = tmp_path / "runs"
    first = broken_run(root, 1)
    running, address = serve(command_server, root)
    try:
        tab = browser.open("about:blank")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.EventSource")
        tab.call("Page.navigate", url=address)
        tab.wait("document.querySelector('td.name a')", 60)
        assert (names(tab), tab.js("typeof EventSource")) == ([first], "undefined")
        assert tab.js("document.querySelectorAll('.status.crashed').length") == 1
        second = broken_run(root, 2)
        tab.wait("document.querySelectorAll('td.name a').length === 2", 60)
        assert names(tab) == [second, first]
        tab.js("document.querySelector('td.name a').click()")
        tab.wait("document.querySelector('[role=tab]')", 60)
        for each in ("config", "log", "attempts", "provenance", "media"):
            tab.js(f"[...document.querySelectorAll('[role=tab]')].find(e => e.textContent === '{each}').click()")
            tab.settle()
        assert not tab.js("document.querySelector('[role=alert]')?.textContent ?? ''")
        shutil.rmtree(root)
        tab.js("location.hash = ''")
        tab.wait("document.querySelector('.empty')?.textContent === 'No runs yet.'", 60)
        tab.close()
    finally:
        running.send(signal.SIGINT)
        assert running.wait() == 0
