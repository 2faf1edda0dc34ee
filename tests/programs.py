"""Programs that a test calls and that a machine need not have: without one, its tests are skipped and say why."""

import shutil

import pytest


def needs(program: str, package: str = "", *, found: object = None) -> pytest.MarkDecorator:
    """Skip a test where a program is missing, and name the command that installs it.

    Args:
        program: Its name, as one calls it.
        package: Debian's package, where that has another name.
        found: Where the program is, if `PATH` does not decide that.
    """
    return pytest.mark.skipif(not (found or shutil.which(program)), reason=_reason(program, package))


def require(program: str, *others: str, package: str = "") -> str:
    """Give the path of a program, or of the first of some that do the same; skip the test where there is none."""
    path = next(filter(None, map(shutil.which, (program, *others))), None)
    if path is None:
        pytest.skip(_reason(program, package))
    return path


def _reason(program: str, package: str) -> str:
    return f"needs {program}: apt-get install {package or program}"
