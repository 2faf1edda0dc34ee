"""Names, latest and best, pruning, the index, leftovers, moved and read-only runs."""

import json
import shutil

import pytest
import torch

from ridgepole import CheckpointError
from ridgepole.checkpoint import CheckpointStore, KeepBest


def names(store):
    return [info.name for info in store.list()]


def save(store, step, kind="step", **options):
    return store.save({"step": step, "w": torch.full((3,), float(step))}, step=step, kind=kind, **options)


def content(directory):
    return sorted(path.name for path in directory.iterdir())


def index(store):
    return json.loads((store.path / "index.json").read_text())


def test_what_is_known_without_loading(store):
    best = CheckpointStore(store.path, keep_best=KeepBest("val/acc", "max"))
    save(best, 7, kind="boundary", score=0.5, protect="boundary", config_hash="abc", world_size=4, meta={"seq": 12})
    (info,) = store.list()
    assert (info.name, info.number, info.kind, info.step) == ("000001-step-7", 1, "boundary", 7)
    assert (info.score.metric, info.score.mode, info.score.value) == ("val/acc", "max", 0.5)
    assert (info.protect, info.config_hash, info.world_size, info.meta) == ("boundary", "abc", 4, {"seq": 12})
    assert info.size == sum(path.stat().st_size for path in info.path.iterdir() if path.name != "manifest.json")
    assert info.usable
    assert abs(info.time - info.path.stat().st_mtime) < 100


def test_an_empty_run(store):
    assert store.list() == ()
    assert store.latest() is None
    assert store.best() is None
    for which in ("latest", "best", "000001-step-7", "3"):
        with pytest.raises(CheckpointError, match="no checkpoint in "):
            store.load(which)
    assert not store.path.exists(), "looking made the directory"


def test_a_checkpoint_is_found_by_name_number_or_word(store):
    for step in (1, 2):
        save(store, step)
    for which in ("latest", "2", "000002-step-2", "000002"):
        assert store.load(which).state["step"] == 2
        assert store.find(which).step == 2
    with pytest.raises(CheckpointError, match="did you mean '000002-step-2'"):
        store.load("000002-step-3")
    with pytest.raises(CheckpointError, match="has a score: set keep_best"):
        store.load("best")


@pytest.mark.parametrize("which", ["", ".", "..", "../000001-step-1", "/etc", ".x", "index.json", "a\0b", "9" * 30])
def test_no_name_leads_out_of_the_store(store, which):
    save(store, 1)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        store.load(which)


def test_the_last_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "c", keep_last=3)
    pruned = [save(store, step).pruned for step in range(6)]
    assert pruned == [(), (), (), ("000001-step-0",), ("000002-step-1",), ("000003-step-2",)]
    assert names(store) == ["000004-step-3", "000005-step-4", "000006-step-5"]
    assert content(store.path) == [*names(store), "index.json"], "something is left of those removed"


@pytest.mark.parametrize(("mode", "best"), [("max", [2, 4]), ("min", [1, 5])])
def test_the_best_are_kept(tmp_path, mode, best):
    store = CheckpointStore(tmp_path / "c", keep_best=KeepBest("m", mode, 2))
    for step, score in enumerate([5.0, 1.0, 9.0, 5.0, 8.0, 2.0, 5.0, 5.0, None, float("nan"), float("inf")]):
        save(store, step, score=score)
    assert [info.step for info in store.list()] == [*best, 9, 10]
    first = {"max": 2, "min": 1}[mode]
    assert store.best().step == store.load("best").state["step"] == first
    assert [entry["step"] for entry in index(store)["best"]] == ([2, 4] if mode == "max" else [1, 5])
    assert index(store)["latest"]["step"] == 10


def test_of_equals_the_earlier_is_the_best(tmp_path):
    store = CheckpointStore(tmp_path / "c", keep_best=KeepBest("m"))
    for step in range(5):
        save(store, step, score=1.0)
    assert [info.step for info in store.list()] == [0, 3, 4]


def test_scores_of_another_metric_are_not_compared(tmp_path):
    save(CheckpointStore(tmp_path / "c", keep_best=KeepBest("accuracy", "max")), 1, score=0.9)
    store = CheckpointStore(tmp_path / "c", keep_best=KeepBest("loss", "min"))
    save(store, 2, score=3.0)
    assert store.best().step == 2


def test_the_newest_with_a_tag_is_kept(store):
    save(store, 0, protect="boundary")
    for step in range(1, 5):
        save(store, step)
    assert [info.step for info in store.list()] == [0, 3, 4]
    save(store, 5, protect="boundary")
    save(store, 6, protect="other")
    for step in range(7, 10):
        save(store, step)
    assert [info.step for info in store.list()] == [5, 6, 8, 9]


def test_those_of_errors_are_kept_apart(store):
    save(store, 1)
    save(store, 2, kind="error", protect="x")
    assert names(store) == ["000001-step-1", "error-000002-step-2"]
    assert store.latest().step == store.load().state["step"] == 1
    assert store.load("error-000002-step-2").state["step"] == 2
    for step in range(3, 7):
        save(store, step, kind="error")
    assert names(store) == ["000001-step-1", "error-000005-step-5", "error-000006-step-6"]
    assert index(store)["latest"]["step"] == 1
    store.remove("000001-step-1")
    assert store.latest() is None
    with pytest.raises(CheckpointError, match="no checkpoint 'latest'"):
        store.load()


@pytest.mark.parametrize("harm", ["missing", "torn", "not json", "of another run", "a directory"])
def test_the_index_is_made_anew(store, harm):
    for step in range(3):
        save(store, step)
    path = store.path / "index.json"
    whole = path.read_bytes()
    path.unlink()
    if harm == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "not json":
        path.write_bytes(b"\xff\0")
    elif harm == "of another run":
        path.write_text('{"format": 1, "latest": {"name": "000099-step-1"}, "next": "x"}')
    elif harm == "a directory":
        path.mkdir()
    assert store.load().state["step"] == 2, "loading trusts the index"
    if harm == "a directory":
        saved = save(store, 3)
        assert "the index was not written" in saved.problems[0]
        assert store.load().state["step"] == 3
        return
    store.rebuild_index()
    assert json.loads(whole) == index(store)
    assert save(store, 3).info.number == 4


def test_no_number_is_used_twice(store):
    for step in range(3):
        save(store, step)
    shutil.rmtree(store.path / "000003-step-2")
    assert save(store, 3).info.name == "000004-step-3"
    store.remove("000004-step-3")
    store.rebuild_index()
    assert save(store, 4).info.name == "000005-step-4"


def test_what_crashes_left_is_swept_and_the_rest_is_not(store):
    save(store, 1)
    (store.path / ".saving-000002-0123abcd").mkdir()
    (store.path / ".saving-000002-0123abcd" / "state.json").write_text("x")
    (store.path / ".removing-000001-0123abcd").mkdir()
    (store.path / ".index.json.77.part").write_text("x")
    (store.path / "mine.txt").write_text("x")
    (store.path / "my copy").mkdir()
    (store.path / ".hidden").mkdir()
    assert names(store) == ["000001-step-1"]
    save(store, 2)
    kept = [".hidden", "000001-step-1", "000002-step-2", "index.json", "mine.txt", "my copy"]
    assert content(store.path) == kept


def test_a_copy_under_a_name_of_ones_own_is_left_alone_and_can_be_loaded(store):
    save(store, 1)
    shutil.copytree(store.path / "000001-step-1", store.path / "the good one")
    for step in range(2, 6):
        save(store, step)
    assert store.load("the good one").state["step"] == 1
    assert len(store.list()) == 2


def test_a_moved_run_reads_as_before(store, tmp_path):
    save(store, 1)
    moved = store.path.parent.rename(tmp_path / "elsewhere") / "checkpoints"
    assert CheckpointStore(moved).load().state["step"] == 1
    assert CheckpointStore(moved).verify("latest") == ()


def test_reading_writes_nothing(store):
    for step in range(3):
        save(store, step)
    (store.path / "index.json").unlink()
    (store.path / ".saving-000004-0123abcd").mkdir()

    def everything():
        paths = [store.path, *store.path.rglob("*")]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    before = everything()
    reader = CheckpointStore(store.path)
    assert reader.load().state["step"] == 2
    assert reader.verify("latest") == ()
    assert len(reader.list()) == 2
    assert reader.latest().step == 2
    assert everything() == before


def test_a_save_during_a_save_is_refused(store):
    with store.begin(step=1, kind="step") as saving:
        with pytest.raises(CheckpointError, match="under way"):
            save(store, 2)
        saving.commit({"a": 1})
        with pytest.raises(CheckpointError, match="begin another"):
            saving.commit({"a": 1})
    assert save(store, 2).info.number == 2


def test_a_save_that_is_given_up_leaves_nothing(store):
    with store.begin(step=1, kind="step") as saving:
        assert saving.directory.is_dir()
    assert not any(store.path.iterdir())


def test_pruning_that_fails_is_told_and_nothing_else_suffers(store, monkeypatch):
    for step in range(2):
        save(store, step)

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("ridgepole.checkpoint.store.remove_tree", refuse)
    saved = save(store, 2)
    monkeypatch.undo()
    assert saved.pruned == ()
    assert "000001-step-0 was not removed" in saved.problems[0]
    assert names(store) == ["000002-step-1", "000003-step-2"]
    save(store, 3)
    assert not list(store.path.glob(".*")), "the next save sweeps what is left"


def test_no_tensors_no_tensor_file(store):
    info = store.save({"a": 1}, step=0, kind="step").info
    assert content(info.path) == ["manifest.json", "state.json"]
    assert store.load().state == {"a": 1}
