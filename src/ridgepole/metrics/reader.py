"""Reads metrics files into one table, whatever state a crash left them in."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from ridgepole import rundir
from ridgepole.errors import MissingExtraError, RunDirError
from ridgepole.metrics.codec import decode
from ridgepole.metrics.uniform import WORDS, UniformReader

if TYPE_CHECKING:
    import polars as pl


CHUNK = 1 << 20  # bytes read at a time
PARSED = 256 << 10  # bytes parsed into objects at a time: more make the garbage collector slower
COLUMNS = ("seq", "time", "step", "name", "value", "text", "pattern", "stage", "split")

_Columns = tuple[list[Any], ...]


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """The metrics of a run.

    Attributes:
        frame: One row for each value; see `read_metrics`.
        files: The files in the order of reading.
        records: Number of records.
        bad: Number of skipped whole lines that are not records.
        torn: Number of files that end in a torn line, which was skipped.
        hidden: Number of values of abandoned segments, which were left out.
    """

    frame: pl.DataFrame
    files: tuple[Path, ...]
    records: int
    bad: int
    torn: int
    hidden: int


def read_metrics(path: str | Path | Iterable[str | Path], raw: bool = False) -> pl.DataFrame:
    """Read the metrics of a run, or of several runs.

    Torn and bad lines are skipped. The stdlib logger `ridgepole.metrics` reports their number,
    and `load_metrics` returns it.

    Args:
        path: A run directory, a log directory or a metrics file; or several of them.
        raw: Whether to include abandoned segments.

    Returns:
        A polars frame with one row for each value, ordered by `seq`. The columns are `seq` (Int64),
        `time` (Float64, seconds since the epoch), `step` (Int64), `name` (String), `value`
        (Float64), and `text`, `pattern`, `stage`, `split` (String).
        Numbers are in `value`, including NaN and the infinities. A bool is 1.0 or 0.0 with `"true"`
        or `"false"` in `text`. An integer that a float can't hold has its digits in `text`.
        Strings are in `text`; sequences and summaries of arrays are there as JSON (`"nan"`,
        `"inf"` as strings). Both have a null `value`.
        With several paths, the names of their directories come first, as a column `run` (String).

    Raises:
        RunDirError: If the file does not exist, or the directory has no metrics file.
        MissingExtraError: If polars is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        return _read_several([Path(each) for each in path], raw)
    table = load_metrics(path, raw)
    if table.bad or table.torn:
        lines = table.records + table.bad + table.torn
        message = "%s: skipped %d unreadable and %d torn line(s) of %d"
        logging.getLogger("ridgepole.metrics").warning(message, path, table.bad, table.torn, lines)
    return table.frame


def _read_several(paths: Sequence[Path], raw: bool) -> pl.DataFrame:
    frames = [(path.resolve().name, read_metrics(path, raw)) for path in paths]
    import polars as pl

    empty = pl.DataFrame(schema={"run": pl.String(), **_schema()})
    return pl.concat([empty, *(frame.select(pl.lit(name).alias("run"), pl.all()) for name, frame in frames)])


def load_metrics(path: str | Path, raw: bool = False) -> MetricsTable:
    """Read the metrics of a run as `read_metrics` does, and count the skipped lines."""
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtraError("polars", "plots", "read_metrics") from error
    files, directory = metric_files(Path(path))
    parser = _Parser()
    frames = [pl.DataFrame(schema=_schema())]
    for file in files:
        frames += parser.parse(file)
    frame = pl.concat(frames, rechunk=False)
    if not frame["seq"].is_sorted():
        frame = frame.sort("seq", maintain_order=True)
    shown = frame if raw else _without_abandoned(frame, directory)
    return MetricsTable(shown, tuple(files), parser.records, parser.bad, parser.torn, frame.height - shown.height)


def metric_files(path: Path) -> tuple[list[Path], Path]:
    """Return the metrics files of a path, the main one first, and their directory."""
    if path.is_dir():
        files = [file for file in path.glob(rundir.METRICS_GLOB) if file.is_file()]
        files.sort(key=lambda file: (file.name != rundir.METRICS, file.name))
        if not files:
            raise RunDirError(f"{path} holds no metrics: there is no {rundir.METRICS_GLOB} in it")
        return files, path
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise RunDirError(f"{path} {what}; give a run directory, a log directory or a metrics file")
    return [path], path.parent


def _schema() -> dict[str, pl.DataType]:
    import polars as pl

    kinds = {"seq": pl.Int64(), "time": pl.Float64(), "step": pl.Int64(), "value": pl.Float64()}
    return {name: kinds.get(name, pl.String()) for name in COLUMNS}


def _frame(columns: _Columns) -> pl.DataFrame:
    import numpy as np
    import polars as pl

    seq, time, step, lengths, name, value, text, pattern, stage, split = columns
    schema = _schema()
    once = {"seq": (seq, np.int64), "time": (time, np.float64), "step": (step, np.int64)}
    series = {key: pl.Series(key, np.repeat(np.array(x, kind), lengths)) for key, (x, kind) in once.items()}
    several = {"name": name, "value": value, "text": text, "pattern": pattern, "stage": stage, "split": split}
    for key, items in several.items():
        column = items or pl.repeat(None, len(name), dtype=schema[key], eager=True)
        series[key] = pl.Series(key, column, dtype=schema[key])
    return pl.DataFrame(series)


def _without_abandoned(frame: pl.DataFrame, directory: Path) -> pl.DataFrame:
    import polars as pl

    for start, end in rundir.abandoned_segments(directory):
        frame = frame.filter((pl.col("seq") < start) | (pl.col("seq") >= end))
    return frame


class _Parser:
    """Parses files to frames, and counts the lines that it skips."""

    def __init__(self) -> None:
        self._uniform = UniformReader()
        self.records = self.bad = self.torn = 0

    def parse(self, path: Path) -> Iterator[pl.DataFrame]:
        for chunk, whole in read_chunks(path):
            if not whole:
                self.torn += 1
            elif (read := self._uniform.read(chunk)) is not None:
                self.records += read[1]
                yield read[0]
            else:
                yield from self._parse_each(chunk)

    def _parse_each(self, chunk: bytes) -> Iterator[pl.DataFrame]:
        """Parse a chunk whose lines differ."""
        names: set[str] = set()
        words: set[str] = set()
        for piece, _ in read_pieces(io.BytesIO(chunk), PARSED):
            columns = _plain_columns(piece) or self._columns(piece)
            self.records += len(columns[0])
            if columns[0]:
                names.update(columns[4])
                words.update(kind for kind, column in zip(WORDS, columns[7:], strict=True) if column)
                yield _frame(columns)
        self._uniform.learn(names, words)

    def _columns(self, chunk: bytes) -> _Columns:
        """Parse a chunk line by line, and count bad lines."""
        rows = []
        for line in chunk.split(b"\n")[:-1]:
            try:
                rows.append(decode(line))
            except (ValueError, TypeError, IndexError):
                self.bad += 1
        return _columns_of(rows)


def _plain_columns(chunk: bytes) -> _Columns | None:
    """Parse a chunk as one JSON array, which is several times faster than line by line.

    Return None if a line is bad or has a number that is not finite.
    """
    if b'"special"' in chunk:
        return None
    try:
        rows = orjson.loads(b"[%b]" % chunk[:-1].replace(b"\n", b","))
        once = [list(map(itemgetter(key), rows)) for key in ("seq", "time", "step", "metrics")]
    except (ValueError, TypeError, KeyError):
        return None
    if len(rows) != chunk.count(b"\n"):
        return None
    allowed: tuple[set[type], ...] = ({int}, {int, float}, {int}, {dict})
    if any(not kinds.issuperset(map(type, column)) for column, kinds in zip(once, allowed, strict=True)):
        return None
    if not {dict}.issuperset(map(type, rows)) or any(
        abs(f(c)) >= 2**63 for c in (once[0], once[2]) for f in (min, max)
    ):
        return None
    kinds = [kind for kind in WORDS if f'"{kind}"'.encode() in chunk]
    for kind in kinds:
        if not {dict}.issuperset(type(row[kind]) for row in rows if kind in row):
            return None
    return _columns_of(rows, kinds)


def read_chunks(path: Path, size: int = CHUNK) -> Iterator[tuple[bytes, bool]]:
    """Yield a file in pieces of whole lines of about `size` bytes, each with True.

    A torn last line comes at the end, with False.
    """
    with path.open("rb") as file:
        yield from read_pieces(file, size)


def read_pieces(file: BinaryIO, size: int = CHUNK) -> Iterator[tuple[bytes, bool]]:
    """Yield the rest of an open file as `read_chunks` does."""
    rest: list[bytes] = []
    while block := file.read(size):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest.append(block)
            continue
        yield b"".join((*rest, block[:cut])), True
        rest = [block[cut:]] if cut < len(block) else []
    if rest:
        yield b"".join(rest), False


def _columns_of(rows: list[dict[str, Any]], kinds: Sequence[str] = WORDS) -> _Columns:
    metrics = [row["metrics"] for row in rows]
    lengths = list(map(len, metrics))
    names = list(chain.from_iterable(metrics))
    values: list[Any] = list(chain.from_iterable(each.values() for each in metrics))
    texts: list[str | None] = []
    if not {float}.issuperset(map(type, values)):
        texts = [text_of_value(value) for value in values]
        values = [number_of_value(value) for value in values]
    words: list[list[str | None]] = []
    for kind in WORDS:
        known = kind in kinds and any(kind in row for row in rows)
        words.append([_word(row, kind, name) for row in rows for name in row["metrics"]] if known else [])
    once = ([row[key] for row in rows] for key in ("seq", "time", "step"))
    return (*once, lengths, names, values, texts, *words)


def _word(row: dict[str, Any], kind: str, name: str) -> str | None:
    word = row.get(kind, {}).get(name)
    return word if isinstance(word, str) else None


def number_of_value(value: Any) -> float | None:
    """Return the `value` column of a decoded value."""
    return float(value) if isinstance(value, bool | int | float) else None


def text_of_value(value: Any) -> str | None:
    """Return the `text` column of a decoded value."""
    kind = type(value)
    if kind is float:
        return None
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return None if float(value) == value else str(value)
    if value is None:
        return None
    if isinstance(value, list):  # JSON has no NaN
        value = [repr(x) if type(x) is float and x - x != 0.0 else x for x in value]
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # Ridgepole writes no such value; the row stays, without its text
        return None
