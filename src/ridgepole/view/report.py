"""The page with its data as one file, for a reader without a server and without a network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole.errors import RidgepoleError, RunDirError
from ridgepole.files import write_atomically
from ridgepole.view import answers
from ridgepole.view.catalog import Catalog, Entry
from ridgepole.view.charts import ChartQuery, draw
from ridgepole.view.index_cache import IndexCache, default_folder
from ridgepole.view.page import MISSING_PAGE, page_file
from ridgepole.view.wire import NoSweeps, Sweeps, encode

_COLUMNS = 2000
_FEWEST_COLUMNS = 64
_CHART_BYTES = 24 << 20
_FILE_BYTES = 24 << 20
_TEXT_BYTES = 16 << 20
_LEAST_TEXT = 4 << 10
_ENTRY_BYTES = 40  # of one entry of a reduced curve: x, y, low, high, last and time
_STYLE = '<link rel="stylesheet" href="assets/app.css">'
_SCRIPT = '<script src="assets/app.js" defer></script>'


class MissingPageError(RidgepoleError):
    """This installation has no built page."""


def write_report(runs: Sequence[Path], output: Path, sweeps: Sweeps | None = None) -> int:
    """Write the page of some runs as one file, and return its size in bytes.

    Args:
        runs: The run directories.
        output: The file to write.
        sweeps: The sweeps to show.

    Raises:
        RunDirError: If it can't be written.
        MissingPageError: If this installation has no built page.
    """
    page = render_report(runs, sweeps)
    try:
        write_atomically(output, page)
    except OSError as error:
        raise RunDirError(f"can't write {output}: {error.strerror or error}; name another file with -o") from error
    return len(page)


def render_report(
    runs: Sequence[Path], sweeps: Sweeps | None = None, *, opens: str = "runs", with_media: bool = True
) -> bytes:
    """Return the page of some runs as HTML.

    Args:
        runs: The run directories.
        sweeps: The sweeps to show.
        opens: The view that the page shows first.
        with_media: Whether to put pictures and other files of the runs into it.

    Raises:
        MissingPageError: If this installation has no built page.
    """
    index, style, script = (page_file(name) for name in ("index.html", "assets/app.css", "assets/app.js"))
    if index is None or style is None or script is None:
        raise MissingPageError(MISSING_PAGE)
    return assemble(index, style, script, report_data(runs, sweeps, opens=opens, with_media=with_media))


def assemble(index: bytes, style: bytes, script: bytes, data: dict[str, Any]) -> bytes:
    """Return the page with its style sheet, its script and its data inside.

    The page may run this script and nothing else, load nothing, and send nothing.

    Raises:
        MissingPageError: If the page does not have the elements that are replaced.
    """
    html = index.decode()
    for element in (_STYLE, _SCRIPT, "<head>"):
        if html.count(element) != 1:
            raise MissingPageError(f"the built page is damaged: {element} is not there once; build it again")
    code = script.decode().replace("</script", r"<\/script")
    css = style.decode().replace("</style", r"<\/style")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(code)}'; style-src 'sha256-{_digest(css)}'; "
        "img-src data: blob:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    text = encode(data).decode()
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")  # only the texts of JSON have them
    # The script was deferred: as the last thing of the body it sees the same document.
    tail = f'<script type="application/json" id="ridgepole-report">{text}</script><script>{code}</script>'
    before, _, after = html.replace(_SCRIPT, "").partition("<head>")
    head, _, rest = after.partition(_STYLE)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    rest, end, last = rest.rpartition("</body>") if "</body>" in rest else (rest, "", "")
    return "".join([before, "<head>", meta, head, f"<style>{css}</style>", rest, tail, end, last]).encode()


def report_data(
    runs: Sequence[Path], sweeps: Sweeps | None = None, *, opens: str = "runs", with_media: bool = True
) -> dict[str, Any]:
    """Return what the page asks a server for, for all these runs; see `render_report`."""
    sweeps = sweeps or NoSweeps()
    catalog = Catalog(runs, IndexCache(default_folder()), None)
    catalog.scan()
    entries = catalog.entries()
    columns = {entry.key: catalog.columns(entry) for entry in entries}
    for each in columns.values():
        each.update()
    catalog.store(at_end=True)
    metrics = answers.metrics(catalog, entries)
    files, omitted = _files(entries, _FILE_BYTES if with_media else 0)
    logs = _logs(entries)
    listed = sweeps.listed()
    width = _CHART_BYTES // (_ENTRY_BYTES * max(1, sum(entry["runs"] for entry in metrics["metrics"])))
    width = max(_FEWEST_COLUMNS, min(_COLUMNS, width))
    keys = tuple(columns)
    charts = {
        entry["name"]: draw(ChartQuery(metric=entry["name"], runs=keys, columns=width, time=True), columns)
        for entry in metrics["metrics"]
    }
    return {
        "format": 1,
        "opens": opens,
        "info": answers.info(catalog, "report", live=False, sweeps=len(listed)),
        "runs": answers.runs(catalog, archived="yes"),
        "run": {entry.key: answers.run(catalog, entry) for entry in entries},
        "media": {entry.key: answers.media(entry) for entry in entries},
        "system": {entry.key: answers.system_metrics(entry) for entry in entries},
        "logs": logs["logs"],
        "diffs": logs["diffs"],
        "sweeps": {"sweeps": listed},
        "sweep": {each["key"]: _sweep(sweeps, each["key"]) for each in listed if "error" not in each},
        "files": files,
        "omitted": omitted,
        "charts": {name: base64.b64encode(chart).decode() for name, chart in charts.items()},
    }


def _sweep(sweeps: Sweeps, key: str) -> dict[str, Any] | None:
    data = sweeps.data(key)
    return None if data is None else data | {"importances": sweeps.importances(key)}


def _logs(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Return logs and code that differs, of the newest runs first, up to a size in all."""
    logs: dict[str, Any] = {entry.key: {} for entry in entries}
    diffs: dict[str, Any] = {}
    left = _TEXT_BYTES
    for entry in entries:
        for name in answers.log_names(entry.path):
            with contextlib.suppress(answers.GoneError):
                log = answers.log(entry, name, -min(256 << 10, left))
                logs[entry.key][name] = log
                left -= len(log["text"])
        with contextlib.suppress(answers.GoneError):
            diff = answers.diff(entry)
            if len(diff["text"]) <= left:
                diffs[entry.key] = diff
                left -= len(diff["text"])
        if left < _LEAST_TEXT:
            break
    return {"logs": logs, "diffs": diffs}


def _files(entries: Sequence[Entry], left: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the files of media up to a size in all, the newest of a name first, and the rest."""
    found: dict[str, str] = {}
    omitted: list[dict[str, Any]] = []
    for entry, path in _by_age(entries):
        with contextlib.suppress(answers.GoneError), answers.open_media(entry, path) as file:
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            size = os.fstat(file.fileno()).st_size
            if size > left or kind == "text/html":  # a page in the page would need a frame
                omitted.append({"run": entry.key, "file": path, "bytes": size})
                continue
            data = file.read()
            left -= len(data)
            found[f"{entry.key}/{path}"] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return found, omitted


def _by_age(entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    ranked: list[tuple[int, Entry, str]] = []
    for entry in entries:
        age: dict[str, int] = {}
        for item in reversed(answers.media(entry)["items"]):
            name = f"{item['kind']} {item.get('name')}"
            age[name] = age.get(name, -1) + 1
            ranked += [(age[name], entry, path) for path in _paths(item)]
    ranked.sort(key=lambda each: each[0])
    return [(entry, path) for _, entry, path in ranked]


def _paths(item: dict[str, Any]) -> list[str]:
    masks = item.get("masks")
    layers = [layer.get("file") for layer in masks.values()] if isinstance(masks, dict) else []
    return [path for path in (item.get("file"), item.get("plain"), *layers) if isinstance(path, str)]


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
