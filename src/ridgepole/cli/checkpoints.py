"""`ridgepole checkpoints ls|show|verify|export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgepole import rundir
from ridgepole.checkpoint import CheckpointInfo, CheckpointStore
from ridgepole.checkpoint.loading import inspect
from ridgepole.checkpoint.manifest import parse_name
from ridgepole.cli.output import ago, columns, complain, near, number, say, say_json, size, when
from ridgepole.cli.roots import run_and_checkpoint, runs_root
from ridgepole.errors import CheckpointError
from ridgepole.rundir import RunInfo

_COLOURS = {"damaged": "red", "newer": "red", "ok": "green"}


def call(arguments: argparse.Namespace) -> int:
    """List, show, verify or export the checkpoints of a run, without the run's code."""
    if arguments.action == "export":
        return _export(arguments)
    if arguments.action != "ls" and arguments.name in (None, "latest") and _is_checkpoint(arguments.run):
        arguments.run, arguments.name = "latest", arguments.run
    run = rundir.find_run(arguments.run, runs_root(arguments, arguments.run))
    store = CheckpointStore(run.path / rundir.CHECKPOINTS)
    if arguments.action == "ls":
        _list(run, store, as_json=arguments.json)
    elif arguments.action == "show":
        _show(run, store, store.find(arguments.name), as_json=arguments.json)
    else:
        return _verify(store, arguments.name, as_json=arguments.json)
    return 0


def _is_checkpoint(word: str) -> bool:
    """Return whether a word names a checkpoint rather than a run."""
    return word == "best" or parse_name(word) is not None


def _list(run: RunInfo, store: CheckpointStore, *, as_json: bool) -> None:
    infos = store.list()
    marks = _marks(infos)
    if as_json:
        say_json([_row(info, marks[info.name]) for info in infos])
    elif infos:
        heads = ("NAME", "KIND", "STEP", "PROCESS", "SCORE", "SIZE", "AGE", "")
        names = list(run.json(rundir.RESOLVED).get("processes") or {})
        columns((_cells(info, marks[info.name], names) for info in infos), heads)
    else:
        say(f"run {run.id} has no checkpoints")


def _marks(infos: Sequence[CheckpointInfo]) -> dict[str, list[str]]:
    """Return the words for each checkpoint: `latest`, `best`, `resumable`, `damaged`, `newer`."""
    from ridgepole.checkpoint.retention import best_first, newest_first

    latest, best = newest_first(infos)[:1], best_first(infos)[:1]
    found: dict[str, list[str]] = {}
    for info in infos:
        words = [word for word, which in (("latest", latest), ("best", best)) if info in which]
        if info.usable and (info.meta or {}).get("resumable"):
            words.append("resumable")
        if info.problem:
            words.append("newer" if info.newer else "damaged")
        found[info.name] = words
    return found


def _row(info: CheckpointInfo, marks: Sequence[str]) -> dict[str, Any]:
    meta = info.meta or {}
    return {
        "name": info.name,
        "kind": info.kind,
        "step": info.step,
        "process": meta.get("process"),
        "position": meta.get("position"),
        "attempt": meta.get("attempt"),
        "score": None if info.score is None else {"metric": info.score.metric, "value": info.score.value},
        "size": info.size,
        "time": info.time or None,
        "config_hash": info.config_hash or None,
        "valid": not info.problem,
        "problem": info.problem or None,
        "latest": "latest" in marks,
        "best": "best" in marks,
        "resumable": "resumable" in marks,
        "path": str(info.path),
    }


def _cells(info: CheckpointInfo, marks: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    score = "-" if info.score is None else number(info.score.value)
    if info.problem:
        return (info.name, info.kind, str(info.step), "-", "-", "-", "-", " ".join(marks))
    return (
        info.name,
        info.kind,
        str(info.step),
        _place(info, names),
        score,
        size(info.size),
        ago(info.time),
        " ".join(marks),
    )


def _place(info: CheckpointInfo, names: Sequence[str]) -> str:
    """Return the process that was running, or the two processes between which it was taken."""
    meta = info.meta or {}
    position = meta.get("position")
    if meta.get("process") or not isinstance(position, int) or not 0 <= position <= len(names) or not names:
        return str(meta.get("process") or "-")
    return f"after {names[position - 1]}" if position else f"before {names[0]}"


def _show(run: RunInfo, store: CheckpointStore, info: CheckpointInfo, *, as_json: bool) -> None:
    held = inspect(info, "permanences")
    marks = _marks(store.list()).get(info.name, [])
    if as_json:
        parts = {name: {"tensors": part.tensors, "bytes": part.bytes} for name, part in held.items()}
        say_json(_row(info, marks) | {"run": run.id, "permanences": parts})
        return
    meta = info.meta or {}
    done = list(run.json(rundir.RESOLVED).get("processes") or {})
    inside = f"inside {meta['process']}" if meta.get("process") else _place(info, done)
    say(f"checkpoint  {info.name}{' (' + ', '.join(marks) + ')' if marks else ''}")
    say(f"path        {near(info.path)}")
    say(f"taken       {when(info.time)} UTC, {ago(info.time)}; why: {info.kind}")
    say(f"step        {info.step}, attempt {meta.get('attempt', '-')}")
    say(f"process     {inside}, {meta.get('position', '-')} of {len(done) or '-'} done")
    if info.score is not None:
        say(f"score       {info.score.metric} {number(info.score.value)} ({info.score.mode})")
    say(f"size        {size(info.size)}")
    say(f"config      {info.config_hash or '-'}")
    if held:
        say()
        rows = ((name, str(part.tensors), size(part.bytes)) for name, part in held.items())
        columns(rows, ("PERMANENCE", "TENSORS", "SIZE"))


def _verify(store: CheckpointStore, name: str | None, *, as_json: bool) -> int:
    """Read checkpoints through. Skip those that a running run removes meanwhile."""
    names = [store.find(name).name] if name is not None else [info.name for info in store.list()]
    if not names:
        raise CheckpointError(f"no checkpoint in {store.path}")
    found: dict[str, tuple[str, ...]] = {}
    for each in names:
        try:
            problems = store.verify(each)
        except CheckpointError as error:
            problems = (str(error),)
        if problems and not (store.path / each).exists():
            continue
        found[each] = problems
    if as_json:
        say_json([{"name": each, "valid": not problems, "problems": problems} for each, problems in found.items()])
    else:
        rows = [(each, text) for each, problems in found.items() for text in (problems or ("ok",))]
        columns(rows, ("CHECKPOINT", ""), _COLOURS)
    return 1 if any(found.values()) else 0


def _export(arguments: argparse.Namespace) -> int:
    """Write the weights of a checkpoint as other tools read them."""
    from ridgepole.checkpoint.weights import CONFIG, find_weights, write_weights

    name, which = run_and_checkpoint(arguments.run)
    run = rundir.find_run(name or "latest", runs_root(arguments, name or None))
    loaded = CheckpointStore(run.path / rundir.CHECKPOINTS).load(which)
    for skipped in loaded.passed_over:
        complain(str(skipped))
    weights = find_weights(loaded, arguments.permanence, arguments.key)
    output = Path(arguments.output or f"{run.id}-{loaded.info.name}")
    files = write_weights(weights, arguments.to, output)
    if weights.left_out:
        complain(f"left out, because they are not tensors beside the others: {', '.join(weights.left_out)}")
    if arguments.to == "hf" and weights.config is None:
        complain(f"without {CONFIG}: the state of {weights.permanence!r} has no 'config'")
    if arguments.json:
        say_json(
            {
                "run": run.id,
                "checkpoint": loaded.info.name,
                "permanence": weights.permanence,
                "key": weights.key,
                "tensors": list(weights.tensors),
                "left_out": weights.left_out,
                "files": [str(file) for file in files],
            }
        )
        return 0
    place = ".".join(filter(None, (weights.permanence, weights.key)))
    count = len(weights.tensors)
    say(f"exported {count} tensor{'s' * (count != 1)} of {place} from {loaded.info.name} of {run.id}")
    for file in files:
        say(f"  {near(file)}")
    return 0
