"""`ridgepole watch`: a run in the terminal, live."""

from __future__ import annotations

import argparse
import time

from ridgepole.cli.roots import runs_root
from ridgepole.rundir import find_run, read_run
from ridgepole.view.extra import need


def call(arguments: argparse.Namespace) -> int:
    """Show a run until it ends, or until Ctrl-C; off a terminal, show it once."""
    need("ridgepole watch", "numpy")
    from rich.console import Console, RenderableType
    from rich.live import Live

    from ridgepole.view.columns import RunColumns
    from ridgepole.view.terminal import render

    run = find_run(arguments.run, runs_root(arguments, arguments.run))
    console, columns = Console(), RunColumns(run.path)

    def picture() -> RenderableType:
        columns.update()
        return render(
            run, columns, patterns=arguments.name, width=console.width, height=console.height, now=time.time()
        )

    if not console.is_terminal or run.status != "running":
        console.print(picture())
        return 0
    with Live(picture(), console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while run.status == "running":
                time.sleep(arguments.interval)
                run = read_run(run.path)
                live.update(picture(), refresh=True)
        except KeyboardInterrupt:
            pass
    return 0
