"""Deaths, full disks, missing directories and packages, and directories that are somebody else's."""

import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from isolation import send
from ridgepole.errors import LogWriteError, MissingExtraError, RidgepoleError, RunDirError
from ridgepole.extras import install_command
from ridgepole.loggers.tensorboard import writer as writer_module
from ridgepole.metrics import load_metrics
from ridgepole.permanences import BasicLogger, LoggerGroup, TensorBoardLogger


def points(directory, tag):
    found = EventAccumulator(str(directory), {"scalars": 0})
    found.Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def run_script(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


# -- kill -9


SHAPES = {
    "one float": lambda i: {"i": float(i)},
    "many": lambda i: {"i": i} | {f"m{k}": 0.5 for k in range(50)},
    "with text": lambda i: {"i": i, "text": "x" * 4000},
}


def child(directory, pipe, shape, number):
    logger = TensorBoardLogger(directory)
    while True:
        logger.log_metrics(SHAPES[shape](number))
        os.write(pipe, struct.pack("q", number))
        number += 1


def killed_run(directory, shape, delay, first):
    """Runs a child for a while, kills it, and returns what it had acknowledged."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            child(directory, write, shape, first)
        finally:
            os._exit(1)
    os.close(write)
    acknowledged = bytearray(os.read(read, 8))
    assert acknowledged, "the child died before it logged anything"
    os.set_blocking(read, False)
    until = time.monotonic() + delay
    while time.monotonic() < until:
        try:
            acknowledged += os.read(read, 1 << 20)
        except BlockingIOError:
            time.sleep(0)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child ended before it was killed"
    os.set_blocking(read, True)
    while block := os.read(read, 1 << 20):
        acknowledged += block
    os.close(read)
    whole = len(acknowledged) // 8
    return [number for (number,) in struct.iter_unpack("q", acknowledged[: whole * 8])]


def check_kills(directory, shape, times, tally):
    rng = random.Random(repr(shape))
    wanted = []
    for run in range(times):
        wanted += killed_run(directory, shape, rng.uniform(0.0, 0.03), run * 10**5)
        got = {value for _, value in points(directory, "i")}
        lost = [number for number in wanted if number not in got]
        assert not lost, f"{len(lost)} acknowledged events were lost, the first is {lost[0]}"
        tally(kills=1)
    with TensorBoardLogger(directory) as logger:
        assert logger.global_step >= len(wanted), "it goes on behind the last step"
        logger.log_metrics({"i": -1.0})
    assert points(directory, "i")[-1][1] == -1, "nothing hides what is logged after a kill"


@pytest.mark.isolated
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.fault("kill -9 while logging to TensorBoard: no acknowledged event is lost")
def test_kill_nine(tmp_path, shape, tally):
    check_kills(tmp_path, shape, 3, tally)


@pytest.mark.isolated
@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.environ.get("RIDGEPOLE_TORTURE"), reason="needs RIDGEPOLE_TORTURE=1")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.fault("kill -9 while logging to TensorBoard: no acknowledged event is lost")
def test_kill_nine_two_hundred_times(tmp_path, shape, part, tally):
    check_kills(tmp_path, shape, 17, tally)


def test_a_torn_record_hides_nothing_of_the_next_file(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        for _ in range(10):
            logger.log_metrics({"a": 1.0})
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 5)
    with TensorBoardLogger(tmp_path) as logger:
        assert logger.global_step == 9
        logger.log_metrics({"a": 2.0})
    assert points(tmp_path, "a") == [*((i, 1.0) for i in range(9)), (9, 2.0)]


def test_a_file_without_a_whole_record_is_nobodys(tmp_path):
    """A death between the making of the file and its first record must not lock a run out of its directory."""
    from ridgepole import Pipeline

    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"torn")
    Pipeline("x", seed=1, progress=False).permanence("tb", TensorBoardLogger, log_dir=str(tmp_path / "board")).run(
        tmp_path / "runs"
    )


@pytest.mark.isolated
def test_forks_in_the_middle_of_logging_threads(tmp_path):
    """A lock that another thread holds at the fork must not be held for ever in the child."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            logger.log_metrics({"thread": 1.0})

    with TensorBoardLogger(tmp_path) as logger:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)  # a child that hangs is killed, and seen
                    logger.log_metrics({"child": 1.0})
                    other = threading.Thread(target=logger.log_metrics, args=({"child": 2.0},))
                    other.start()
                    other.join()
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 20


# -- writes that fail


@pytest.mark.isolated
def test_a_write_that_fails_leaves_the_step_and_a_readable_file(tmp_path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with TensorBoardLogger(tmp_path) as logger:
        logger.log_metrics({"a": 0.0})
        size = next(tmp_path.iterdir()).stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))  # half a record fits
            for metrics in ({"a": 1.0}, {"a": 1.0, "b": "text"}):
                with pytest.raises(LogWriteError, match="nothing of this call was logged"):
                    logger.log_metrics(metrics)
            assert next(tmp_path.iterdir()).stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert logger.global_step == 1
        logger.log_metrics({"a": 2.0})
    assert points(tmp_path, "a") == [(0, 0), (1, 2)]


@pytest.mark.isolated
def test_in_a_group_it_is_switched_off_with_one_warning(tmp_path, capfd):
    with BasicLogger(tmp_path / "local") as basic, TensorBoardLogger(tmp_path / "board") as board:
        group = LoggerGroup([basic, board])
        group.log_metrics({"a": 0.0})
        fd = os.open("/dev/full", os.O_WRONLY)
        os.dup2(fd, board._writer._file.fd)
        for i in range(3):
            group.log_metrics({"a": float(i)})
        assert group.get_state()["off"] == [{"type": "TensorBoardLogger", "dropped": 3}]
        os.close(fd)
    assert capfd.readouterr().err.count("TensorBoardLogger failed and is switched off") == 1
    assert load_metrics(tmp_path / "local").records == 4
    assert points(tmp_path / "board", "a") == [(0, 0)]


@pytest.mark.isolated
def test_a_strict_one_stops_the_group(tmp_path):
    with BasicLogger(tmp_path / "local") as basic, TensorBoardLogger(tmp_path / "board", strict=True) as board:
        group = LoggerGroup([basic, board])
        fd = os.open("/dev/full", os.O_WRONLY)
        os.dup2(fd, board._writer._file.fd)
        os.close(fd)
        with pytest.raises(LogWriteError):
            group.log_metrics({"a": 0.0})


def test_a_directory_that_is_removed_in_mid_run(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(writer_module, "LOOK_SECONDS", 0.0)
    with TensorBoardLogger(tmp_path / "logs") as logger:
        logger.log_metrics({"a": 0.0})
        shutil.rmtree(tmp_path / "logs")
        logger.log_metrics({"a": 1.0})
        logger.log_metrics({"a": 2.0})
    assert points(tmp_path / "logs", "a") == [(1, 1), (2, 2)]
    assert capfd.readouterr().err.count("was removed while the run was writing to it") == 1


# -- before the flight


def refused(logger, words):
    with pytest.raises(RunDirError, match=words):
        logger.initialize()
    logger.cleanup()


def test_a_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(TensorBoardLogger(tmp_path / "file"), "is a file, not a directory")
    refused(TensorBoardLogger(tmp_path / "file" / "below"), "can't be created")
    refused(TensorBoardLogger("/proc/none"), "can't be created")
    logger = TensorBoardLogger(tmp_path / "gone")
    logger.initialize()
    logger.validate()
    shutil.rmtree(tmp_path / "gone")
    (tmp_path / "gone").write_text("x")
    with pytest.raises(RunDirError, match="is a file"):
        logger.validate()
    with pytest.raises(LogWriteError, match="no new file can be created"):
        logger.cleanup()


def test_a_second_logger_of_the_same_directory(tmp_path):
    with TensorBoardLogger(tmp_path) as logger:
        refused(TensorBoardLogger(tmp_path), "another TensorBoardLogger writes to")
        script = """if True:
            import sys
            from ridgepole.permanences import TensorBoardLogger
            TensorBoardLogger(sys.argv[1]).log_metrics({"a": 1.0})
        """
        done = run_script(script, tmp_path)
        assert "another TensorBoardLogger writes to" in done.stderr
        logger.log_metrics({"a": 1.0})
    assert len(list(tmp_path.iterdir())) == 1
    with TensorBoardLogger(tmp_path):
        pass


def test_a_child_that_outlives_its_parent_keeps_no_directory(tmp_path):
    script = """if True:
        import os, signal, sys, time
        from ridgepole.permanences import TensorBoardLogger
        TensorBoardLogger(sys.argv[1]).log_metrics({"a": 1.0})
        logger = TensorBoardLogger(sys.argv[1] + "/x")
        logger.log_metrics({"a": 1.0})
        pid = os.fork()
        if pid == 0:
            os.close(1); os.close(2)
            time.sleep(60)
        print(pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    pid = int(run_script(script, tmp_path).stdout)
    try:
        with TensorBoardLogger(tmp_path / "x") as logger:
            assert logger.global_step == 1
    finally:
        send(pid, signal.SIGKILL)


def test_without_tensorboard(tmp_path):
    script = """if True:
        import sys
        for name in ("tensorboard", "tensorboard.compat", "tensorboard.compat.proto.event_pb2"):
            sys.modules[name] = None
        from ridgepole.errors import MissingExtraError
        from ridgepole.permanences import TensorBoardLogger
        logger = TensorBoardLogger(sys.argv[1])
        for check in (logger.validate, logger.initialize):
            try:
                check()
            except MissingExtraError as error:
                print(error, error.extra)
    """
    done = run_script(script, tmp_path / "x")
    wanted = f"TensorBoardLogger needs tensorboard, which is not installed: {install_command('tensorboard')}"
    assert done.stdout == f"{wanted} tensorboard\n" * 2, done.stderr
    assert not (tmp_path / "x").exists()
    assert issubclass(MissingExtraError, RidgepoleError)
