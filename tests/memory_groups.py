"""Control groups of memory, which a test makes where it may."""

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest


def remove(group):
    """Removes a group once the last of its processes, which may outlive the one that is waited for, has ended."""
    until = time.monotonic() + 60
    while True:
        try:
            return group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                members = (group / "cgroup.procs").read_text().split()
                raise AssertionError(f"{group} can't be removed ({error}); in it: {members}") from error
        time.sleep(0.02)


@contextlib.contextmanager
def memory_group(limit):
    """A control group (v1 or v2) of our own below that of this process."""
    line = next((each for each in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in each), None)
    root = "/sys/fs/cgroup/memory" if line else "/sys/fs/cgroup"
    name = (line or Path("/proc/self/cgroup").read_text().splitlines()[-1]).split(":", 2)[2]
    for parent in (Path(root) / name.lstrip("/"), Path(root)):
        group = parent / f"ridgepole-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / ("memory.limit_in_bytes" if line else "memory.max")).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            remove(group)
        return
    pytest.skip("no control group can be made here")
