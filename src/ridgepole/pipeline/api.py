"""`Pipeline`: a pipeline described in Python or read from a file; both give the same plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from ridgepole.errors import CheckpointError, ConfigError, Place, Problem, RunDirError
from ridgepole.labels import checked
from ridgepole.pipeline.trial_hook import TrialHook, current_hook
from ridgepole.project import plain_path

if TYPE_CHECKING:
    from ridgepole.pipeline.run.attempt import RunResult
    from ridgepole.pipeline.spec.plan import Plan
    from ridgepole.pipeline.spec.spec import Path_, PipelineSpec


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
        directory: The directory of `package`; the working directory when None.
        notify: The `[notify]` table: where alerts are sent.
        **settings: The other keys of the `[pipeline]` table: `seed`, `deterministic`, `logger`,
            `progress`, `checkpoint`, `grace_seconds`, `guard`, `mirror`, `tags`.
    """

    def __init__(
        self,
        name: str = "pipeline",
        *,
        package: str | None = None,
        directory: str | Path | None = None,
        notify: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        table = {"name": name} | ({} if package is None else {"package": package}) | settings
        directory = plain_path(Path.cwd() if directory is None else directory)
        tree = {"pipeline": table, "permanences": {}, "processes": {}} | ({} if notify is None else {"notify": notify})
        self._source: _Source = _Builder(tree, directory, None, _caller())
        self._root: Path | None = None
        self._hook: TrialHook | None = None

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        overrides: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        directory: str | Path | None = None,
    ) -> Self:
        """Read a pipeline from a file.

        Args:
            path: The TOML file.
            overrides: `key=value` texts, as after `-s` on the command line.
            environ: The variables that `${env:NAME}` reads; the process's environment when None.
            directory: Where the package of the pipeline is looked for; beside the file when None.

        Returns:
            The pipeline. Its types are not looked up yet: `check` and `run` do that.

        Raises:
            ConfigError: If the file can't be read or is not TOML, or a reference or override can't
                be resolved.
        """
        from ridgepole.config import parse_override, read
        from ridgepole.pipeline.spec.spec import from_document

        file = plain_path(path)  # before any code of the user's is imported, which may change the directory
        document, given = read(path), [parse_override(text) for text in overrides]
        variables = dict(os.environ) if environ is None else environ
        home = file.parent if directory is None else plain_path(directory)
        pipeline = cls()
        pipeline._source = _File(lambda hook: replace(from_document(document, given, variables, home, hook), file=file))
        pipeline._root = file.parent / "runs"
        return pipeline

    def permanence(self, name: str, cls: type | str, /, **keys: Any) -> Self:
        """Add a permanence.

        Args:
            name: Its name in the pipeline.
            cls: Its class, or the name of a registered one.
            **keys: Its parameters, and the reserved keys of its table (`depends_on`, `ranks`,
                `params`).

        Returns:
            The pipeline, for chaining.

        Raises:
            ConfigError: If there is a permanence of that name.
        """
        return self._add("permanences", name, cls, keys)

    def process(self, name: str, cls: Any, /, **keys: Any) -> Self:
        """Add a process.

        Args:
            name: Its name in the pipeline.
            cls: A `PipelineProcess` subclass, a function under `@process`, or a registered name.
            **keys: Its parameters, and the reserved keys of its table (`needs`, `cache`, `retries`,
                `force`, `params`).

        Returns:
            The pipeline, for chaining.

        Raises:
            ConfigError: If there is a process of that name.
        """
        return self._add("processes", name, cls, keys)

    def check(self) -> list[Problem]:
        """Check everything that can be known without running.

        Returns:
            All problems, warnings included; empty if there are none.
        """
        try:
            return list(self.plan().warnings)
        except ConfigError as error:
            return list(error.problems)

    def plan(self) -> Plan:
        """Return the checked plan.

        Raises:
            ConfigError: With all problems, if one of them is an error.
        """
        from ridgepole.pipeline.spec.compile import compile_plan

        plan = compile_plan(self._spec())
        return plan if plan.source else replace(plan, source=self._toml_or_comment())

    def run(
        self, root: str | Path | None = None, *, name: str = "", tags: Sequence[str] = (), note: str = ""
    ) -> RunResult:
        """Run the pipeline.

        Args:
            root: The directory that holds runs; `runs` beside the pipeline's file, or in the
                working directory for a pipeline that was built in Python.
            name: A name of the run, shown beside its id.
            tags: Words by which the run is found, in addition to the `tags` of the pipeline.
            note: A text of any number of lines about the run.

        Returns:
            The result.

        Raises:
            ConfigError: If the description is wrong; nothing was started.
            RunDirError: If the run directory can't be created.
            ValueError: If the name, a tag or the note is not valid.
            BaseException: The error of a process or permanence, after every permanence was cleaned
                up.
        """
        from ridgepole.pipeline.run.attempt import run

        labels = checked(name=name, tags=tags, note=note)
        plan, hook = replace(self.plan(), labels=labels), self._current_hook()
        if hook is None:
            return run(plan, self.root(root))
        result = _resume_trial(plan, hook)
        return result or run(plan, self.root(hook.root if root is None else root), hook.run_started)

    def resume(
        self,
        run: str | Path = "latest",
        root: str | Path | None = None,
        allow_change: Sequence[str] = (),
        *,
        checkpoint: str | None = None,
        skip_batches: Sequence[str] | None = None,
    ) -> RunResult:
        """Resume a run of this pipeline from its newest checkpoint, in a new attempt.

        Processes that are done are not run again. Data logged after the checkpoint is hidden from
        readers.

        Args:
            run: Id, unique prefix, path of a run directory, or `latest`: the newest run of this
                pipeline's project.
            root: The directory that holds runs, as in `run`.
            allow_change: Keys of the resolved description that may differ from the stored one.
            checkpoint: An earlier checkpoint to go back to: `best`, a name or a number. Newer ones
                are put aside.
            skip_batches: Ranges of batches to leave out, such as `["120:130"]` for 120 to 129. They
                are counted from 0 in the loop that continues; `["none"]` takes back those of an
                earlier attempt.

        Returns:
            The result.

        Raises:
            RunDirError: If the run is not found, has finished, or is running.
            ConfigError: If the pipeline differs from that of the run; the message shows the
                differences.
            CheckpointError: If a checkpoint was written by a newer Ridgepole, or the chosen one
                does not exist or can't be continued from.
            BaseException: The error of a process or permanence, after every permanence was cleaned
                up.
        """
        import warnings

        from ridgepole.pipeline.run.attempt import resume
        from ridgepole.rundir import find_run

        root, plan = self.root(root), self.plan()
        found = find_run(str(run), root, plan.directory)
        return resume(
            plan,
            found.path,
            allow=allow_change,
            which=checkpoint,
            skip_batches=skip_batches,
            warn=lambda line: warnings.warn(line, UserWarning, 3),
        )

    def fork(
        self,
        run: str | Path = "latest",
        checkpoint: str = "latest",
        root: str | Path | None = None,
        *,
        name: str = "",
        tags: Sequence[str] = (),
        note: str = "",
    ) -> RunResult:
        """Run the pipeline as a new run, from a checkpoint of another one.

        The new run begins with the states and the metrics of the other one up to the checkpoint.
        If this pipeline changes parameters of a process that was done just then, that process
        continues: with more epochs, for example.

        Args:
            run: Id, unique prefix, path of a run directory, or `latest`: the newest run of this
                pipeline's project.
            checkpoint: `latest`, `best` by the metric of `keep_best`, a name or a number.
            root: The directory that holds runs, as in `run`.
            name: A name of the new run, shown beside its id.
            tags: Words by which the new run is found, in addition to the `tags` of the pipeline.
            note: A text of any number of lines about the new run.

        Returns:
            The result.

        Raises:
            RunDirError: If the run is not found, or is running.
            ConfigError: If the pipeline is wrong, a change does not fit the checkpoint, or nothing
                is left to run.
            CheckpointError: If the checkpoint does not exist, is damaged, or can't be continued
                from.
            ValueError: If the name, a tag or the note is not valid.
            BaseException: The error of a process or permanence, after every permanence was cleaned
                up.
        """
        import warnings

        from ridgepole.pipeline.run.attempt import fork
        from ridgepole.rundir import find_run

        labels = checked(name=name, tags=tags, note=note)
        root, plan = self.root(root), replace(self.plan(), labels=labels)
        found = find_run(str(run), root, plan.directory)
        return fork(plan, found.path, root, which=checkpoint, warn=lambda line: warnings.warn(line, UserWarning, 3))

    def for_trial(self, hook: TrialHook) -> Self:
        """Set a trial's parameters for good, as for a trial that is run again by itself."""
        self._hook = hook
        return self

    def root(self, root: str | Path | None = None) -> Path:
        """Return the directory that holds this pipeline's runs, unless another is given."""
        return Path(root) if root is not None else self._root or Path("runs")

    def to_toml(self) -> str:
        """Return the pipeline as the text of a TOML file.

        Raises:
            ConfigError: If a value has no TOML form.
        """
        from ridgepole.pipeline.spec.export_toml import to_toml

        return to_toml(self._spec())

    def _add(self, section: str, name: str, cls: Any, keys: dict[str, Any]) -> Self:
        builder = self._source.builder()
        builder.add(section, name, {"type": cls, **keys}, _caller(3))
        self._source = builder
        return self

    def _current_hook(self) -> TrialHook | None:
        return self._hook or current_hook.get()

    def _spec(self) -> PipelineSpec:
        return self._source.spec(self._current_hook())

    def _toml_or_comment(self) -> bytes:
        """Return the text of `config.toml` for a pipeline that has no file of its own."""
        try:
            return self.to_toml().encode()
        except ConfigError as error:
            lines = [f"# {line}" for line in ("built in Python; no TOML form:", *str(error).splitlines())]
            return "\n".join(lines).encode("utf-8", "replace") + b"\n"


class _Source(Protocol):
    """The origin of a pipeline's description."""

    def spec(self, hook: TrialHook | None) -> PipelineSpec:
        """Return the description, with a trial's parameters."""
        ...

    def builder(self) -> _Builder:
        """Return a builder that can be extended."""
        ...


class _File:
    """A pipeline from a file. `make` applies a trial's parameters below its references."""

    def __init__(self, make: Callable[[TrialHook | None], PipelineSpec]) -> None:
        self._make, self._plain = make, make(None)

    def spec(self, hook: TrialHook | None) -> PipelineSpec:
        return self._plain if hook is None else self._make(hook)

    def builder(self) -> _Builder:
        from ridgepole.pipeline.spec.convert import fresh

        return _Builder(fresh(self._plain.tree), self._plain.directory, self._plain, None)


class _Builder:
    """A pipeline that is built, or extended, in Python."""

    def __init__(
        self, tree: dict[str, Any], directory: Path, base: PipelineSpec | None, created_at: Place | None
    ) -> None:
        self._tree, self._directory, self._base, self._created_at = tree, directory, base, created_at
        self._places: dict[tuple[str | int, ...], Place] = {}

    def add(self, section: str, name: str, table: dict[str, Any], place: Place) -> None:
        tables = self._tree.setdefault(section, {})
        if name in tables:
            kind = "permanence" if section == "permanences" else "process"
            raise ConfigError([Problem(f"there is a {kind} called {name!r} already", place)])
        self._places[(section, name)] = place
        tables[name] = table

    def builder(self) -> _Builder:
        return self

    def spec(self, hook: TrialHook | None) -> PipelineSpec:
        from ridgepole.pipeline.spec.spec import PipelineSpec, with_trial

        if self._base is None:
            spec = PipelineSpec(tree=self._tree, place=self._place, directory=self._directory)
        else:
            spec = replace(self._base, tree=self._tree, place=self._place, source=None)
        return spec if hook is None else with_trial(spec, hook)

    def _place(self, path: Path_, key: bool) -> Place | None:
        place = self._places.get(path[:2])
        if place is not None:
            return place
        return self._base.place(path, key) if self._base is not None else self._created_at


def _resume_trial(plan: Plan, hook: TrialHook) -> RunResult | None:
    """Resume the run of a trial's earlier attempt; None without one, or if it can't resume."""
    from ridgepole.pipeline.run.attempt import resume

    path = hook.earlier_run()
    if path is None:
        return None
    begun: list[Path] = []

    def announce(directory: Path) -> None:
        begun.append(directory)
        hook.run_started(directory)

    try:
        return resume(plan, path, announce=announce, warn=hook.warn)
    except (ConfigError, RunDirError, CheckpointError) as error:
        if begun:
            raise
        hook.warn(f"the trial starts from scratch, because run {path.name} can't be resumed: {error}")
        return None


def _caller(depth: int = 2) -> Place:
    """Return the calling line of user code: the place of problems of a pipeline built in Python."""
    import linecache

    frame = sys._getframe(depth)  # noqa: SLF001 - inspect.stack() reads every file on the way up
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).rstrip("\n")
    indent = len(text) - len(text.lstrip())
    return Place(file, line, indent + 1, text, max(1, len(text.strip())))
