"""The view of a sweep in a real browser: nothing is executed or fetched, and everything on it works."""

import json
import select
import shlex
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import ridgepole.view
from browser import Browser, find_browser
from programs import needs
from ridgepole.sweeps import Metric, SweepResult, TrialResult

PAGE = Path(ridgepole.view.__file__).parent / "_page" / "build.json"
pytestmark = [
    needs("chromium-headless-shell", found=find_browser()),
    pytest.mark.skipif(not PAGE.exists(), reason="the page is not built: make frontend"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def made(count: int = 20, *, goal: str = "minimize", pipeline: str | None = "digits.toml", **more) -> SweepResult:
    """`x` rises with the number, `kind` alternates, the objective falls; trial 3 has failed, trial 5 was pruned."""
    trials = []
    for number in range(count):
        status = {3: "failed", 5: "pruned"}.get(number, "finished")
        params = {"x": number / count, "kind": ["a", "b"][number % 2]} | {f"p{key}": number for key in range(9)}
        value = None if status == "failed" else float(count - number)
        trials.append(
            TrialResult(number, status, value, params, f"run-{number}", seconds=1.5, error="no" * (number == 3))
        )
    path = Path("/nowhere/.sweeps/id")
    metric = Metric("loss", goal)
    return SweepResult("id", path, name="demo", metric=metric, trials=trials, limit=count, pipeline=pipeline)


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of a result; at the end of the test the browser must have had nothing to complain of."""
    tabs = []

    def show(result: SweepResult, **how):
        (page,) = result.report(tmp_path, pictures=False)
        tabs.append(browser.open(page, **how))
        tabs[-1].wait("document.querySelector('.sweep header')")
        tabs[-1].wait("[...document.querySelectorAll('.drawing')].every(each => each.dataset.drawn)")
        return tabs[-1]

    yield show
    for tab in tabs:
        assert tab.complaints() == []


def drag(tab, axis: int, low: float, high: float):
    """Drags along an axis of the parallel coordinates between two places, from 0 at its bottom to 1."""
    x, y, width, height = tab.box(".handle", axis)
    at = [y + 8 + (height - 16) * (1 - place) for place in (low, high)]
    tab.drag(x + width / 2, *at)


def pixels(tab, index: int) -> int:
    """How many pixels a canvas has drawn."""
    return tab.js(f"""(drawn => {{
        const copy = Object.assign(document.createElement('canvas'), {{width: drawn.width, height: drawn.height}});
        const context = copy.getContext('2d', {{willReadFrequently: true}});
        context.drawImage(drawn, 0, 0);
        return context.getImageData(0, 0, copy.width, copy.height).data.filter((v, i) => i % 4 == 3 && v).length;
    }})(document.querySelectorAll('canvas')[{index}])""")


def colours(tab, index: int) -> set[str]:
    """The opaque colours of a canvas."""
    found = tab.js(f"""(drawn => {{
        const data = drawn.getContext('2d').getImageData(0, 0, drawn.width, drawn.height).data;
        const seen = new Set();
        for (let at = 0; at < data.length; at += 4)
            if (data[at + 3] === 255) seen.add(`${{data[at]}} ${{data[at + 1]}} ${{data[at + 2]}}`);
        return [...seen];
    }})(document.querySelectorAll('canvas')[{index}])""")
    return set(found)


EVIL = [
    "</script><img onerror=alert(1) src=x>",
    "</ScRiPt ><script>alert(1)</script>",
    "</title></style><svg onload=alert(1)>",
    "<!--<script>alert(1)//",
    "' onmouseover=alert(1) x='",
    '" autofocus onfocus=alert(1) x="',
    "javascript:alert(1)",
    "&lt;b&gt;&amp;#60;",
    "${alert(1)}{{alert(1)}}`",
    "\u2028\u2029*/alert(1)/*",
    "\\u003cimg src=x onerror=alert(1)\\u003e",
    "__proto__",
]


@pytest.mark.fault("names that are HTML or scripts in a sweep's report, in a real browser: shown, not executed")
def test_names_are_shown_and_not_executed(show, tally):
    for evil in EVIL:
        trials = [
            TrialResult(number, "finished", float(number), {evil: number, "kind": [evil, "plain"][number % 2]}, evil)
            for number in range(12)
        ]
        trials[0] = replace(trials[0], status="failed", error=evil)
        path = Path("/nowhere/.sweeps/id")
        texts = {"name": evil, "status": evil, "reason": evil, "pipeline": evil, "overrides": (evil,)}
        result = SweepResult(evil, path, metric=Metric(evil), trials=trials, limit=12, **texts)
        tab = show(result)
        assert tab.texts("h1") == [evil]
        assert tab.js("document.title") == f"{evil} · Ridgepole"
        assert tab.js("document.images.length") == 0
        assert tab.js("document.scripts.length") == 2
        assert tab.texts("th").count(evil) == 2, "the metric and a parameter"
        for column in (tab.texts("th").index("kind"), -1):
            assert tab.texts("tbody tr:first-child td")[column] == evil, "a value, and the error"
        assert shlex.quote(evil) in tab.texts("pre")[0]
        x, y, _, height = tab.box(".drawing")
        tab.mouse("mouseMoved", x + 78, y + height - 44)  # the failed one: a description with everything in it
        tab.settle()
        assert tab.texts(".about dt").count(evil) == 1
        assert tab.texts(".about dd").count(evil) == 3, "a value, the run, and the error"
        assert tab.complaints() == []
    tally(len(EVIL))


def test_the_policy_forbids_what_a_hole_would_need(browser, show):
    """Were there a hole, inline handlers, scripts and requests would still be refused."""
    tab = show(made())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        tab.js(
            "seen = []; document.addEventListener('securitypolicyviolation', e => { seen.push(e.violatedDirective) })"
        )
        tab.js(f"document.body.insertAdjacentHTML('beforeend', '<img src={address} onerror=hit=1>')")
        tab.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'hit = 1'}))")
        tab.js(f"fetch('{address}').catch(() => 0)")
        tab.wait("new Set(seen).size == 4")
        assert sorted(tab.js("seen")) == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
        assert tab.js("typeof hit") == "undefined"
        assert not select.select([server], [], [], 0.2)[0], "nobody has called"
    browser.events = [event for event in browser.events if event.get("sessionId") != tab.session]


def test_dragging_along_an_axis_filters_everything(show):
    tab = show(made())
    assert tab.texts(".told") == ["20 trials"]
    everywhere = [pixels(tab, index) for index in (0, 2, 4)]
    drag(tab, 0, 0.5, 1.0)  # x: 10 / 20 and more, of 0 to 0.95
    assert tab.column(0) == [str(number) for number in range(10, 20)]
    assert tab.texts(".told")[0].startswith("10 of 20 trials, filtered by x")
    assert [pixels(tab, index) for index in (0, 2, 4)] != everywhere
    drag(tab, 1, 0.8, 1.0)  # kind: b alone
    assert tab.column(0) == ["11", "13", "15", "17", "19"]
    drag(tab, 11, 0.2, 1.0)  # the objective, last: 20 - number is 5 and more, of 1 to 20
    assert tab.column(0) == ["11", "13", "15"]
    x, y, width, height = tab.box(".handle", 1)
    tab.drag(x + width / 2, y + height * 0.5, y + height * 0.5)  # a click
    assert tab.texts(".told")[0].startswith("6 of 20 trials, filtered by x, loss")
    tab.js("document.querySelector('.told button').click()")
    tab.settle()
    assert len(tab.column(0)) == 20
    assert [pixels(tab, index) for index in (0, 2, 4)] == everywhere


def test_a_range_is_moved_by_dragging_it(show):
    tab = show(made())
    drag(tab, 0, 0.0, 0.25)
    assert tab.column(0) == ["0", "1", "2", "3", "4"]
    drag(tab, 0, 0.1, 0.62)
    assert tab.column(0) == ["10", "11", "12", "13", "14"]


def test_filtering_by_keys(show):
    tab = show(made())
    tab.js("document.querySelectorAll('.handle')[0].focus()")
    tab.press("ArrowDown", 40)
    assert tab.column(0) == [str(number) for number in range(10)], "the lower half: x is number / 20, up to 0.95"
    low = tab.column(0)
    tab.press("ArrowUp", 38)
    assert tab.column(0) != low
    tab.press("ArrowUp", 38, shift=True)
    assert len(tab.column(0)) > 9
    tab.press("Escape", 27)
    assert len(tab.column(0)) == 20


def test_the_table_sorts_by_keys_and_says_so(show):
    tab = show(made())
    names = tab.texts("th")
    column = names.index("loss")
    tab.js(f"document.querySelectorAll('th button')[{column}].focus()")
    tab.press("Enter", 13)
    values = tab.column(column)
    assert values == [*sorted((text for text in values if text), key=float), ""], "the failed one last"
    assert tab.js(f"document.querySelectorAll('th')[{column}].ariaSort") == "ascending"
    tab.press("Enter", 13)
    assert tab.column(column) == [*sorted((text for text in values if text), key=float, reverse=True), ""]
    assert tab.js(f"document.querySelectorAll('th')[{column}].ariaSort") == "descending"
    assert tab.js("[...document.querySelectorAll('th')].filter(e => e.ariaSort != 'none').length") == 1
    tab.js(f"document.querySelectorAll('th button')[{names.index('kind')}].click()")
    assert tab.column(names.index("kind")) == ["a"] * 10 + ["b"] * 10


def test_pointing_at_a_trial_tells_all_about_it(show):
    tab = show(made())
    x, y, width, height = tab.box(".drawing")
    tab.mouse("mouseMoved", x + width - 26, y + height - 54)  # the last one is the best one
    tab.settle()
    told = tab.texts(".about")[0]
    for part in ("trial 19 finished", "loss1", "x0.95", "kindb", "runrun-19"):
        assert part in told
    assert tab.js("document.querySelector('.about').hidden") is False
    assert tab.texts("tr.pointed td")[0] == "19", "its line in the table"
    marks = [pixels(tab, index) for index in (1, 3, 5)]
    assert all(marks), f"it is marked in every view: {marks}"
    tab.mouse("mouseMoved", x + width / 2, y - 30)
    tab.settle()
    assert tab.js("document.querySelector('.about').hidden") is True
    assert [pixels(tab, index) for index in (1, 3, 5)] == [0, 0, 0]


def test_a_tap_tells_about_a_trial_until_the_next(show):
    tab = show(made(), width=390, touch=True)
    x, y, width, height = tab.box(".drawing")
    tab.tap(x + width - 26, y + height - 54)
    assert "trial 19" in tab.texts(".about")[0]
    left, right = tab.js("(b => [b.left, b.right])(document.querySelector('.about').getBoundingClientRect())")
    assert 0 <= left < right <= 390
    x, y, *_ = tab.box("h1")
    tab.tap(x + 5, y + 5)
    assert tab.js("document.querySelector('.about').hidden") is True


def test_a_line_is_found_between_its_axes(show):
    tab = show(made(2))
    spot = tab.js(
        "(h => [h[0], h[1]].map(e => e.getBoundingClientRect().x + 12))(document.querySelectorAll('.handle'))"
    )
    _, top, _, height = tab.box(".handle")
    tab.mouse("mouseMoved", sum(spot) / 2, top + height - 9)
    tab.settle()
    assert "trial 0" in tab.texts(".about")[0]
    tab.mouse("mouseMoved", sum(spot) / 2, top + 9)
    tab.settle()
    assert "trial 1" in tab.texts(".about")[0]


def test_the_command_is_copied(browser, show):
    result = made()
    tab = show(result)
    assert tab.texts("pre") == [result.command()]
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    tab.call("Page.bringToFront")
    x, y, width, height = tab.box(".command button")
    tab.drag(x + width / 2, y + height / 2, y + height / 2)
    tab.wait("document.querySelector('.command button').textContent === 'Copied'")
    assert tab.js("navigator.clipboard.readText()") == result.command()


def test_a_function_has_its_parameters_instead_of_a_command(show):
    result = made(pipeline=None)
    assert json.loads(show(result).texts("pre")[0]) == result.best.params


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_both_schemes(show, dark):
    tab = show(made(), dark=dark)
    background = tab.js("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 19, 23)" if dark else "rgb(255, 255, 255)")
    assert colours(tab, 0) >= ({"86 180 233", "255 140 66"} if dark else {"0 114 178", "213 94 0"})


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_every_width(show, width):
    tab = show(made(), width=width, touch=width < 500)
    assert tab.js("document.documentElement.scrollWidth <= innerWidth"), "only plots and tables scroll aside"
    assert tab.js("[...document.querySelectorAll('canvas')].every(c => c.width && c.height)")


def test_ten_thousand_trials(show):
    tab = show(made(10_000))
    assert tab.texts(".told") == ["10,000 trials"]
    assert len(tab.column(0)) == 100
    more = "[...document.querySelectorAll('.sweep p > button')].at(-1)"
    assert tab.js(f"{more}.textContent") == "Show 100 more of 9,900"
    tab.js(f"{more}.click()")
    assert len(tab.column(0)) == 200
    drag(tab, 0, 0.9, 1.0)
    passing = int(tab.texts(".told")[0].partition(" ")[0].replace(",", ""))
    assert abs(passing - 1000) < 20, "a tenth of them, by the pixel"


def test_several_metrics_are_columns_and_the_trials_that_none_beats_are_marked(show):
    metrics = (Metric("loss"), Metric("speed", "maximize"))
    table = [(0.5, 10.0), (0.25, 5.0), (0.5, 9.0), (0.125, 5.0)]
    trials = [
        TrialResult(number, "finished", None, {"x": number}, f"run-{number}", values={"loss": loss, "speed": speed})
        for number, (loss, speed) in enumerate(table)
    ]
    trials.append(TrialResult(4, "failed", None, {"x": 4}, "run-4", error="no"))
    result = SweepResult("id", Path("/nowhere/.sweeps/id"), metrics=metrics, trials=trials, limit=5)
    tab = show(result)
    assert tab.texts("th")[:5] == ["trial", "status", "loss", "speed", "x"]
    assert [tab.texts(f'tr[data-trial="{row}"] td')[2:4] for row in (0, 3, 4)] == [
        ["0.5", "10"],
        ["0.125", "5"],
        ["", ""],
    ]
    assert tab.js("[...document.querySelectorAll('tr.best')].map(row => row.dataset.trial)") == ["0", "3"]
    assert tab.texts(".sweep header p")[1] == (
        "loss, to be minimized; speed, to be maximized. No other trial beats 2 trials: 0, 3"
    )
    (empty,) = [show(replace(result, trials=trials[4:])).texts(".sweep header p")[1]]
    assert empty.endswith("no trial has finished with all of them yet")


def test_a_sweep_without_trials(show):
    tab = show(SweepResult("id", Path("/nowhere/.sweeps/id")))
    assert "No trial has begun yet." in tab.js("document.body.innerText")
    assert tab.js("document.querySelectorAll('canvas, table').length") == 0


def test_constants_alone(show):
    trials = [TrialResult(number, "finished", float(number), {"x": 1}) for number in range(3)]
    tab = show(SweepResult("id", Path("/nowhere/.sweeps/id"), trials=trials))
    assert tab.js("document.body.innerText").count("nothing to compare") == 2
    assert tab.texts("details li") == ["x = 1"]
