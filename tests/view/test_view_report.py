"""The page as one file: its data is what the server answers, and nothing in it can run or leave."""

import base64
import hashlib
import html
import json
import re

import numpy as np
import pytest

import ridgepole
from ridgepole import Pipeline, RunDirError, process
from ridgepole.permanences import BaseLoggerManager
from ridgepole.view import report as module
from ridgepole.view.container import split
from ridgepole.view.report import MissingPageError, assemble, report_data

INDEX = (
    b'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>x</title>'
    b'<link rel="stylesheet" href="assets/app.css"><script src="assets/app.js" defer></script></head>'
    b'<body><div id="app"></div></body></html>'
)
HOSTILE = "</script><script>alert(1)</script><!-- \u2028 & \u202e"


@process
def train(logger: BaseLoggerManager, lr: float = 0.1):
    for step in range(3):
        logger.log_metrics({"loss": lr / (step + 1)})
        logger.log_image("picture", np.full((8, 8), step * 40, np.uint8))
    logger.log_text(HOSTILE, HOSTILE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "runs"
    for lr in (0.25, 0.5):
        pipeline = Pipeline("reported", progress=False, seed=1, checkpoint=False)
        pipeline.process("train", train, lr=lr).run(root, name=f"lr {lr}", note=HOSTILE)
    return sorted(root.glob("2*"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_data_is_what_the_server_answers(runs):
    data = report_data(runs)
    keys = data["runs"]["keys"]
    assert data["runs"]["fields"]["name"] == ["lr 0.5", "lr 0.25"]
    assert data["info"]["live"] is data["info"]["writable"] is False
    assert list(data["charts"]) == ["loss"]
    assert set(data["run"]) == set(data["media"]) == set(data["logs"]) == set(keys)
    header, array = split(base64.b64decode(data["charts"]["loss"]))
    assert [entry["points"] for entry in header["series"]] == [3, 3]
    assert array(header["series"][0]["y"]).tolist() == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert len(array(header["series"][0]["time"])) == 3
    pictures = [item["file"] for item in data["media"][keys[0]]["items"] if item["kind"] == "image"]
    assert len(pictures) == 3
    for picture in pictures:
        assert data["files"][f"{keys[0]}/{picture}"].startswith("data:image/png;base64,iVBOR")
    assert data["omitted"] == []


def test_the_newest_pictures_of_each_run_come_first_and_the_rest_is_named(runs, monkeypatch):
    size = max(path.stat().st_size for run in runs for path in (run / "figures").iterdir())
    monkeypatch.setattr(module, "_FILE_BYTES", 2 * size)
    data = report_data(runs)
    assert len(data["files"]) >= 2
    newest = {
        f"{key}/{max(_pictures(data, key), key=lambda item: item['step'])['file']}" for key in data["runs"]["keys"]
    }
    assert newest <= set(data["files"])
    assert len(data["files"]) + len(data["omitted"]) == 6
    assert all(each["bytes"] > 0 for each in data["omitted"])


def _pictures(data, key):
    return [item for item in data["media"][key]["items"] if item["kind"] == "image"]


def test_a_page_runs_its_own_script_alone(runs):
    script, style = b'const x = "</script>";', b"body { color: red }"
    page = assemble(INDEX, style, script, report_data(runs)).decode()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)[1]
    assert page.index(policy) < page.index("<style>")
    (code,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert code == r'const x = "<\/script>";'
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    (data,) = re.findall(r'<script type="application/json" id="ridgepole-report">(.*?)</script>', page, re.DOTALL)
    assert not re.search("[<>&\u2028\u2029]", data)
    assert not re.search("src=|<link", page.replace(data, ""))
    assert json.loads(data)["runs"]["fields"]["note"] == [HOSTILE] * 2
    assert page.endswith("</script></body></html>")


@pytest.mark.parametrize("page", [b"<html></html>", INDEX.replace(b"app.js", b"main.js"), INDEX + INDEX])
def test_a_page_that_was_built_otherwise_is_refused(page):
    with pytest.raises(MissingPageError, match="the built page is damaged"):
        assemble(page, b"", b"", {})


@pytest.fixture
def built(monkeypatch):
    files = {"index.html": INDEX, "assets/app.css": b"", "assets/app.js": b"1;"}
    monkeypatch.setattr(module, "page_file", files.get)


def test_a_notebook_shows_the_report_in_a_frame(runs, built):
    shown = ridgepole.Runs(runs[0].parent, filter="lr > 0.3", height=99)
    assert repr(shown).endswith("1 runs")
    cell = shown._repr_html_()
    page = html.unescape(re.search(r'<iframe sandbox="allow-scripts" title="runs" srcdoc="([^"]*)"', cell)[1])
    assert '"lr 0.5"' in page
    assert '"lr 0.25"' not in page
    assert "height:99px" in cell


def test_a_notebook_without_a_built_page_shows_a_table(runs, monkeypatch):
    monkeypatch.setattr(module, "page_file", lambda name: None)
    cell = ridgepole.Runs(runs[0].parent)._repr_html_()
    assert "<iframe" not in cell
    assert "lr 0.25" in cell
    assert "make frontend" in cell


def test_a_report_that_cannot_be_written_is_said(runs, built, tmp_path):
    assert module.write_report(runs, tmp_path / "page.html") == (tmp_path / "page.html").stat().st_size
    with pytest.raises(RunDirError, match="can't write"):
        module.write_report(runs, tmp_path / "none" / "page.html")
