"""The program of the render process: figures in, the bytes of files out, over one socket.

A message is a head and a body. To the child: its kind (`SETUP` or `FIGURE`, one byte), the length
of the body (eight bytes), and the body, a pickle of the parent. To the parent: the outcome (one
byte), width and height (four each), the lengths of the data and of the warnings (eight each), the
data, and the warnings as JSON. The parent unpickles nothing. After each set-up the child answers
`READY`.
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
"""Seconds for a figure; then the parent draws it itself, and a stuck child ends."""

_COLLECT_EVERY = 16  # figures are full of cycles, and large
_WATCH_S = 0.5


def main() -> None:
    """Draw until the parent closes the socket or ends."""
    parent = int(sys.argv[2])
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    with socket.socket(fileno=int(sys.argv[1])) as wire, contextlib.suppress(OSError, EOFError):
        serve(wire)
    os._exit(0)  # run no finaliser of a user's package


def _watch(parent: int) -> None:
    # A forked worker of the parent may keep the socket open after the parent was killed.
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(0)


def serve(wire: socket.socket) -> None:
    """Answer messages."""
    reported: set[str] = set()
    count = 0
    while True:
        kind, size = QUESTION.unpack(receive(wire, QUESTION.size))
        body = receive(wire, size)
        # Ends this process even if a figure holds the GIL forever and the parent has ended.
        faulthandler.dump_traceback_later(LIMIT_S + 10, exit=True, file=2)
        try:
            if kind == SETUP:
                _set_up(body)
                wire.sendall(ANSWER.pack(READY, 0, 0, 0, 0))
            else:
                answer(wire, body, reported)
        finally:
            faulthandler.cancel_dump_traceback_later()
        count += 1
        if count % _COLLECT_EVERY == 0:
            gc.collect()


def _set_up(body: bytearray) -> None:
    """Apply the import path, matplotlib's settings and added fonts."""
    setup: dict[str, Any] = pickle.loads(body)  # noqa: S301 - from the parent, over a private socket
    sys.path[:] = setup["path"]
    if not setup["fonts"]:
        return  # only arrays and images: no matplotlib
    import matplotlib as mpl
    from matplotlib.font_manager import fontManager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parent has warned of deprecated settings
        mpl.rcParams.update(setup["settings"])
    known = {(font.fname, font.name, font.style, font.weight) for font in fontManager.ttflist}
    fontManager.ttflist += [f for f in setup["fonts"] if (f.fname, f.name, f.style, f.weight) not in known]


def answer(wire: socket.socket, body: bytearray, reported: set[str]) -> None:
    """Draw one figure and send the result."""
    from ridgepole.loggers.figures.render import prepare

    outcome, width, height, data = UNREADABLE, 0, 0, b""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            figure = pickle.loads(body)  # noqa: S301 - as above
            outcome = FAILED
            rendered = prepare(figure)()
            outcome, width, height, data = DRAWN, rendered.width, rendered.height, rendered.data
        except Exception as error:  # noqa: BLE001 - any error of a user's figure
            data = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
    texts = [text for text in dict.fromkeys(str(each.message) for each in caught) if text not in reported]
    reported.update(texts)
    notes = json.dumps(texts).encode() if texts else b""
    wire.sendall(ANSWER.pack(outcome, width, height, len(data), len(notes)))
    wire.sendall(data)
    wire.sendall(notes)


def receive(wire: socket.socket, size: int) -> bytearray:
    """Receive exactly `size` bytes.

    Raises:
        EOFError: If the other side has closed.
        TimeoutError: If nothing arrives within the socket's timeout.
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
