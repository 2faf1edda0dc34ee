"""One trial of a sweep over a program: its child process, its metrics, its end."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgepole import rundir
from ridgepole.errors import SweepError, TrialPruned
from ridgepole.files import write_atomically
from ridgepole.scripts.child import Child
from ridgepole.scripts.follow import EventSource, LineSource, OpenFiles, RecordSource, Row, Source, WandbSource
from ridgepole.scripts.history import LiveRecord, copying_environ
from ridgepole.scripts.record import Script, ScriptRecord, describe, ending, how_it_ended
from ridgepole.scripts.supervise import script_environ, watch_child
from ridgepole.sweeps.run.program_card import program_card
from ridgepole.sweeps.run.trial import Trial
from ridgepole.sweeps.spec.program import nested
from ridgepole.threads import start_thread
from ridgepole.watch.console import Console

if TYPE_CHECKING:
    from ridgepole.sweeps.run.program import ProgramTarget

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 0.5  # time between two looks at the program's open files
_MOST_WAITING = 100_000  # rows that come before the metric
_PARAMS = "wandb-params.json"
_ARGS = "args.json"


def wandb_environ(path: Path, trial: Trial, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables with which W&B's client works off line, with a trial's parameters.

    What W&B's own service has set, or the user, is kept.
    """
    wanted = {
        "WANDB_SILENT": "true",
        **copying_environ(),
    }
    set_already = {name: os.environ[name] for name in wanted if name in os.environ}
    if "WANDB_SWEEP_ID" in trial.spec.environ:
        # By its files there, the driver knows that the program's own client logs the trial
        return wanted | {"WANDB_DIR": os.environ.get("WANDB_DIR", str(path))} | set_already
    table = {"wandb_version": 1} | {name: {"value": value} for name, value in parameters.items()}
    write_atomically(path / _PARAMS, json.dumps(table, default=str).encode())
    mode = os.environ.get("WANDB_MODE", "offline")
    own = {
        "WANDB_MODE": mode,
        "WANDB_DIR": str(path),
        "WANDB_RUN_ID": path.name,
        "WANDB_SWEEP_PARAM_PATH": str(path / _PARAMS),
    }
    if mode != "online":
        own["WANDB_SWEEP_ID"] = trial.spec.sweep
    return wanted | set_already | own


class ProgramTrial:
    """One attempt of a trial that runs a program."""

    def __init__(self, target: ProgramTarget, trial: Trial) -> None:
        self._target, self._trial = target, trial
        self._changed = threading.Event()
        self._chosen: Source | None = None
        self._waiting: dict[Source, deque[Row]] = {}
        self._live: LiveRecord | None = None

    def ask_to_stop(self, stop: KeyboardInterrupt) -> None:
        """Wake the loop; the trial knows of the stop."""
        del stop
        self._changed.set()

    def run(self) -> None:
        """Run the program to its end, or until it is to stop."""
        trial, target = self._trial, self._target
        spec = trial.spec
        label = {"id": spec.sweep, "trial": spec.number, "attempt": spec.attempt, "values": dict(spec.values)}
        script = Script(name=self._name, command=(), directory=target.directory, file=self._file)
        if spec.resume:
            record = ScriptRecord.reopen(Path(spec.resume), trial=label)
        else:
            record = ScriptRecord.create(self._with_command(script, Path("args.json")), Path(target.root), trial=label)
        trial.run_started(record.path)
        status, fields = "failed", dict[str, Any]()
        try:
            describe(record.path, config=trial.params, seed=None)
            script = self._with_command(script, record.path / _ARGS)
            record.fields["script"]["command"] = script.shown()
            with program_card(record.path.name) as card:
                status, fields = self._run(script, record, card)
        finally:
            fields["objective"] = {"count": trial.count, "best": trial.best, "latest": trial.latest}
            record.end(status, **fields)
        error = fields.get("error")
        if status == "pruned":
            raise TrialPruned("pruned by the sweep")
        if status == "interrupted":
            raise trial.pending_stop() or KeyboardInterrupt
        if error is not None:
            raise SweepError(f"{error['message']}; see {record.path / rundir.CONSOLE}")

    @property
    def _name(self) -> str:
        program = self._target.program
        return Path(program.program or program.command[0]).stem

    @property
    def _file(self) -> str | None:
        name = self._target.program.program
        return None if name is None else str(Path(self._target.directory, name))

    def _with_command(self, script: Script, json_file: Path) -> Script:
        target = self._target
        words = target.program.words(self._trial.params, interpreter=target.interpreter, json_file=str(json_file))
        return Script(name=script.name, command=tuple(words), directory=script.directory, file=script.file)

    def _run(self, script: Script, record: ScriptRecord, card: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
        """Run the program; return the status of its run and further fields of the record."""
        target, trial, path = self._target, self._trial, record.path
        given = nested(target.program.parameters, trial.params)
        if target.program.uses_json_file:
            write_atomically(path / _ARGS, json.dumps(given, default=str).encode())
        resumed = record.fields["attempt"] > 1
        environ = script_environ(path, resume=resumed) | wandb_environ(path, trial, given) | dict(card)
        environ.setdefault("PYTHONUNBUFFERED", "1")
        environ.pop("WANDB_SERVICE", None)  # of a client around this process
        console = Console(path / rundir.CONSOLE)
        lines = LineSource()
        record_source = RecordSource(path)  # before the program adds to it
        child = Child(script.command, console, environ=environ, cwd=target.directory, own_group=True, tap=lines.feed)
        start_thread(threading.Thread(target=self._wait, args=(child,), name="ridgepole-program", daemon=True))
        recorder = watch_child(record, child.pid)
        stop = None
        files = OpenFiles(child.pid, Path(target.directory), path)
        # A printed metric is a last resort: only if the sweep says so
        sources: list[Source] = (
            [lines] if target.program.prints_metric else [record_source, WandbSource(files), EventSource(files)]
        )
        self._live = LiveRecord(path, attempt=record.fields["attempt"])
        self._waiting = {source: deque(maxlen=_MOST_WAITING) for source in sources if source is not record_source}
        trial.enter(self)
        try:
            try:
                stop = self._follow(child, files, sources)
                if stop is not None:
                    child.terminate(target.grace_seconds)
            finally:
                trial.leave(self)
                child.kill()  # and what it has left behind
                child.process.wait()
                recorder.close()
                child.close()
            self._finish(files, sources)
        finally:
            self._live.close()
        return self._ended(child.process.returncode, stop, console, script)

    def _wait(self, child: Child) -> None:
        child.process.wait()
        self._changed.set()

    def _follow(self, child: Child, files: OpenFiles, sources: list[Source]) -> KeyboardInterrupt | None:
        """Take in what the program logs until it ends; return a stop that comes before."""
        looked = 0.0
        while child.process.poll() is None:
            stop = self._trial.pending_stop()
            if stop is not None:
                return stop
            if time.monotonic() - looked >= _LOOK_SECONDS and len(sources) > 1:
                files.look()
                looked = time.monotonic()
            self._note(sources)
            self._changed.wait(_POLL_SECONDS)
            self._changed.clear()
        return None

    def _finish(self, files: OpenFiles, sources: list[Source]) -> None:
        """Take in the rest, also of files that were opened and closed between two looks."""
        self._note(sources)
        if self._chosen is None:
            files.search()
            self._note(sources)
        for source in sources:
            self._take(source, source.close())

    def _note(self, sources: list[Source]) -> None:
        for source in sources:
            self._take(source, source.poll())

    def _take(self, source: Source, rows: Iterator[Row]) -> None:
        """Pass values to the trial; the metric counts from the first library that logs it.

        That library's rows are copied into the run's own record, as for any script.
        """
        metrics = self._target.metrics or ([self._target.metric] if self._target.metric is not None else [])
        names = {metric.name for metric in metrics}
        for row in rows:
            if source in self._waiting and self._chosen in (None, source):
                self._waiting[source].append(row)
            for name, value in row.values.items():
                if name in names and isinstance(value, int | float):
                    self._chosen = self._chosen or source
                    if self._chosen is not source:
                        continue
                self._trial.note(name, value)
            self._copy()

    def _copy(self) -> None:
        """Copy the rows of the library that logs the metric."""
        if self._chosen is None or self._live is None:
            return
        waiting = self._waiting.get(self._chosen, ())
        while waiting:
            self._live.append(waiting.popleft())

    def _ended(
        self, code: int, stop: KeyboardInterrupt | None, console: Console, script: Script
    ) -> tuple[str, dict[str, Any]]:
        _, fields = ending(code)
        if isinstance(stop, TrialPruned):
            return "pruned", fields
        if stop is not None:
            return "interrupted", fields
        if code == 0:
            return "finished", fields
        line = console.error_line()
        message = f"{how_it_ended(script.name, code)}{': ' + line if line else ''}"
        if "api_key not configured" in console.tail() or "No API key configured" in console.tail():
            message = message.rstrip(".") + (
                ". The script asks W&B for mode='online', which needs a key: leave the mode out, or run `wandb login`"
            )
        fields["error"] = {"type": "Signal" if code < 0 else "ExitCode", "message": message}
        return "failed", fields
