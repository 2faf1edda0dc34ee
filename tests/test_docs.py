"""Every code block of the README and the docs runs.

A page is one story in a fresh directory: blocks with a title are written as files, `python` blocks without one run in
one process, in order, `console` blocks run line by line. `text` blocks are for reading.
Pages in subfolders have no blocks that run; their links and their places in the navigation are checked.

Python and plain `ridgepole` lines run in processes that are forked from one that has imported torch already. A line
that needs a shell gets bash, and the pages in `FRESH` start an interpreter for everything, as a reader does.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *(page for page in DOCS if page.parent == ROOT / "docs")]
FENCE = re.compile(
    r"^```(?P<language>\w+)(?: +title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
FRESH = {"README.md"}
SHELL = re.compile(r"[^\w\s./=:,@%+-]")
LANGUAGES = {"python", "toml", "yaml", "console", "text", "json"}


def blocks(page: Path):
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield text.count("\n", 0, match.start()) + 2, match["language"], match["title"], match["code"]


def commands(code: str) -> list[str]:
    return [line[2:].partition("  #")[0].strip() for line in code.splitlines() if line.startswith("$ ")]


def story(page: Path, folder: Path) -> list[tuple[int, list[str]]]:
    """Writes the titled blocks as files and gives the steps that remain, neighbouring Python blocks as one."""
    steps: list[tuple[int, list[str]]] = []
    python = ""
    for line, language, title, code in blocks(page):
        assert language in LANGUAGES, f"{page.name}:{line}: a block in {language!r} would never be run"
        if title:
            target = folder / title
            assert folder in target.resolve().parents
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(code, encoding="utf-8")
        elif language == "python":
            padding = "\n" * (line - 1 - python.count("\n"))  # so that a traceback names the page's own lines
            python += padding + code
            script = folder / f"_{page.stem}_{line}.py"
            script.write_text(python, encoding="utf-8")
            if steps and steps[-1][1][-1].endswith(".py") and steps[-1][1][0] == sys.executable:
                steps.pop()
            steps.append((line, [sys.executable, str(script)]))
        elif language == "console":
            steps += [(line, ["bash", "-c", command]) for command in commands(code) if not command.startswith("make ")]
    return steps


def in_a_fork(command_server, command, folder, environment):
    """Runs a step in a forked child where that is the same as what it says; gives None where it needs a shell."""
    program, *rest = command
    if program == sys.executable:
        return command_server.call(cwd=folder, script=rest[0], timeout=240, **environment)
    line = rest[-1]
    if not line.startswith("ridgepole ") or SHELL.search(line):
        return None
    return command_server.call(*shlex.split(line)[1:], cwd=folder, timeout=240, **environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path, torch_server):
    # one thread: two of torch's on cores that other tests are using crawl
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line, command in story(page, tmp_path):
        done = None if page.name in FRESH else in_a_fork(torch_server, command, tmp_path, environment)
        if done is None:
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=240,
                stdin=subprocess.DEVNULL,
            )
        assert done.returncode == 0, (
            f"{page.name}:{line}: {command[-1]} exits {done.returncode}\n{done.stdout}{done.stderr}"
        )


def test_the_pages_have_blocks_to_run(tmp_path):
    found = {page.name: len(story(page, tmp_path / page.stem)) for page in PAGES if not (tmp_path / page.stem).mkdir()}
    assert sum(found.values()) > 20, found


def test_every_page_is_in_the_navigation():
    navigation = re.findall(r"^ *- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(navigation) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in DOCS)


def test_links_between_pages_lead_somewhere():
    examples = sorted((ROOT / "examples").glob("**/README.md"))
    assert examples
    for page in [*DOCS, *examples, *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"


def test_the_site_builds(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'class="doc ' in (ROOT / "site" / "reference" / "index.html").read_text(encoding="utf-8")
