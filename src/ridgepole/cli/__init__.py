"""The command line: one file a verb, its body imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ridgepole import __version__

_RUN_HELP = "id, unique prefix, path, or 'latest'"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; nothing heavy is imported for it."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show full tracebacks")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print the result as JSON")
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--run-dir", metavar="DIR", help="the directory that holds runs")
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("file", metavar="FILE", help="the pipeline's TOML file")
    file.add_argument(
        "-s", "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a value"
    )

    allow: Any = {
        "metavar": "KEY",
        "action": "append",
        "default": [],
        "help": "go on although this key of the config has changed",
    }
    parser = argparse.ArgumentParser(
        prog="ridgepole",
        description="Run deep-learning experiments as pipelines.",
        epilog="Exit codes: 0 done, 1 failed, 2 the config or the call is wrong, 75 requeue, 130 Ctrl-C, 143 SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"ridgepole {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    run = verbs.add_parser("run", parents=[file, root, common], help="run a pipeline")
    run.add_argument("--resume", action="store_true", help="go on with the newest unfinished run, if there is one")
    run.add_argument("--allow-change", **allow)
    run.add_argument("--dry-run", action="store_true", help="show the resolved plan and stop")
    resume = verbs.add_parser("resume", parents=[root, common], help="go on with a run that did not finish")
    resume.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    resume.add_argument("--allow-change", **allow)
    resume.add_argument(
        "-s", "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a value"
    )
    verbs.add_parser(
        "check", parents=[file, as_json, common], help="find everything wrong that can be known without running"
    )
    new = verbs.add_parser("new", parents=[common], help="start a project that works")
    new.add_argument("name", metavar="NAME", help="the directory to make")
    new.add_argument("--template", choices=["minimal", "digits"], default="minimal", help="what to start from")

    _add_runs(verbs, root, as_json, common)
    _add_checkpoints(verbs, root, as_json, common)

    export = verbs.add_parser("export", parents=[root, common], help="replay a run into another backend or a table")
    export.add_argument("run", metavar="RUN", help=_RUN_HELP)
    export.add_argument("--to", choices=["tensorboard", "wandb", "csv", "parquet"], required=True, help="where to")
    export.add_argument("--out", metavar="DIR", help="the directory to write; export/<to> inside the run by default")

    _add_sweep(verbs, allow, root, as_json, common)
    devices = verbs.add_parser(
        "devices", parents=[as_json, common], help="every device, who uses it, what Device() would choose and why"
    )
    devices.add_argument(
        "--watch", metavar="SECONDS", nargs="?", type=_seconds, const=2.0, help="look again every SECONDS, 2 by default"
    )
    verbs.add_parser("doctor", parents=[as_json, common], help="what is installed, what is missing, how to get it")
    return parser


def _add_sweep(verbs: Any, allow: dict[str, Any], *parents: argparse.ArgumentParser) -> None:
    """The actions of `ridgepole sweep`."""
    sweep = verbs.add_parser("sweep", help="search the parameters of a pipeline").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    driven = argparse.ArgumentParser(add_help=False)
    driven.add_argument(
        "--executor", choices=["inline", "process", "ray", "slurm", "wandb"], help="where trials run; as the file says"
    )
    driven.add_argument("--workers", metavar="N", type=_positive, help="how many run at a time")
    driven.add_argument("--count", metavar="N", type=_positive, help="how many trials there are to be at most")
    driven.add_argument(
        "-s", "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a value"
    )
    driven.add_argument(
        "--no-report", dest="report", action="store_false", help="write no page about the sweep at its end"
    )
    start = sweep.add_parser("start", parents=[driven, *parents], help="start a sweep")
    start.add_argument("file", metavar="FILE", help="a sweep in TOML, YAML or JSON, or a pipeline with a [sweep] table")
    start.add_argument("--pipeline", metavar="FILE", help="the pipeline's TOML file, where the sweep names none")
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("sweep", metavar="SWEEP", nargs="?", help="id, unique prefix or path; the newest when left out")
    resume = sweep.add_parser(
        "resume", parents=[known, driven, *parents], help="go on with a sweep that did not finish"
    )
    resume.add_argument("--allow-change", **allow)
    sweep.add_parser("status", parents=[known, *parents], help="show the trials of a sweep")
    sweep.add_parser("best", parents=[known, *parents], help="show the best trial and how to reproduce it")
    report = sweep.add_parser("report", parents=[known, *parents], help="write a page and pictures of a sweep")
    report.add_argument("--output", metavar="DIR", help="the directory to write; 'report' in the sweep's by default")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _seconds(text: str) -> float:
    """A pause between two looks: long enough to look at, short enough for `time.sleep`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 86400")
    return value


def _add_runs(verbs: Any, root: argparse.ArgumentParser, *common: argparse.ArgumentParser) -> None:
    runs = verbs.add_parser("runs", help="list, show, compare and remove runs").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    runs.add_parser("ls", parents=[root, *common], help="list the runs, newest first")
    show = runs.add_parser("show", parents=[root, *common], help="show one run")
    show.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    diff = runs.add_parser("diff", parents=[root, *common], help="what two runs did differently")
    diff.add_argument("a", metavar="A", help=_RUN_HELP)
    diff.add_argument("b", metavar="B", help=_RUN_HELP)
    rm = runs.add_parser("rm", parents=[root, common[-1]], help="remove runs for good")
    rm.add_argument("runs", metavar="RUN", nargs="+", help=_RUN_HELP)
    gc = runs.add_parser(
        "gc", parents=[root, common[-1]], help="remove runs by a rule, leftovers, old cached processes"
    )
    gc.add_argument("--keep", metavar="N", type=_lazily("whole"), help="keep the newest N")
    gc.add_argument(
        "--older-than", metavar="AGE", type=_lazily("duration"), help="only those that ended before, as 30d"
    )
    gc.add_argument("--failed", action="store_true", help="only those that failed, crashed or were interrupted")
    gc.add_argument(
        "--cache-size", metavar="SIZE", type=_lazily("byte_count"), default="10G", help="what stays cached (10G)"
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    for verb in (rm, gc):
        verb.add_argument("--yes", action="store_true", help="don't ask")


def _add_checkpoints(verbs: Any, *common: argparse.ArgumentParser) -> None:
    kept = verbs.add_parser("checkpoints", help="list, show and verify the checkpoints of a run").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    for name, help_text in (
        ("ls", "list the checkpoints of a run, oldest first"),
        ("show", "what is in a checkpoint"),
        ("verify", "read checkpoints through and compare every byte with what was written; 1 where one is damaged"),
    ):
        action = kept.add_parser(name, parents=common, help=help_text)
        action.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
        if name != "ls":
            default = "latest" if name == "show" else None
            note = "'latest'" if name == "show" else "all"
            action.add_argument(
                "name", metavar="NAME", nargs="?", default=default, help=f"'latest', 'best', or a name; default: {note}"
            )


def _lazily(name: str) -> Callable[[str], Any]:
    """A conversion of `cli.removal`, which is imported when it is called."""

    def convert(text: str) -> Any:
        return getattr(importlib.import_module("ridgepole.cli.removal"), name)(text)

    return convert


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments without the program's name; those of the process when None.

    Returns:
        The exit code.
    """
    arguments = build_parser().parse_args(argv)
    verb = importlib.import_module(f"ridgepole.cli.{arguments.verb}")
    from ridgepole.cli.faults import guarded

    return guarded(verb.call, arguments)


if __name__ == "__main__":
    sys.exit(main())
