"""Forked children, worker processes and owners in other processes."""

import multiprocessing
import os
import subprocess
import sys
import threading

import pytest
import torch

from ridgepole.errors import RunDirError
from ridgepole.metrics import load_metrics, read_metrics
from ridgepole.permanences import BasicLogger

pytestmark = pytest.mark.fault("threads, fork and spawn: exact counts, no number twice")


def in_child(work):
    """Runs something in a forked child and returns its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.isolated
def test_a_forked_child_writes_a_file_of_its_own(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"parent": 0})

        def work():
            for i in range(10):
                logger.log_metrics({"child": i})
            logger.log_figure("of the child", torch.zeros(4, 4))
            assert in_child(lambda: logger.log_metrics({"grandchild": 0})) == 0
            logger.cleanup()

        assert in_child(work) == 0
        logger.log_metrics({"parent": 1})
        logger.log_figure("of the parent", torch.zeros(4, 4))
        assert logger.global_step == 2
    table = load_metrics(tmp_path)
    assert table.frame["name"].to_list() == ["parent", *["child"] * 10, "grandchild", "parent"]
    assert table.frame["seq"].n_unique() == 13
    assert (table.bad, table.torn, len(table.files)) == (0, 0, 3)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert len(list(tmp_path.glob("media*.jsonl"))) == 2
    assert len(list(tmp_path.glob("figures/*.png"))) == 2
    with BasicLogger(tmp_path) as again:
        again.log_metrics({"parent": 2})
    assert read_metrics(tmp_path)["name"].to_list()[-1] == "parent", "numbers continue behind those of the children"


@pytest.mark.isolated
def test_a_child_that_logs_nothing_leaves_nothing(tmp_path):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 0})
        assert in_child(lambda: None) == 0
        assert in_child(logger.cleanup) == 0
        logger.log_metrics({"a": 1})
    assert [path.name for path in tmp_path.glob("metrics*")] == ["metrics.jsonl"]
    assert load_metrics(tmp_path).records == 2


@pytest.mark.isolated
def test_forks_in_the_middle_of_logging_threads(tmp_path):
    """A lock that another thread holds at the fork must not be held for ever in the child."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            logger.log_metrics({"thread": 1})

    with BasicLogger(tmp_path) as logger:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            codes = [in_child(lambda: logger.log_metrics({"child": 1})) for _ in range(6)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert codes == [0] * 6
    table = load_metrics(tmp_path)
    assert (table.bad, table.torn) == (0, 0)
    assert table.frame["seq"].n_unique() == table.records
    assert table.frame.filter(table.frame["name"] == "child").height == 6


class Logging(torch.utils.data.Dataset):
    def __init__(self, logger):
        self.logger = logger

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.logger.log_metrics({"item": index})
        return index


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader_workers(tmp_path, start):
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"main": 0})
        loader = torch.utils.data.DataLoader(
            Logging(logger), batch_size=2, num_workers=2, multiprocessing_context=multiprocessing.get_context(start)
        )
        for batch in loader:
            logger.log_metrics({"main": len(batch)})
    table = load_metrics(tmp_path)
    frame = table.frame
    assert sorted(frame.filter(frame["name"] == "item")["value"].to_list()) == list(range(12))
    assert frame.filter(frame["name"] == "main").height == 7
    assert frame["seq"].n_unique() == table.records == 19


def test_a_live_owner_in_another_process_is_named(tmp_path):
    script = (
        "import sys; from ridgepole.permanences import BasicLogger\n"
        "logger = BasicLogger(sys.argv[1]); logger.log_metrics({'a': 1}); print('up', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "up\n"
        logger = BasicLogger(tmp_path)
        with pytest.raises(RunDirError, match=rf"another BasicLogger.*({other.pid}|writes)"):
            logger.log_metrics({"b": 1})
        logger.cleanup()
        other.kill()
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"b": 1})
    assert read_metrics(tmp_path)["step"].to_list() == [0, 1]


@pytest.mark.isolated
def test_an_orphaned_child_does_not_keep_the_directory(tmp_path):
    """A DataLoader worker that outlives its parent must not stop the resume."""
    read, write = os.pipe()
    with BasicLogger(tmp_path) as logger:
        logger.log_metrics({"a": 1})
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with BasicLogger(tmp_path) as again:
        again.log_metrics({"a": 2})
    os.close(write)
    os.close(read)
    os.waitpid(pid, 0)
    assert load_metrics(tmp_path).records == 2


def test_a_script_that_never_cleans_up(tmp_path):
    script = "import sys; from ridgepole.permanences import BasicLogger; BasicLogger(sys.argv[1]).log_metrics({'a': 1})"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_metrics(tmp_path).records == 1
    assert (tmp_path / "summary.json").exists()
