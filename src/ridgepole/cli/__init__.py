"""The command line: one file for each verb, imported when the verb is called."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from ridgepole import __version__
from ridgepole.cli.submit_options import add_submit, with_action

_RUN_HELP = "id, unique prefix, name, path, or 'latest'"
_FILTER_HELP = """only runs that pass, as 'lr > 1e-3 and status == "finished"'"""

_OVERRIDES: Final[dict[str, Any]] = {
    "dest": "overrides",
    "metavar": "KEY=VALUE",
    "action": "append",
    "default": [],
    "help": "override a value; -s may be left out",
}


class _Parser(argparse.ArgumentParser):
    """A parser that says which of the choices a wrong one is like.

    The arguments have the parser of their verb as `parser`, whose usage an error shows.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
        if wrong is not None:
            from ridgepole.errors import did_you_mean  # only where an error needs it

            hint = did_you_mean(wrong[1], re.findall(r"[\w-]+", wrong[2]))
            message = f"{message}; {hint}" if hint else message
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line, without heavy imports."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show full tracebacks")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print the result as JSON")
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--runs-dir", metavar="DIR", help="the directory that holds runs")
    # Deprecated
    root.add_argument("--run-dir", dest="runs_dir", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("file", metavar="FILE", help="the pipeline's TOML file")
    file.add_argument("-s", "--set", **_OVERRIDES)

    allow: Any = {
        "metavar": "KEY",
        "action": "append",
        "default": [],
        "help": "resume although this key of the config has changed",
    }
    parser: argparse.ArgumentParser = _Parser(
        prog="ridgepole",
        description="Run deep-learning experiments as pipelines.",
        epilog="Exit codes: 0 done, 1 failed, 2 the config or the call is wrong, 75 requeue, 130 Ctrl-C, 143 SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=f"ridgepole {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    run = verbs.add_parser(
        "run",
        parents=[root, common],
        help="run a pipeline, or any script",
        usage="ridgepole run FILE.toml [-s KEY=VALUE] | SCRIPT.py | -m MODULE | PROGRAM [options] [-- ARGUMENT ...]",
    )
    run.add_argument("file", metavar="FILE", nargs="?", help="a pipeline's TOML file, a script, or a program")
    run.add_argument("-m", "--module", metavar="MODULE", help="run a module, as python -m does")
    run.add_argument("--in-process", action="store_true", help="run a script in this process, for debuggers")
    run.add_argument(
        "-s", "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a value"
    )
    run.add_argument("--resume", action="store_true", help="resume the newest unfinished run, if there is one")
    run.add_argument("--allow-change", **allow)
    run.add_argument("--dry-run", action="store_true", help="show the resolved plan and stop")
    _add_labels(run)
    resume = verbs.add_parser("resume", parents=[root, common], help="resume a run that did not finish")
    resume.add_argument("run", metavar="RUN", nargs="?", default="latest", help=f"{_RUN_HELP}, or URL")
    resume.add_argument("--allow-change", **allow)
    resume.add_argument(
        "--from", dest="start", metavar="CHECKPOINT", help="go back to this checkpoint, and put newer ones aside"
    )
    resume.add_argument(
        "--skip-batches",
        metavar="FIRST:END",
        action="append",
        help="leave out these batches of the loop that continues, such as 120:130 for 120 to 129",
    )
    resume.add_argument("-s", "--set", **_OVERRIDES)
    fork = verbs.add_parser(
        "fork", parents=[root, common], help="continue a run from a checkpoint as a new run, with other values"
    )
    fork.add_argument("run", metavar="RUN[@CHECKPOINT]", help=f"{_RUN_HELP}; else the newest checkpoint that fits")
    fork.add_argument("-s", "--set", **_OVERRIDES)
    _add_labels(fork)
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
    export.add_argument(
        "--to", metavar="TARGET", required=True, help="tensorboard, wandb, csv, parquet, or a plug-in's target"
    )
    export.add_argument("--output", metavar="DIR", help="the directory to write; by default export/<to> in the run")
    # Deprecated
    export.add_argument("--out", dest="output", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    taken = verbs.add_parser("import", parents=[root, common], help="import runs of another tracker as runs")
    taken.add_argument("path", metavar="PATH", help="the tracker's file or directory")
    taken.add_argument(
        "--from",
        dest="source",
        required=True,
        choices=["tensorboard", "wandb", "mlflow", "csv", "trackio"],
        help="the tracker",
    )
    taken.add_argument(
        "--column",
        dest="columns",
        metavar="ROLE=COLUMN",
        type=_column,
        action="append",
        default=[],
        help="of a CSV file: the column of step, time or run, as step=epoch; may be repeated",
    )

    mirror = verbs.add_parser("mirror", help="bring a run to its mirror, or back").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    push = mirror.add_parser("push", parents=[root, common], help="upload what the mirror of a run lacks")
    push.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    push.add_argument("--to", metavar="URL", help="the mirror; by default as the run's config says")
    pull = mirror.add_parser("pull", parents=[root, common], help="download a run with its checkpoints")
    pull.add_argument("url", metavar="URL", help="the run, such as s3://bucket/runs/ID")
    view = verbs.add_parser("view", parents=[root, common], help="show runs in the browser, live")
    view.add_argument("roots", metavar="DIR", nargs="*", help="directories or URLs of runs, or runs")
    view.add_argument("--port", metavar="N", type=_port, help="the port; by default 6464, else any free one")
    view.add_argument("--open", action="store_true", help="open the browser, too")
    view.add_argument(
        "--allow-host", metavar="NAME", action="append", default=[], help="a name of a proxy before this server"
    )
    view.add_argument("--socket", action="store_true", help="listen on a Unix socket of your own, on no port")

    report = verbs.add_parser("report", parents=[root, common], help="write the page of runs as one file")
    report.add_argument("runs", metavar="RUN", nargs="*", help=f"{_RUN_HELP}; all that are not archived by default")
    report.add_argument("--filter", metavar="EXPR", help=_FILTER_HELP)
    report.add_argument(
        "-o", "--output", metavar="FILE", default="report.html", help="the file; report.html by default"
    )
    report.add_argument("--open", action="store_true", help="open the browser, too")
    watch = verbs.add_parser("watch", parents=[root, common], help="show a run in the terminal, live")
    watch.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    watch.add_argument("--name", metavar="GLOB", action="append", default=[], help="draw only these, as 'val/*'")
    watch.add_argument("--interval", metavar="SECONDS", type=_seconds, default=1.0, help="look again every SECONDS")

    _add_sweep(verbs, allow, root, as_json, common)
    add_submit(verbs, root, as_json, common, overrides=_OVERRIDES, positive=_positive, add_labels=_add_labels)
    devices = verbs.add_parser(
        "devices", parents=[as_json, common], help="every device, who uses it, what Device() would choose and why"
    )
    devices.add_argument(
        "--watch", metavar="SECONDS", nargs="?", type=_seconds, const=2.0, help="look again every SECONDS, 2 by default"
    )
    verbs.add_parser("doctor", parents=[as_json, common], help="what is installed, what is missing, how to get it")
    return parser


def _add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the options that label a new run."""
    parser.add_argument("--name", metavar="NAME", default="", help="a name of the run, shown beside its id")
    parser.add_argument("--tag", dest="tags", metavar="TAG", action="append", default=[], help="a tag; may be repeated")
    parser.add_argument("--note", metavar="TEXT", default="", help="a note about the run")


def _add_sweep(verbs: Any, allow: dict[str, Any], *parents: argparse.ArgumentParser) -> None:
    """Add the actions of `ridgepole sweep`."""
    sweep = verbs.add_parser("sweep", help="search the parameters of a pipeline").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    driven = argparse.ArgumentParser(add_help=False)
    driven.add_argument(
        "--executor",
        metavar="NAME",
        type=_executor,
        help="where trials run: inline, process, ray, slurm, wandb, or a plug-in's; as the file says",
    )
    driven.add_argument("--workers", metavar="N", type=_positive, help="the number of trials that run at a time")
    driven.add_argument("--max-trials", metavar="N", type=_positive, help="the most trials of the sweep")
    driven.add_argument(
        "--count", dest="max_trials", type=_positive, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )  # deprecated
    driven.add_argument("-s", "--set", **_OVERRIDES)
    driven.add_argument("--no-report", dest="report", action="store_false", help="write no report page at the end")
    start = sweep.add_parser("start", parents=[driven, *parents], help="start a sweep")
    start.add_argument("file", metavar="FILE", help="a sweep in TOML, YAML or JSON, or a pipeline with a [sweep] table")
    start.add_argument("--pipeline", metavar="FILE", help="the pipeline's TOML file, where the sweep names none")
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("sweep", metavar="SWEEP", nargs="?", help="id, unique prefix or path; the newest when left out")
    resume = sweep.add_parser("resume", parents=[known, driven, *parents], help="resume a sweep that did not finish")
    resume.add_argument("--allow-change", **allow)
    again = sweep.add_parser("retry", parents=[driven, *parents], help="run failed trials of a sweep again")
    again.add_argument("sweep", metavar="SWEEP", help="id, unique prefix, path, or 'latest'")
    again.add_argument("trials", metavar="TRIAL", nargs="*", type=int, help="their numbers; all when left out")
    again.add_argument("--allow-change", **allow)
    edit = sweep.add_parser("edit", parents=[known, *parents], help="give a sweep more trials, or narrow its ranges")
    edit.add_argument("--max-trials", metavar="N", type=_positive, help="the most trials of the sweep from now on")
    edit.add_argument("--note", metavar="TEXT", help="the reason, for the history of the sweep")
    edit.add_argument(
        "-s",
        "--set",
        dest="overrides",
        metavar="PARAMETER.max=VALUE",
        action="append",
        default=[],
        help="narrow a range",
    )
    sweep.add_parser("ls", parents=[*parents], help="list the sweeps, newest first")
    sweep.add_parser("status", parents=[known, *parents], help="show the trials of a sweep")
    sweep.add_parser("best", parents=[known, *parents], help="show the best trial and how to reproduce it")
    report = sweep.add_parser("report", parents=[known, *parents], help="write a page and pictures of a sweep")
    report.add_argument("--output", metavar="DIR", help="the directory to write; 'report' in the sweep's by default")


def _executor(text: str) -> str:
    from ridgepole.sweeps.executor_registry import executor_names, executor_path

    if executor_path(text) is None:
        raise argparse.ArgumentTypeError(f"unknown executor {text!r}; available are {', '.join(executor_names())}")
    return text


def _column(text: str) -> tuple[str, str]:
    role, equals, column = text.partition("=")
    if not equals or role not in ("step", "time", "run"):
        raise argparse.ArgumentTypeError(f"expected step=, time= or run= and a column, got {text!r}")
    return role, column


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of alerts, such as 'next' of an answer, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    """Convert the pause between two updates; `time.sleep` takes it."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.1 to 86400, got {text!r}")
    return value


def _add_runs(verbs: Any, root: argparse.ArgumentParser, *common: argparse.ArgumentParser) -> None:
    runs = verbs.add_parser("runs", help="list, show, compare and remove runs").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    ls = runs.add_parser("ls", parents=[root, *common], help="list the runs, newest first, with what differs")
    ls.add_argument("url", metavar="URL", nargs="?", help="a mirror, such as s3://bucket/runs")
    ls.add_argument("--filter", metavar="EXPR", help=_FILTER_HELP)
    ls.add_argument("--sort", metavar="NAMES", help="by these columns; '-' before a name sorts downwards")
    ls.add_argument("--columns", metavar="NAMES", help="only these columns, as id,status,lr,loss.min")
    which = ls.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="archived runs, too")
    which.add_argument("--archived", action="store_true", help="only archived runs")
    compare = runs.add_parser("compare", parents=[root, *common], help="what several runs did differently, aligned")
    compare.add_argument("runs", metavar="RUN", nargs="*", help=f"{_RUN_HELP}; the newest ten by default")
    compare.add_argument("--filter", metavar="EXPR", help=_FILTER_HELP)
    compare.add_argument("--baseline", metavar="RUN", help="add the change against this run, in percent")
    compare.add_argument("--all", action="store_true", help="show what is equal, too")
    metrics = runs.add_parser("metrics", parents=[root, *common], help="print the values of a run, or what is new")
    metrics.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    metrics.add_argument(
        "--name", metavar="GLOB", action="append", default=[], help="only these, as 'val/*'; repeatable"
    )
    metrics.add_argument("--since", metavar="SEQ", help="only records after this one: 'next' of the answer before")
    alerts = runs.add_parser("alerts", parents=[root, *common], help="print the alerts of a run, or what is new")
    alerts.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    alerts.add_argument(
        "--since",
        metavar="N",
        type=_count,
        default=0,
        help="only alerts after the first N: 'next' of the answer before",
    )
    show = runs.add_parser("show", parents=[root, *common], help="show one run")
    show.add_argument("run", metavar="RUN", nargs="?", default="latest", help=_RUN_HELP)
    diff = runs.add_parser("diff", parents=[root, *common], help="what two runs did differently; see compare")
    diff.add_argument("a", metavar="A", help=_RUN_HELP)
    diff.add_argument("b", metavar="B", help=_RUN_HELP)
    tag = runs.add_parser("tag", parents=[root, common[-1]], help="add tags to a run, or remove them")
    tag.add_argument("run", metavar="RUN", help=_RUN_HELP)
    tag.add_argument("tags", metavar="TAG", nargs="+", help="a word")
    tag.add_argument("--remove", action="store_true", help="remove these tags")
    note = runs.add_parser("note", parents=[root, common[-1]], help="show or replace the note of a run")
    note.add_argument("run", metavar="RUN", help=_RUN_HELP)
    note.add_argument("text", metavar="TEXT", nargs="?", help="the new note; '-' reads it from stdin")
    rename = runs.add_parser("rename", parents=[root, common[-1]], help="give a run a name")
    rename.add_argument("run", metavar="RUN", help=_RUN_HELP)
    rename.add_argument("name", metavar="NAME", help="the name; '' removes it")
    archive = runs.add_parser("archive", parents=[root, common[-1]], help="leave runs out of lists")
    archive.add_argument("runs", metavar="RUN", nargs="+", help=_RUN_HELP)
    archive.add_argument("--undo", action="store_true", help="list them again")
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
    gc.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    for verb in (rm, gc):
        verb.add_argument("--yes", action="store_true", help="do not ask")


def _add_checkpoints(verbs: Any, *common: argparse.ArgumentParser) -> None:
    kept = verbs.add_parser(
        "checkpoints", help="list, show, verify and export the checkpoints of a run"
    ).add_subparsers(dest="action", metavar="ACTION", required=True)
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
    export = kept.add_parser("export", parents=common, help="write the weights of a checkpoint for other tools")
    export.add_argument(
        "run",
        metavar="RUN[@CHECKPOINT]",
        nargs="?",
        default="latest",
        help=f"{_RUN_HELP}; the newest checkpoint by default",
    )
    export.add_argument(
        "--to",
        choices=["safetensors", "torch", "hf"],
        required=True,
        help="model.safetensors; model.pt, a pickle; or model.safetensors with the state's config.json",
    )
    export.add_argument(
        "-o", "--output", metavar="DIR", help="the directory to write; by default the names of run and checkpoint"
    )
    export.add_argument("--permanence", metavar="NAME", help="whose weights, where several have some")
    export.add_argument("--key", metavar="KEY", help="their key in its state, where it has several models")


def _lazily(name: str) -> Callable[[str], Any]:
    """Return a conversion of `cli.removal`; the module is imported at the call."""

    def convert(text: str) -> Any:
        return getattr(importlib.import_module("ridgepole.cli.removal"), name)(text)

    return convert


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse the arguments; `KEY=VALUE` and `~KEY` stand for themselves wherever `-s` may stand."""
    arguments, rest = parser.parse_known_args(argv)
    if hasattr(arguments, "overrides"):
        first = getattr(arguments, "run", None) or getattr(arguments, "sweep", None)
        plain = [each for each in (first, *rest) if each and _is_override(each)]
        rest = [each for each in rest if each not in plain]
        if plain and not rest:
            at = 0
            for each in plain:
                at = argv.index(each, at)
                argv[at] = f"--set={each}"
            return parser.parse_args(argv)
        file = getattr(arguments, "file", None) or "x.toml"
        if _is_override(file) and not file.endswith(".toml"):
            arguments.parser.error(f"FILE comes first, then {_masked(file, whole=True)}")
    if rest:
        several = any(each.startswith("-m") or each == "--multirun" for each in rest)
        hint = "; a sweep tries several values: ridgepole sweep start" if several else ""
        if str(getattr(arguments, "file", "")).endswith(".py"):
            hint = "; the script's own arguments come after --"
        elif hasattr(arguments, "overrides") and re.match(r"--\w", rest[0]):
            hint = _hint_for(rest, arguments.parser)
        arguments.parser.error(f"unrecognized arguments: {_masked(' '.join(rest))}{hint}")
    return arguments


def _hint_for(rest: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """Return what an unknown option may mean: one of the verb's, or a value of the pipeline."""
    from ridgepole.errors import did_you_mean  # only where an error needs it

    option, equals, _ = rest[0].partition("=")
    near = did_you_mean(option, re.findall(r"--[\w-]+", parser.format_help()))
    if near:
        return f"; {near}"
    has_value = equals or (len(rest) > 1 and not rest[1].startswith("-"))
    return f"; values are given as {option.lstrip('-').replace('-', '_')}=VALUE" if has_value else ""


def _masked(text: str, *, whole: bool = False) -> str:
    from ridgepole.config import mask  # only where an error needs it: `--help` answers without it

    return mask(text, whole=whole)


def _is_override(text: str) -> bool:
    return not text.startswith("-") and ("=" in text or text.startswith("~")) and not os.path.lexists(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name; those of the process when None.

    Returns:
        The exit code.
    """
    try:
        return _main(argv)
    except KeyboardInterrupt:  # while modules are imported; a verb says how it ended
        return 130


def _with_sort(argv: list[str]) -> list[str]:
    """Join `--sort` and a column with a `-` before it, which argparse would take for an option."""
    at = argv.index("--sort") if "--sort" in argv else len(argv)
    if "--" not in argv[:at] and argv[at + 1 : at + 2] and re.match(r"-[^-\W]", argv[at + 1]):
        argv[at : at + 2] = [f"--sort={argv[at + 1]}"]
    return argv


def _main(argv: Sequence[str] | None) -> int:
    given = with_action(_with_sort(list(sys.argv[1:] if argv is None else argv)))
    rest: list[str] = []
    if given[:1] in (["run"], ["submit"]) and "--" in given:  # what follows belongs to the script
        cut = given.index("--")
        given, rest = given[:cut], given[cut + 1 :]
    parser = build_parser()
    arguments = _parse(parser, given)
    if arguments.verb is None:
        parser.print_help(sys.stderr)
        return 2
    arguments.arguments = rest
    if arguments.verb == "run" and arguments.file is not None and "=" in (arguments.module or ""):
        arguments.parser.error("-m names a module to run; a sweep tries several values: ridgepole sweep start")
    if arguments.verb == "run" and (arguments.file is None) == (arguments.module is None):
        arguments.parser.error("give one of them to run: a pipeline's .toml, a script, a program, or -m MODULE")
    module = "import_" if arguments.verb == "import" else arguments.verb  # `import` can't be a module
    verb = importlib.import_module(f"ridgepole.cli.{module}")
    from ridgepole.cli.faults import guarded

    return guarded(verb.call, arguments)


if __name__ == "__main__":
    sys.exit(main())
