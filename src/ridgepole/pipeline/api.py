"""`Pipeline`: a pipeline described in Python or read from a file; both give the same plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ridgepole.errors import CheckpointError, ConfigError, Place, Problem, RunDirError
from ridgepole.pipeline.overlay import current_overlay

if TYPE_CHECKING:
    from ridgepole.pipeline.overlay import Overlay
    from ridgepole.pipeline.plan import Plan
    from ridgepole.pipeline.recipe import Path_, Recipe
    from ridgepole.pipeline.runner import RunResult


class Pipeline:
    """A pipeline's description: recipes, never instances, so that it can run more than once.

    ```python
    pipeline = Pipeline("digits", seed=7)
    pipeline.permanence("network", Network, width=64)
    pipeline.process("train", Train, epochs=5)
    result = pipeline.run()
    ```

    Args:
        name: Shown in lists of runs.
        package: The package, beside `directory`, in which types given by name are looked up.
        directory: Where `package` lies; the working directory when None.
        **settings: The other keys of the `[pipeline]` table: `seed`, `deterministic`, `logger`, `progress`,
            `checkpoint`, `grace_seconds`.
    """

    def __init__(
        self,
        name: str = "pipeline",
        *,
        package: str | None = None,
        directory: str | Path | None = None,
        **settings: Any,
    ) -> None:
        self._base: Recipe | None = None
        self._places: dict[Path_, Place] = {("pipeline",): _caller()}
        self._directory = Path(directory) if directory is not None else Path.cwd()
        self._tree: dict[str, dict[str, Any]] = {"pipeline": {"name": name}, "permanences": {}, "processes": {}}
        if package is not None:
            self._tree["pipeline"]["package"] = package
        self._tree["pipeline"] |= settings
        self._root: Path | None = None
        self._again: Callable[[Overlay | None], Recipe] | None = None
        self._overlay: Overlay | None = None

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        overrides: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
    ) -> Self:
        """Reads a pipeline from a file.

        Args:
            path: The TOML file.
            overrides: `key=value` texts, as behind `-s` on the command line.
            environ: What `${env:NAME}` reads; the process's environment when None.
            directory: Where the package of the pipeline is looked for; beside the file when None.

        Returns:
            The pipeline. Its types are not looked up yet: `check` and `run` do that.

        Raises:
            ConfigError: If the file can't be read, is no TOML, or a reference or override leads nowhere.
        """
        from ridgepole.config import parse_override, read
        from ridgepole.pipeline.convert import fresh
        from ridgepole.pipeline.recipe import from_document

        document, given = read(path), [parse_override(text) for text in overrides]
        variables = dict(os.environ) if environ is None else environ
        home = None if directory is None else Path(directory)

        def make(overlay: Overlay | None) -> Recipe:
            return from_document(document, given, variables, home, overlay)

        recipe = make(None)
        pipeline = cls(directory=recipe.directory)
        pipeline._base, pipeline._tree, pipeline._again = recipe, fresh(recipe.tree), make
        pipeline._root = Path(path).absolute().parent / "runs"
        return pipeline

    def permanence(self, name: str, cls: type | str, /, **keys: Any) -> Self:
        """Adds a permanence.

        Args:
            name: Its name in the pipeline.
            cls: Its class, or the name of a registered one.
            **keys: Its parameters, and the reserved keys of its table (`depends_on`, `ranks`, `params`).

        Returns:
            The pipeline, for chaining.

        Raises:
            ConfigError: If there is a permanence of that name.
        """
        return self._add("permanences", name, cls, keys)

    def process(self, name: str, cls: Any, /, **keys: Any) -> Self:
        """Adds a process: a `PipelineProcess` subclass, a function under `@process`, or a registered name.

        Args:
            name: Its name in the pipeline.
            cls: What does the work.
            **keys: Its parameters, and the reserved keys of its table (`needs`, `cache`, `retries`, `force`,
                `params`).

        Returns:
            The pipeline, for chaining.

        Raises:
            ConfigError: If there is a process of that name.
        """
        return self._add("processes", name, cls, keys)

    def check(self) -> list[Problem]:
        """Everything that can be known without running.

        Returns:
            All problems, warnings included; empty where there is nothing to say.
        """
        try:
            return list(self.plan().warnings)
        except ConfigError as error:
            return list(error.problems)

    def plan(self) -> Plan:
        """The checked plan.

        Raises:
            ConfigError: With all problems, if one of them is an error.
        """
        from ridgepole.pipeline.builder import build

        plan = build(self._as_recipe())
        return plan if plan.source else replace(plan, source=self._source())

    def run(self, root: str | Path | None = None) -> RunResult:
        """Runs the pipeline.

        Args:
            root: The directory that holds runs; `runs` beside the pipeline's file, or in the working directory
                for a pipeline that was built in Python.

        Returns:
            The result.

        Raises:
            ConfigError: If the description is wrong; nothing was started.
            RunDirError: If the run directory can't be made.
            BaseException: What a process or permanence raised, after every permanence was cleaned up.
        """
        from ridgepole.pipeline.runner import run

        overlay = self._overlay or current_overlay.get()
        if overlay is None:
            return run(self.plan(), self.root(root))
        plan = self.plan()
        result = _go_on(plan, overlay)
        return result or run(plan, self.root(overlay.root if root is None else root), overlay.started)

    def resume(
        self, run: str | Path = "latest", root: str | Path | None = None, allow_change: Sequence[str] = ()
    ) -> RunResult:
        """Lets a run of this pipeline go on from its newest checkpoint, in a new attempt of the same run.

        Processes that are done are not run again. What was logged after the checkpoint is hidden from readers.

        Args:
            run: Id, unique prefix, `latest`, or the path of a run directory.
            root: The directory that holds runs, as in `run`.
            allow_change: Keys of the resolved description that may differ from the stored one.

        Returns:
            The result.

        Raises:
            RunDirError: If there is no such run, it has finished, or it is running.
            ConfigError: If the pipeline is not what the run was; the message shows what differs.
            CheckpointError: If a checkpoint was written by a newer Ridgepole.
            BaseException: What a process or permanence raised, after every permanence was cleaned up.
        """
        import warnings

        from ridgepole.pipeline.runner import resume
        from ridgepole.rundir import find_run

        found = find_run(str(run), self.root(root))
        return resume(
            self.plan(), found.path, allow=allow_change, warn=lambda line: warnings.warn(line, UserWarning, 3)
        )

    def with_overlay(self, overlay: Overlay) -> Self:
        """Lays a sweep's parameters over this pipeline for good, as for a trial that is run again by itself."""
        self._overlay = overlay
        return self

    def root(self, root: str | Path | None = None) -> Path:
        """The directory that holds this pipeline's runs, unless another is given."""
        return Path(root) if root is not None else self._root or Path("runs")

    def to_toml(self) -> str:
        """The pipeline as the text of a TOML file.

        Raises:
            ConfigError: If a value has no TOML form.
        """
        from ridgepole.pipeline.totoml import to_toml

        return to_toml(self._as_recipe())

    def _add(self, section: str, name: str, cls: Any, keys: dict[str, Any]) -> Self:
        place = _caller(3)
        tables = self._tree.setdefault(section, {})
        if name in tables:
            kind = "permanence" if section == "permanences" else "process"
            raise ConfigError([Problem(f"there is a {kind} called {name!r} already", place)])
        self._places[(section, name)] = place
        tables[name] = {"type": cls, **keys}
        return self

    def _as_recipe(self) -> Recipe:
        from ridgepole.pipeline.recipe import Recipe, overlaid

        overlay = self._overlay or current_overlay.get()
        extended = len(self._places) > 1
        if overlay is not None and self._again is not None and not extended:
            return self._again(overlay)  # below the references, so that they see what the sweep has set
        recipe = self._base or Recipe(self._tree, self._place, self._directory)
        if self._base is not None and extended:  # read from a file, then extended here
            recipe = replace(recipe, tree=self._tree, place=self._place, source=None)
        return recipe if overlay is None else overlaid(recipe, overlay)

    def _source(self) -> bytes:
        """The text of `config.toml` for a pipeline that has no file of its own."""
        try:
            return self.to_toml().encode()
        except ConfigError as error:
            lines = [f"# {line}" for line in ("built in Python; no TOML form:", *str(error).splitlines())]
            return "\n".join(lines).encode("utf-8", "replace") + b"\n"

    def _place(self, path: Path_, key: bool) -> Place | None:
        inner = path
        while inner:
            if inner in self._places and len(inner) > 1:
                return self._places[inner]
            inner = inner[:-1]
        return self._base.place(path, key) if self._base else self._places[("pipeline",)]


def _go_on(plan: Plan, overlay: Overlay) -> RunResult | None:
    """Resumes the run of an earlier attempt of a trial; None where there is none, or it is no longer this pipeline."""
    from ridgepole.pipeline.runner import resume

    path = overlay.earlier()
    if path is None:
        return None
    begun: list[Path] = []

    def announce(directory: Path) -> None:
        begun.append(directory)
        overlay.started(directory)

    try:
        return resume(plan, path, announce=announce, warn=overlay.say)
    except (ConfigError, RunDirError, CheckpointError) as error:
        if begun:
            raise
        overlay.say(f"the trial starts anew, because run {path.name} can't go on: {error}")
        return None


def _caller(depth: int = 2) -> Place:
    """The line of the user's code that called, so that a problem of a pipeline built in Python has a place too."""
    import linecache

    frame = sys._getframe(depth)  # noqa: SLF001 - inspect.stack() reads every file on the way up
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).rstrip("\n")
    indent = len(text) - len(text.lstrip())
    return Place(file, line, indent + 1, text, max(1, len(text.strip())))
