"""The labels of a run: name, tags, note, archived. Unlike its record they may change later.

They are in `labels.json` of the run directory, which is written under a lock of its own. So a label
can be changed while the run is running, by several commands at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ridgepole.errors import RunDirError
from ridgepole.files import Flock, read_json, write_atomically

LABELS = "labels.json"
LABELS_LOCK = "labels.lock"

_FORMAT = 1
_LINE = 200
_NOTE = 100_000
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of a run.

    Attributes:
        name: A name beside the id; names need not be unique. Empty if there is none.
        tags: Words by which runs are found, in the order in which they were added.
        note: A text of any number of lines. Empty if there is none.
        archived: Whether lists leave the run out unless asked.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False

    def tagged(self, tags: Iterable[str], *, without: Iterable[str] = ()) -> Labels:
        """Return the labels with more tags, and without others."""
        removed = set(without)
        kept = dict.fromkeys(tag for tag in (*self.tags, *tags) if tag not in removed)
        return replace(self, tags=tuple(kept))

    def merged(self, other: Labels) -> Labels:
        """Return the labels with the tags of `other` added, and with its name and note, if any."""
        return replace(self.tagged(other.tags), name=other.name or self.name, note=other.note or self.note)


NO_LABELS = Labels()


def checked_name(name: str) -> str:
    """Return a name without surrounding spaces.

    Raises:
        ValueError: If it is too long, or contains line breaks or control characters.
    """
    return _checked_line("name", name)


def checked_tag(tag: str) -> str:
    """Return a tag without surrounding spaces.

    Raises:
        ValueError: If it is empty, too long, or contains line breaks or control characters.
    """
    text = _checked_line("tag", tag)
    if not text:
        raise ValueError("a tag must not be empty")
    return text


def checked_note(note: str) -> str:
    """Return a note without surrounding spaces.

    Raises:
        ValueError: If it is too long.
    """
    text = _encodable("note", note).strip()
    if len(text) > _NOTE:
        raise ValueError(f"a note has at most {_NOTE} characters, this one has {len(text)}")
    return text


def checked(*, name: str = "", tags: Iterable[str] = (), note: str = "") -> Labels:
    """Return labels from texts that a user gave.

    Raises:
        ValueError: If one of them is not valid.
    """
    if isinstance(tags, str):
        raise ValueError(f"tags must be a list of texts, not the text {tags!r}")
    return Labels(name=checked_name(name), note=checked_note(note)).tagged(checked_tag(tag) for tag in tags)


def read_labels(directory: Path) -> Labels:
    """Return the labels of a run; empty ones where the file is missing, and for damaged members."""
    found = read_json(directory / LABELS)
    name, tags, note = found.get("name"), found.get("tags"), found.get("note")
    return Labels(
        name=name if isinstance(name, str) else "",
        tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        note=note if isinstance(note, str) else "",
        archived=found.get("archived") is True,
    )


class LabelsChange:
    """A change of the labels of a run, under their lock.

    ```python
    with LabelsChange(directory) as change:
        change.labels = change.labels.tagged(["baseline"])
    ```

    Args:
        directory: The run directory.
    """

    labels: Labels

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Flock(directory / LABELS_LOCK)

    def __enter__(self) -> LabelsChange:
        """Take the lock, and read the labels.

        Raises:
            RunDirError: If the run can't be written, or another process holds the lock for long.
        """
        try:
            taken = self._lock.take(_PATIENCE_SECONDS)
        except OSError as error:
            raise self._refused(error) from error
        if not taken:
            raise RunDirError(f"the labels of run {self._directory.name} are locked by {self._lock.who()}; try again")
        self.labels = self._before = read_labels(self._directory)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.labels != self._before:
                text = json.dumps({"format": _FORMAT, **asdict(self.labels)}, indent=2, ensure_ascii=False)
                write_atomically(self._directory / LABELS, text.encode() + b"\n")
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._lock.release()

    def _refused(self, error: OSError) -> RunDirError:
        reason = error.strerror or str(error)
        return RunDirError(f"the labels of run {self._directory.name} can't be written: {reason}")


def _checked_line(what: str, text: str) -> str:
    line = _encodable(what, text).strip()
    if len(line) > _LINE:
        raise ValueError(f"a {what} has at most {_LINE} characters, this one has {len(line)}")
    if not line.isprintable():
        raise ValueError(f"a {what} is one line without control characters, not {line!r}")
    return line


def _encodable(what: str, text: object) -> str:
    """Return a text as Unicode; an argument that is not UTF-8 has surrogates in it."""
    if not isinstance(text, str):
        raise ValueError(f"a {what} must be a text, not {text!r}")
    return text.encode("utf-8", "replace").decode()
