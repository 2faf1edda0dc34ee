"""What the event files of a directory hold already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ridgepole.metrics.steps import StepCounter
from ridgepole.permanences.loggers.tensorboard.events import parsed, restarts
from ridgepole.permanences.loggers.tensorboard.files import event_files
from ridgepole.permanences.loggers.tensorboard.records import read_records


def read_events(directory: Path) -> Iterator[Any]:
    """Every whole `Event` of the directory's own files, in the order in which TensorBoard reads them."""
    for path in event_files(directory):
        for data in read_records(path):
            event = parsed(data)
            if event is not None:
                yield event


def writer_of(path: Path) -> str | None:
    """Who wrote an event file, as it says, or a word for somebody unknown; None where there is nothing in it."""
    data = next(read_records(path), None)
    if data is None:
        return None
    first = parsed(data)
    return (first.source_metadata.writer if first is not None else "") or "somebody else"


def catch_up(directory: Path, steps: StepCounter) -> None:
    """Moves a counter behind the last step of a directory: of its metrics, not of its pictures."""
    for event in read_events(directory):
        if restarts(event):
            steps.global_step = min(steps.global_step, event.step)
            steps.last_step = min(steps.last_step, max(event.step - 1, 0))
        elif any(map(_counts, event.summary.value)):
            steps.global_step = max(steps.global_step, event.step + 1)
            steps.last_step = event.step


def curves(directory: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of all scalars, in the order of logging."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in read_events(directory):
        if restarts(event):
            found = {name: [point for point in points if point[0] < event.step] for name, points in found.items()}
            continue
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return {
        name: ([step for step, _ in points], [value for _, value in points]) for name, points in found.items() if points
    }


def _counts(value: Any) -> bool:
    return value.WhichOneof("value") in ("simple_value", "histo") or value.metadata.plugin_data.plugin_name in (
        "scalars",
        "text",
    )
