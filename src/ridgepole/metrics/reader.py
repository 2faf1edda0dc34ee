"""Reads metrics files back into one table, whatever state a crash left them in."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ridgepole import rundir
from ridgepole.errors import MissingExtraError, RunDirError
from ridgepole.metrics.segments import abandoned_segments
from ridgepole.metrics.uniform import WORDS, UniformReader

if TYPE_CHECKING:
    import polars as pl

CHUNK = 1 << 20  # bytes read at a time
PARSED = 256 << 10  # bytes parsed into objects at a time: more cost more, in the collector's passes over what lives
COLUMNS = ("seq", "time", "step", "name", "value", "text", "pattern", "stage", "split")

_Columns = tuple[list[Any], ...]


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """What was read, and what could not be.

    Attributes:
        frame: The values, one a row; see `read_metrics`.
        files: The files, in the order in which they were read.
        records: How many lines held a record.
        bad: How many whole lines were skipped because they are no records.
        torn: How many files end in a torn line, which was skipped.
        hidden: How many values belong to abandoned segments and were left out.
    """

    frame: pl.DataFrame
    files: tuple[Path, ...]
    records: int
    bad: int
    torn: int
    hidden: int


def read_metrics(path: str | Path, raw: bool = False) -> pl.DataFrame:
    """Reads the metrics of a run.

    Torn and bad lines are skipped; how many is said by the stdlib logger `ridgepole.metrics`, and `load_metrics`
    returns the numbers.

    Args:
        path: A run directory, a log directory or a metrics file.
        raw: Whether to show abandoned segments, too.

    Returns:
        A polars frame with one row for each value, by `seq`: `seq` (Int64), `time` (Float64, seconds since the epoch),
        `step` (Int64), `name` (String), `value` (Float64), `text` (String), `pattern`, `stage`, `split` (String).
        A number stands in `value`, NaN and the infinities included; a bool is 1.0 or 0.0 with `"true"` or `"false"` in
        `text`; an integer that a float can't hold has its digits in `text`; a string stands in `text`, a sequence or
        an array's summary there as JSON (`"nan"`, `"inf"` as strings), both with a null `value`.

    Raises:
        RunDirError: If there is no such file, or no metrics file in the directory.
        MissingExtraError: If polars is not installed.
    """
    table = load_metrics(path, raw)
    if table.bad or table.torn:
        logging.getLogger("ridgepole.metrics").warning(
            "%s: skipped %d unreadable and %d torn line(s) of %d", path, table.bad, table.torn,
            table.records + table.bad + table.torn,
        )  # fmt: skip
    return table.frame


def load_metrics(path: str | Path, raw: bool = False) -> MetricsTable:
    """Reads the metrics of a run and says what could not be read; arguments and errors as in `read_metrics`."""
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
    """The metrics files behind a path, the main one first, and the directory that they lie in."""
    if path.is_dir():
        files = [file for file in path.glob(rundir.METRICS_GLOB) if file.is_file()]
        files.sort(key=lambda file: (file.name != rundir.METRICS, file.name))
        if not files:
            raise RunDirError(f"{path} holds no metrics: there is no {rundir.METRICS_GLOB} in it")
        return files, path
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise RunDirError(f"{path} {what}; give a run directory, a log directory or a metrics file")
    return [path], path.parent


def _schema() -> dict[str, pl.DataType]:
    import polars as pl

    number, text = pl.Float64(), pl.String()
    kinds = {"seq": pl.Int64(), "time": number, "step": pl.Int64(), "value": number}
    return {name: kinds.get(name, text) for name in COLUMNS}


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

    for start, end in abandoned_segments(directory):
        frame = frame.filter((pl.col("seq") < start) | (pl.col("seq") >= end))
    return frame


class _Parser:
    """Turns files into columns, counting what it has to skip."""

    def __init__(self) -> None:
        from ridgepole.metrics.codec import decode

        self._decode: Callable[[bytes], dict[str, Any]] = decode
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
        """The records of a chunk whose lines differ."""
        names: set[str] = set()
        words: set[str] = set()
        for piece, _ in _pieces(io.BytesIO(chunk), PARSED):
            columns = _plain_columns(piece) or self._columns(piece)
            self.records += len(columns[0])
            if columns[0]:
                names.update(columns[4])
                words.update(kind for kind, column in zip(WORDS, columns[7:], strict=True) if column)
                yield _frame(columns)
        self._uniform.learn(names, words)

    def _columns(self, chunk: bytes) -> _Columns:
        """The records of a chunk, line by line; what is none is counted."""
        rows = []
        for line in chunk.split(b"\n")[:-1]:
            try:
                rows.append(self._decode(line))
            except (ValueError, TypeError, IndexError):
                self.bad += 1
        return _columns_of(rows)


def _plain_columns(chunk: bytes) -> _Columns | None:
    """The records of a chunk that is parsed as one array, which is several times faster than line by line.

    Returns:
        None where a line needs a look of its own: it is bad, or holds a number that is not finite.
    """
    import orjson

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
    """The bytes of a file in pieces of whole lines.

    Args:
        path: The file.
        size: About how many bytes a piece has; a longer line makes a longer piece.

    Yields:
        A piece that ends in a line break and True; at the end, what follows the last line break and False.
    """
    with path.open("rb") as file:
        yield from _pieces(file, size)


def _pieces(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
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
        texts = [_text(value) for value in values]
        values = [_number(value) for value in values]
    words: list[list[str | None]] = []
    for kind in WORDS:
        known = kind in kinds and any(kind in row for row in rows)
        words.append([_word(row, kind, name) for row in rows for name in row["metrics"]] if known else [])
    once = ([row[key] for row in rows] for key in ("seq", "time", "step"))
    return (*once, lengths, names, values, texts, *words)


def _word(row: dict[str, Any], kind: str, name: str) -> str | None:
    word = row.get(kind, {}).get(name)
    return word if isinstance(word, str) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, bool | int | float) else None


def _text(value: Any) -> str | None:
    kind = type(value)
    if kind is float:
        return None
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return None if float(value) == value else str(value)
    return None if value is None else _json(value)


def _json(value: Any) -> str | None:
    import json

    if isinstance(value, list):  # JSON has no NaN
        value = [repr(x) if type(x) is float and x - x != 0.0 else x for x in value]
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # nothing that we write; the row stays, without its text
        return None
