"""What the render process runs: figures in, the bytes of files out, over one socket.

Both ways a message is a head and a body. To the child: what it is (`SETUP` or `FIGURE`, one byte) and the length of the
body (eight), a pickle that the parent made. To the parent: the outcome (one byte), width and height (four each), the
length of the data and that of the warnings (eight each), then the data, and the warnings as JSON. The parent unpickles
nothing. After each set-up the child says that it is `READY`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import pickle
import socket
import struct
import sys
import threading
import time
import warnings
from typing import Any

SETUP, FIGURE = b"S", b"F"
READY, DRAWN, FAILED, UNREADABLE = range(4)
QUESTION = struct.Struct(">cQ")
ANSWER = struct.Struct(">BIIQQ")

LIMIT_S = 60.0
"""How long a figure may take; after that the parent draws it itself, and a child that is stuck ends."""

_COLLECT_EVERY = 16  # figures are full of cycles, and large
_WATCH_S = 0.5


def main() -> None:
    """Draws until the parent closes the socket, or is gone."""
    parent = int(sys.argv[2])
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    with socket.socket(fileno=int(sys.argv[1])) as wire, contextlib.suppress(OSError, EOFError):
        serve(wire)
    os._exit(0)  # no finaliser of a user's package is to run in here


def _watch(parent: int) -> None:
    # A forked worker of the parent may keep the socket open after the parent was killed.
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(0)


def serve(wire: socket.socket) -> None:
    """Answers question after question.

    Raises:
        EOFError: When the other side has closed.
    """
    told: set[str] = set()
    count = 0
    while True:
        kind, size = QUESTION.unpack(receive(wire, QUESTION.size))
        body = receive(wire, size)
        # Ends this process even where a figure holds the interpreter's lock for ever and the parent is gone.
        faulthandler.dump_traceback_later(LIMIT_S + 10, exit=True, file=2)
        try:
            if kind == SETUP:
                _set_up(body)
                wire.sendall(ANSWER.pack(READY, 0, 0, 0, 0))
            else:
                answer(wire, body, told)
        finally:
            faulthandler.cancel_dump_traceback_later()
        count += 1
        if count % _COLLECT_EVERY == 0:
            gc.collect()


def _set_up(body: bytearray) -> None:
    """Takes over what drawing depends on: where modules are found, matplotlib's settings, fonts that were added."""
    setup: dict[str, Any] = pickle.loads(body)  # noqa: S301 - from the parent, over a socket that nobody else has
    sys.path[:] = setup["path"]
    if not setup["fonts"]:
        return  # arrays and images alone: without matplotlib
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # settings that are deprecated were warned of in the parent
        mpl.rcParams.update(setup["settings"])
    known = {(font.fname, font.name, font.style, font.weight) for font in fontManager.ttflist}
    fontManager.ttflist += [f for f in setup["fonts"] if (f.fname, f.name, f.style, f.weight) not in known]


def answer(wire: socket.socket, body: bytearray, told: set[str]) -> None:
    """Draws one figure and sends what came of it."""
    from ridgepole.permanences.loggers.figures.render import prepare

    outcome, width, height, data = UNREADABLE, 0, 0, b""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            figure = pickle.loads(body)  # noqa: S301 - as above
            outcome = FAILED
            rendered = prepare(figure)()
            outcome, width, height, data = DRAWN, rendered.width, rendered.height, rendered.data
        except Exception as error:  # noqa: BLE001 - whatever a user's figure may raise
            data = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
    texts = [text for text in dict.fromkeys(str(each.message) for each in caught) if text not in told]
    told.update(texts)
    notes = json.dumps(texts).encode() if texts else b""
    wire.sendall(ANSWER.pack(outcome, width, height, len(data), len(notes)))
    wire.sendall(data)
    wire.sendall(notes)


def receive(wire: socket.socket, size: int) -> bytearray:
    """Exactly so many bytes.

    Raises:
        EOFError: If the other side has closed.
        TimeoutError: If nothing comes for longer than the socket's timeout.
    """
    body = bytearray(size)
    view = memoryview(body)
    got = 0
    while got < size:
        count = wire.recv_into(view[got:])
        if not count:
            raise EOFError("the other side has closed")
        got += count
    return body


if __name__ == "__main__":
    main()
