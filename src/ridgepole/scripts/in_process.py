"""Run a script in this process, for debuggers: nothing but the record surrounds it."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

from ridgepole.errors import RunDirError, text_of, user_traceback
from ridgepole.script_context import RESUME, RUN_DIR
from ridgepole.scripts.record import Script, ScriptRecord


def run_in_process(script: Script, record: ScriptRecord, *, module: str | None, resume: bool) -> None:
    """Run a script's code in a fresh `__main__`, and record the end.

    The module stays `__main__` after the end, so that exit handlers and pickles find its names;
    `runpy` would take it away.

    Args:
        script: The script.
        record: Its run.
        module: The module to run, as `python -m` does; None for `script.file`.
        resume: Whether the script is to resume.

    Raises:
        BaseException: What the script raises.
    """
    os.environ[RUN_DIR] = str(record.path)
    os.environ.pop(RESUME, None)
    if resume:
        os.environ[RESUME] = "1"
    try:
        code, path, package = _code(script, module)
        main: Any = types.ModuleType("__main__")
        main.__file__, main.__builtins__, main.__package__ = path, builtins, package
        sys.modules["__main__"] = main
        sys.argv[:] = [path, *script.arguments]
        sys.path[:1] = [str(Path.cwd()) if module else str(Path(path).parent)]
        exec(code, vars(main))  # noqa: S102 - the user's own script
    except BaseException as error:
        exit_code = _exit_code(error)
        status = "finished" if exit_code == 0 else "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        told = None
        if status != "finished":
            told = {"type": type(error).__name__, "message": text_of(error), "traceback": user_traceback(error)}
        record.end(status, exit_code=exit_code, error=told)
        raise
    record.end("finished", exit_code=0)


def _code(script: Script, module: str | None) -> tuple[types.CodeType, str, str]:
    if module is None:
        assert script.file is not None
        return compile(Path(script.file).read_bytes(), script.file, "exec"), script.file, ""
    sys.path.insert(0, str(Path.cwd()))
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise RunDirError(f"no module named {module!r} can be run")
    return compile(Path(spec.origin).read_bytes(), spec.origin, "exec"), spec.origin, spec.parent or ""


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 130 if isinstance(error, KeyboardInterrupt) else 1
