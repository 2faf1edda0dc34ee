"""Tells torchrun what a rank failed with, so that its report shows the first cause and not whoever left first."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from ridgepole.errors import text_of, user_traceback


def tell_torchrun(error: BaseException) -> None:
    """Writes the error file that torchrun names to its workers; the form is that of torch's `ErrorHandler`.

    Args:
        error: What this rank failed with, before any other.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return
    details = {"py_callstack": user_traceback(error), "timestamp": str(int(time.time()))}
    message = {"message": f"{type(error).__name__}: {text_of(error)}", "extraInfo": details}
    with contextlib.suppress(OSError, ValueError):  # a report that can't be written is not worth another error
        Path(file).write_text(json.dumps({"message": message}), encoding="utf-8")
