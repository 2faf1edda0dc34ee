"""Artifacts: named, numbered sets of files, kept in the run that logs them."""

from __future__ import annotations

import contextlib
import enum
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from ridgepole import rundir
from ridgepole.errors import TrackerError
from ridgepole.wandb.media import Table

MANIFEST = "manifest.json"


class ArtifactTTL(enum.Enum):
    """The time for which W&B keeps an artifact; ours stay until their run is removed."""

    INHERIT = 0


class Entry:
    """A file of an artifact.

    Attributes:
        path: Its name in the artifact.
        size: Its size in bytes.
    """

    def __init__(self, artifact: Artifact, path: str) -> None:
        self._artifact, self.path = artifact, path
        self.size = artifact.entries[path].stat().st_size

    @property
    def name(self) -> str:
        """Its name in the artifact."""
        return self.path

    def download(self, root: Any = None, **more: Any) -> str:
        """Copy the file below a directory, as `Artifact.download` does; return its path."""
        del more
        return str(Path(self._artifact.copied([self.path], root), self.path))


class Artifact:
    """A set of files with a name and a type.

    Args:
        name: Its name.
        type: A word for what it is, such as `"model"`.
        description: A text about it.
        metadata: Plain values.
        **more: Taken for W&B's sake; has no effect.

    Attributes:
        entries: The files by their names in the artifact.
        references: Addresses by name, which are noted and not read.
        version: `v0` and so on, once it was logged.
        aliases: Other names of the version.
        tags: Taken for W&B's sake; has no effect, as `ttl` has none.
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - W&B's word
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        del more
        self.name, self.type, self.description = name, type, description
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.entries: dict[str, Path] = {}
        self.references: dict[str, str] = {}
        self.version = ""
        self.aliases: list[str] = []
        self.tags: list[str] = []
        self.ttl: Any = ArtifactTTL.INHERIT
        self._made: Path | None = None

    def add_file(self, local_path: Any, name: str | None = None, **more: Any) -> None:
        """Add a file.

        Raises:
            ValueError: If there is no such file.
        """
        del more
        path = Path(local_path)
        if not path.is_file():
            raise ValueError(f"the artifact {self.name!r} can't have {str(path)!r}: it is not a file")
        self.entries[name or path.name] = path

    def add_dir(self, local_path: Any, name: str | None = None, **more: Any) -> None:
        """Add all files of a directory.

        Raises:
            ValueError: If there is no such directory.
        """
        del more
        folder = Path(local_path)
        if not folder.is_dir():
            raise ValueError(f"the artifact {self.name!r} can't have {str(folder)!r}: it is not a directory")
        prefix = f"{name}/" if name else ""
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            self.entries[prefix + path.relative_to(folder).as_posix()] = path

    @contextlib.contextmanager
    def new_file(self, name: str, mode: str = "w", encoding: str | None = None) -> Iterator[IO[Any]]:
        """Add a file that the block of a `with` statement writes."""
        if self._made is None:
            self._made = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, self._made, ignore_errors=True)
        path = self._made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding=encoding) as file:
            yield file
        self.entries[name] = path

    def add(self, obj: Any, name: str) -> None:
        """Add a table, as JSON with its columns and data."""
        with self.new_file(f"{name}.table.json") as file:
            json.dump({"columns": obj.columns, "data": obj.data}, file, default=str)

    def add_reference(self, uri: Any, name: str | None = None, **more: Any) -> None:
        """Note an address, without reading what is there."""
        del more
        self.references[name or str(uri).rpartition("/")[2]] = str(uri)

    def wait(self, timeout: int | None = None) -> Artifact:
        """Return the artifact: it is kept already."""
        del timeout
        return self

    finalize = wait

    @property
    def qualified_name(self) -> str:
        """Name and version."""
        return f"{self.name}:{self.version}" if self.version else self.name

    @property
    def state(self) -> str:
        """`COMMITTED` once it was logged, `PENDING` before."""
        return "COMMITTED" if self.version else "PENDING"

    @property
    def size(self) -> int:
        """The size of all its files in bytes."""
        return sum(entry.size for entry in self.files())

    @property
    def file_count(self) -> int:
        """The number of its files."""
        return len(self.entries)

    def is_draft(self) -> bool:
        """Return whether it was not logged yet."""
        return not self.version

    def files(self, names: Iterable[str] | None = None, per_page: int = 50) -> list[Entry]:
        """Return its files, or those of some names."""
        del per_page
        wanted = None if names is None else {*names}
        return [Entry(self, name) for name in self.entries if wanted is None or name in wanted]

    def get_entry(self, name: str) -> Entry:
        """Return a file by its name in the artifact.

        Raises:
            KeyError: If the artifact has no such file.
        """
        if name not in self.entries:
            raise KeyError(f"the artifact {self.name!r} has no file {name!r}")
        return Entry(self, name)

    get_path = get_entry

    def get(self, name: str) -> Any:
        """Return the table that was added under a name, or None."""
        path = self.entries.get(f"{name}.table.json")
        if path is None:
            return None
        kept = json.loads(path.read_text())
        return Table(columns=kept["columns"], data=kept["data"])

    def remove(self, item: Any) -> None:
        """Take a file or a directory out of it.

        Raises:
            FileNotFoundError: If it has neither.
        """
        name = item.path if isinstance(item, Entry) else str(item).rstrip("/")
        gone = [each for each in self.entries if each == name or each.startswith(f"{name}/")]
        if not gone:
            raise FileNotFoundError(f"the artifact {self.name!r} has no file {name!r}")
        for each in gone:
            del self.entries[each]

    def manifest(self, aliases: list[str]) -> dict[str, Any]:
        """Return what is noted beside the files."""
        return {
            "name": self.name,
            "type": self.type,
            "version": self.version,
            "description": self.description,
            "metadata": self.metadata,
            "aliases": aliases,
            "files": sorted(self.entries),
            "references": self.references,
        }

    def download(self, root: Any = None, **more: Any) -> str:
        """Copy the files to a directory; return it.

        Args:
            root: The directory; `artifacts/NAME:VERSION` when None.
            **more: Taken for W&B's sake; has no effect.
        """
        del more
        return self.copied(self.entries, root)

    def copied(self, names: Iterable[str], root: Any) -> str:
        """Copy some of its files to a directory, as `download` does; return the directory."""
        folder = Path(root) if root is not None else Path("artifacts", f"{self.name}:{self.version}")
        for name in names:
            path, target = self.entries[name], folder / name
            if folder.absolute() not in target.absolute().parents or ".." in target.parts:
                raise TrackerError(f"the artifact {self.name!r} names a file outside of it: {name!r}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return str(folder)

    def file(self, root: Any = None) -> str:
        """Copy the only file; return its path."""
        if len(self.entries) != 1:
            raise ValueError(f"the artifact {self.name!r} has {len(self.entries)} files, not one")
        return str(Path(self.download(root), next(iter(self.entries))))


def kept_versions(root: Path, name: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, Path]]]:
    """Yield run, manifest and files of each version of an artifact, newest first."""
    for run in rundir.list_runs(root):
        lines = [line for line in rundir.read_lines(run.path / rundir.MEDIA) if line.get("kind") == "artifact"]
        files = {str(line["name"]): run.path / str(line["file"]) for line in lines if "file" in line}
        for label in reversed([label for label in files if label.endswith(f"/{MANIFEST}")]):
            prefix = label.removesuffix(MANIFEST)
            if prefix.partition(":")[0] != name:
                continue
            with contextlib.suppress(OSError, ValueError):
                manifest = orjson.loads(files[label].read_bytes())
                entries = {key[len(prefix) :]: path for key, path in files.items() if key.startswith(prefix)}
                entries.pop(MANIFEST)
                yield run.path, manifest, entries


def find_artifact(root: Path, spec: str) -> Artifact:
    """Find an artifact by `NAME`, `NAME:v3`, `NAME:latest` or another alias.

    Raises:
        TrackerError: If no run has it.
    """
    name, _, version = spec.rpartition("/")[2].partition(":")
    for _, manifest, entries in kept_versions(root, name):
        if version in ("", "latest", manifest["version"], *manifest["aliases"]):
            found = Artifact(name, manifest["type"], manifest["description"], manifest["metadata"])
            found.entries, found.references, found.version = entries, manifest["references"], manifest["version"]
            found.aliases = list(manifest["aliases"])
            return found
    raise TrackerError(f"no run in {root} has the artifact {spec!r}; W&B's own artifacts need W&B's client")
