"""`ridgepole view`: the page of runs, live."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path

from ridgepole.cli.mirror import local_root
from ridgepole.cli.output import complain, paint, say
from ridgepole.cli.roots import runs_root
from ridgepole.sweeps.stored import StoredSweeps
from ridgepole.view.serve import Address, serve


def call(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    with ExitStack() as stack:
        return _serve(arguments, [local_root(each, stack) for each in arguments.roots] or [runs_root(arguments)])


def _serve(arguments: argparse.Namespace, roots: list[Path]) -> int:

    def announce(address: Address) -> None:
        say(f"runs at {paint(address.url, 'bold', sys.stdout)}", flush=True)
        if address.socket is not None:
            say(f"on the socket {address.socket}", flush=True)
        complain("Ctrl-C ends it")
        if arguments.open and address.socket is None:
            webbrowser.open(address.url)

    serve(
        roots,
        port=arguments.port,
        unix=arguments.socket,
        hosts=arguments.allow_host,
        sweeps=StoredSweeps(roots),
        announce=announce,
    )
    return 0
