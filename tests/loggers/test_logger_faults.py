"""Full disks, missing directories, no descriptors: typed errors, and nothing half-written."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from interrupts import Interrupts
from programs import needs
from ridgepole.errors import LogWriteError, RidgepoleError, RunDirError
from ridgepole.loggers.local.jsonl_writer import JsonlWriter
from ridgepole.metrics import load_metrics
from ridgepole.permanences import BasicLogger

TORTURE = pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")


def run_script(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.fault("disk full while logging: a typed error, the step unchanged, no line glued on")
def test_a_device_that_is_full(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with BasicLogger(tmp_path) as logger:
        for _ in range(2):
            with pytest.raises(LogWriteError) as caught:
                logger.log_metrics({"a": 1})
            assert caught.value.errno == errno.ENOSPC
            assert isinstance(caught.value, RidgepoleError)
            assert "the step is unchanged" in str(caught.value)
            assert logger.global_step == 0
        assert logger.summary()["records"] == 0


LIMIT = """
import resource, sys
from ridgepole.errors import LogWriteError
from ridgepole.permanences import BasicLogger
logger = BasicLogger(sys.argv[1])
logger.log_metrics({"a": 0})
size = logger.log_dir.joinpath("metrics.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size * 3 + size // 2, resource.RLIM_INFINITY))
logged = 1
for form in [{"a": 1}, {"a": 1}] * 4:
    try:
        logger.log_metrics(form)
        logged += 1
    except LogWriteError as error:
        print("refused", error.errno, logger.global_step == logged)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logger.log_metrics({"a": [1, 2]})
print("logged", logged + 1)
logger.cleanup()
"""


@pytest.mark.fault("disk full while logging: a typed error, the step unchanged, no line glued on")
def test_a_short_write_is_taken_back_and_the_next_line_not_glued_on(tmp_path):
    done = run_script(LIMIT, tmp_path)
    assert done.returncode == 0, done.stderr
    *refused, logged = done.stdout.splitlines()
    assert refused == [f"refused {errno.EFBIG} True"] * 6
    table = load_metrics(tmp_path)
    assert logged == f"logged {table.records}" == "logged 4"
    assert (table.bad, table.torn) == (0, 0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    seqs = [line["seq"] for line in lines]
    assert sorted(set(seqs)) == seqs


@pytest.mark.parametrize("place", ["file", "below a file"])
@pytest.mark.fault("a file in the place of a directory, found before training")
def test_a_file_in_the_place_of_the_directory(tmp_path, place):
    (tmp_path / "file").write_text("x")
    logger = BasicLogger(tmp_path / "file" if place == "file" else tmp_path / "file" / "logs")
    with pytest.raises(RunDirError, match=r"log_dir=.*(is a file|Not a directory)"):
        logger.initialize()
    logger.cleanup()


@pytest.mark.fault("a file in the place of a directory, found before training")
def test_validate_finds_a_directory_that_went_away(tmp_path):
    logger = BasicLogger(tmp_path / "logs")
    logger.initialize()
    logger.validate()
    shutil.rmtree(tmp_path / "logs")
    (tmp_path / "logs").write_text("a file now")
    with pytest.raises(RunDirError, match="is a file"):
        logger.validate()
    (tmp_path / "logs").unlink()
    logger.cleanup()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunDirError, match="can't be written"):
            BasicLogger(tmp_path).initialize()
    finally:
        tmp_path.chmod(0o700)


def test_the_directory_is_removed_in_mid_run(tmp_path, capfd):
    """The periodic sync, here called by hand, notices: it warns once and continues in a new file."""
    logs = tmp_path / "logs"
    with BasicLogger(logs) as logger:
        logger.log_metrics({"a": 0})
        shutil.rmtree(logs)
        writer = next(value for value in vars(logger).values() if isinstance(value, JsonlWriter))
        writer.sync_now()
        logger.log_metrics({"a": 1})
        logger.log_metrics({"a": 2})
        logger.log_figure("f", torch.zeros(4, 4))
    assert capfd.readouterr().err.count("was removed") == 1
    assert load_metrics(logs).frame["value"].to_list() == [1.0, 2.0]
    assert (logs / "summary.json").exists()
    assert len((logs / "media.jsonl").read_text().splitlines()) == 1


@pytest.mark.isolated
def test_no_descriptors_left(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 0})
        logger.log_figure("before", torch.zeros(4, 4))
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) // 2, hard))
        try:
            for i in range(10):
                logger.log_metrics({"a": i})
            with pytest.raises(LogWriteError, match="the figure 'during' was not logged"):
                logger.log_figure("during", torch.zeros(4, 4))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logger.log_figure("after", torch.zeros(4, 4))
    assert load_metrics(tmp_path).records == 11
    names = [json.loads(line)["name"] for line in (tmp_path / "media.jsonl").read_text().splitlines()]
    assert names == ["before", "after"]
    assert len(list((tmp_path / "figures").iterdir())) == 2


@needs("strace")
@pytest.mark.fault("EIO on a sync while logging: never called durable")
def test_a_failing_fsync_is_never_called_durable(tmp_path):
    script = (
        "import sys; from ridgepole.permanences import BasicLogger; from ridgepole.errors import LogWriteError\n"
        "logger = BasicLogger(sys.argv[1]); logger.log_metrics({'a': 1})\n"
        "try: logger.flush(durable=True); print('durable')\n"
        "except LogWriteError as error: print('refused', error.errno)\n"
    )
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync:error=EIO"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.stdout.strip() == f"refused {errno.EIO}", done.stderr


@pytest.mark.fault("EIO on a sync while logging: never called durable")
def test_a_periodic_sync_that_failed_is_said_at_the_next_flush(tmp_path, monkeypatch):
    from ridgepole.loggers.local import background as module

    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1})
        writer = next(value for value in vars(logger).values() if isinstance(value, JsonlWriter))
        monkeypatch.setattr(module, "sync", lambda fd: OSError(errno.EIO, "Input/output error"))
        writer.sync_now()
        with pytest.raises(LogWriteError, match="may not be on the disk"):
            logger.flush(durable=True)
        logger.flush(durable=True)


def test_the_clock_is_set_back(tmp_path, monkeypatch):
    from ridgepole.loggers.local import jsonl_writer as module

    clock = iter([2000.0, 1000.0, 500.0])
    monkeypatch.setattr(module, "time", lambda: next(clock))
    with BasicLogger(tmp_path) as logger:
        for i in range(3):
            logger.log_metrics({"a": i})
    assert load_metrics(tmp_path).frame["value"].to_list() == [0.0, 1.0, 2.0], "the order is that of seq"


@pytest.mark.isolated
def test_ctrl_c_between_records_breaks_nothing(tmp_path):
    """Signals at any moment: every line whole, each number once."""
    interrupts = Interrupts()

    def work():
        for _ in range(1000):
            logger.log_metrics({"a": 1})

    with BasicLogger(tmp_path) as logger:
        while interrupts.hits < 50:
            interrupts.during(0.002, work)
    table = load_metrics(tmp_path)
    assert (table.bad, table.torn) == (0, 0)
    assert table.frame["seq"].n_unique() == table.records


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=[pytest.mark.torture, TORTURE])])
@pytest.mark.fault("10^6 names of metrics: linear time")
def test_many_names_cost_no_more_each(count, tmp_path):
    """Linear time: the last names cost about what the first ones did (a wide ratio), and all are read back."""
    part = count // 10
    spent = []
    with BasicLogger(tmp_path) as logger:
        for start in range(0, count, part):
            began = time.process_time()
            for index in range(start, start + part):
                logger.log_metrics({f"name/{index}": 1.0})
            spent.append(time.process_time() - began)
        assert len(logger.summary()["metrics"]) == count
    assert spent[-1] < 6 * spent[0], f"seconds for each tenth of the names: {spent}"
    assert (tmp_path / "metrics.jsonl").read_bytes().count(b"\n") == count
