"""A directory that was used before, ranks of a script, copies of a group, and a notebook's cell that runs again."""

import copy
import multiprocessing
import pickle
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ridgepole.errors import LifecycleError, RunDirError
from ridgepole.metrics import load_metrics, read_metrics
from ridgepole.permanences import BasicLogger, LoggerGroup, TensorBoardLogger, WandBLogger
from ridgepole.rundir import read_attempts


def steps(directory):
    return read_metrics(directory)["step"].to_list()


def log(directory, values, **options):
    with BasicLogger(directory, **options) as logger:
        for value in values:
            logger.log_metrics({"loss": value})
        return logger


def test_a_used_directory_is_resumed_as_a_new_attempt(tmp_path):
    log(tmp_path, [3.0, 2.0])
    assert read_attempts(tmp_path) == []
    for attempt in (2, 3):
        log(tmp_path, [1.0])
        (*_, last) = read_attempts(tmp_path)
        assert (last["attempt"], last["first_seq"]) == (attempt, attempt)
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_a_repair_of_a_used_directory_is_noted_in_its_file_of_messages(tmp_path):
    log(tmp_path, [1.0])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"seq":1,"time')
    log(tmp_path, [2.0])
    assert "cut off a torn last line of 14 bytes" in (tmp_path / "run.log").read_text()
    assert steps(tmp_path) == [0, 1]


def test_a_new_directory_is_taken_beside_a_used_one(tmp_path):
    names = [log(tmp_path / "logs", [float(number)], exist="new").log_dir.name for number in range(3)]
    assert names == ["logs", "logs-2", "logs-3"]
    assert [read_metrics(tmp_path / name)["value"].to_list() for name in names] == [[0.0], [1.0], [2.0]]


def test_a_used_directory_is_refused_where_that_is_wanted(tmp_path):
    log(tmp_path, [1.0], exist="error")
    with pytest.raises(RunDirError, match=r"holds a record already; .*exist='resume'.*exist='new'"):
        log(tmp_path, [2.0], exist="error")
    assert steps(tmp_path) == [0]


@pytest.mark.parametrize("options", [{"exist": "append"}, {"purge_step": -1}, {"ranks": "one"}])
def test_impossible_options_are_refused_at_once(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options)) if "purge_step" not in options else "step"):
        BasicLogger(tmp_path, **options)


def test_purge_step_hides_what_a_script_logged_later_than_its_own_checkpoint(tmp_path):
    with BasicLogger(tmp_path) as logger:
        for step, value in [(0, 5.0), (1, 4.0), (5, 0.1), (2, 3.0), (6, 0.2)]:
            logger.log_metrics({"loss": value}, step=step)
            logger.log_text("t", "x", step=step)
    with BasicLogger(tmp_path, purge_step=5) as logger:
        assert (logger.global_step, logger.last_step) == (5, 4)
        assert logger.summary()["metrics"]["loss"]["best"] == 3.0, "what is hidden does not count"
        logger.log_metrics({"loss": 2.5})
    assert steps(tmp_path) == [0, 1, 2, 5]
    assert read_metrics(tmp_path)["value"].to_list() == [5.0, 4.0, 3.0, 2.5]
    assert load_metrics(tmp_path, raw=True).frame.height == 6, "nothing is deleted"


@pytest.fixture
def as_rank(monkeypatch):
    def become(rank):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")

    return become


def log_everything(logger):
    logger.log_metrics({"loss": 1.0})
    logger.log_figure("f", np.zeros((2, 2)))
    logger.log_image("i", np.zeros((2, 2)))
    logger.log_table("t", {"a": [1]})
    logger.log_text("x", "y")
    logger.log_histogram("h", [1.0, 2.0])
    logger.log_hparams({"lr": 0.1})
    logger.log_seaborn_graph("g", [1, 2, 3])
    logger.flush(durable=True)
    logger.checkpoint()


@pytest.mark.parametrize("cls", [BasicLogger, TensorBoardLogger, WandBLogger])
def test_other_ranks_of_a_script_write_nothing(tmp_path, monkeypatch, as_rank, cls):
    monkeypatch.chdir(tmp_path)
    as_rank(1)
    with cls() as logger:
        log_everything(logger)
        assert logger.global_step == 1, "they count steps all the same"
        assert logger.get_state()["dropped"] == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LifecycleError, match="cleaned up"):
        logger.initialize()


def test_ranks_of_a_script_share_a_directory(tmp_path, as_rank):
    loggers = []
    for rank in range(3):
        as_rank(rank)
        loggers.append(BasicLogger(tmp_path, ranks="all").__enter__())
    for rank, logger in enumerate(loggers):
        logger.log_metrics({f"loss{rank}": 1.0})
        logger.log_text("t", str(rank))
    for logger in loggers:
        logger.cleanup()
    names = sorted(path.name for path in tmp_path.glob("m*.jsonl"))
    assert names == sorted(
        f"{kind}{rank}.jsonl" for kind in ("metrics", "media") for rank in ("", "-rank-1", "-rank-2")
    )
    for rank in range(3):  # again, as a second attempt
        as_rank(rank)
        with BasicLogger(tmp_path, ranks="all") as logger:
            assert logger.global_step == 1
            logger.log_metrics({f"loss{rank}": 2.0})
    table = load_metrics(tmp_path)
    assert table.frame["name"].to_list() == ["loss0", "loss0", "loss1", "loss1", "loss2", "loss2"]
    assert table.frame["step"].to_list() == [0, 1] * 3
    assert table.frame["seq"].n_unique() == 6
    assert read_metrics(tmp_path / "metrics.jsonl")["seq"].max() < 10, "the ranks take none of the first one's numbers"


def test_ranks_of_a_script_are_runs_of_their_own_in_tensorboard(tmp_path, as_rank):
    for rank in range(2):
        as_rank(rank)
        with TensorBoardLogger(tmp_path, ranks="all") as logger:
            logger.log_metrics({"rank": rank})
    for rank, directory in enumerate((tmp_path, tmp_path / "rank-1")):
        found = EventAccumulator(str(directory))
        found.Reload()
        assert [event.value for event in found.Scalars("rank")] == [rank]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda group: pickle.loads(pickle.dumps(group))], ids=["deep", "pickle"]
)
def test_a_copy_of_a_group_groups_copies_of_its_members(tmp_path, copied):
    with BasicLogger(tmp_path / "local") as local, TensorBoardLogger(tmp_path / "board") as board:
        group = LoggerGroup([local, board])
        group.log_metrics({"a": 0})
        other = copied(group)
        assert other.global_step == 1
        other.log_metrics({"a": 1})
        group.log_metrics({"a": 2})
        for logger in other.loggers:
            logger.cleanup()
    assert sorted(read_metrics(tmp_path / "local")["value"].to_list()) == [0, 1, 2]
    assert len(list((tmp_path / "local").glob("metrics*.jsonl"))) == 2
    assert len(list((tmp_path / "board").glob("worker-*"))) == 1


class Logging(torch.utils.data.Dataset):
    def __init__(self, logger):
        self.logger = logger

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.logger.log_metrics({"item": index})
        return index


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader_hold_a_group(tmp_path, start, quick_python):
    with BasicLogger(tmp_path / "local") as local, TensorBoardLogger(tmp_path / "board") as board:
        group = LoggerGroup([local, board])
        group.log_metrics({"main": 0})
        context = multiprocessing.get_context(start)
        loader = torch.utils.data.DataLoader(Logging(group), num_workers=1, multiprocessing_context=context)
        assert sum(map(int, loader)) == 6
    frame = read_metrics(tmp_path / "local")
    assert sorted(frame.filter(frame["name"] == "item")["value"].to_list()) == [0, 1, 2, 3]
    (worker,) = (tmp_path / "board").glob("worker-*")
    found = EventAccumulator(str(worker))
    found.Reload()
    assert [event.value for event in found.Scalars("item")] == [0, 1, 2, 3]


@pytest.mark.parametrize("cls", [BasicLogger, TensorBoardLogger])
def test_a_cell_that_runs_again_takes_the_directory_over(tmp_path, monkeypatch, capfd, cls):
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    kept = []  # as Out[] or a traceback would
    for value in range(3):
        logger = cls(tmp_path)
        logger.log_metrics({"a": value})
        kept.append(logger)
    assert capfd.readouterr().err.count("was closed for this one") == 2
    with pytest.raises(LifecycleError, match="cleaned up"):
        kept[0].log_metrics({"a": 9})
    assert logger.global_step == 3
    logger.cleanup()


@pytest.mark.parametrize("cls", [BasicLogger, TensorBoardLogger])
def test_a_script_has_one_logger_a_directory_but_garbage_holds_none(tmp_path, cls):
    first = cls(tmp_path)
    first.log_metrics({"a": 0})
    with pytest.raises(RunDirError, match="another"):
        cls(tmp_path).log_metrics({"a": 1})
    first.cycle = first
    del first
    with cls(tmp_path) as second:
        second.log_metrics({"a": 1})
        assert second.global_step == 2
