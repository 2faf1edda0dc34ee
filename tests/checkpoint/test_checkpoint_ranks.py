"""Several ranks write a part each into one save; rank 0 commits all of it or nothing."""

import json
import multiprocessing

import pytest
import torch

from ridgepole import CheckpointError, StateError
from ridgepole.checkpoint import CheckpointStore, write_part


def part(directory, rank, pipe):
    receipt = write_part(directory, rank, {"rng": {"rank": rank, "t": torch.full((3,), rank)}})
    pipe.send(json.dumps(receipt))


@pytest.fixture
def saved(store):
    """A checkpoint of four ranks, three of which were processes of their own."""
    context = multiprocessing.get_context("fork")
    with store.begin(step=5, kind="step") as saving:
        receipts = []
        for rank in (1, 2, 3):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=part, args=(str(saving.directory), rank, sender))
            process.start()
            receipts.append(json.loads(receiver.recv()))
            process.join(60)
        return saving.commit({"rng": {"rank": 0}}, parts=receipts, world_size=4)


def test_each_rank_gets_its_part_back(store, saved):
    assert saved.info.world_size == 4
    assert len(saved.info.files) == 7
    for rank in (1, 2, 3):
        loaded = store.load(ranks=[rank])
        assert loaded.state == {"rng": {"rank": 0}}
        assert loaded.parts[rank]["rng"]["rank"] == rank
        assert torch.equal(loaded.parts[rank]["rng"]["t"], torch.full((3,), rank))
    loaded = store.load(ranks=range(9))
    assert list(loaded.parts) == [1, 2, 3], "a larger world has ranks without a part"
    assert store.load().parts == {}


@pytest.mark.parametrize("name", ["rank-00002.json", "rank-00002.safetensors"])
def test_damage_to_one_part_counts_for_every_rank(store, saved, name):
    """Else one rank would go back to an earlier checkpoint and the others not."""
    path = saved.info.path / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for ranks in ([], [1], [2]):
        with pytest.raises(CheckpointError, match=name):
            store.load(ranks=ranks)


def test_a_rank_that_fails_leaves_nothing_behind(store):
    store.save({"a": 1}, step=1, kind="step")
    with pytest.raises(StateError, match=r"rng.a is a object"), store.begin(step=2, kind="step") as saving:
        write_part(saving.directory, 1, {"rng": {"a": object()}})
    assert [path.name for path in store.path.iterdir() if path.name != "index.json"] == ["000001-step-1"]


@pytest.mark.parametrize("harm", ["missing", "shorter", "twice", "elsewhere", "rank 0's"])
def test_a_receipt_that_does_not_fit_is_refused(store, harm, tmp_path):
    with store.begin(step=1, kind="step") as saving:
        receipt = write_part(saving.directory, 1, {"a": 1})
        receipts = [receipt]
        if harm == "missing":
            (saving.directory / "rank-00001.json").unlink()
        elif harm == "shorter":
            (saving.directory / "rank-00001.json").write_bytes(b"")
        elif harm == "twice":
            receipts = [receipt, receipt]
        elif harm == "elsewhere":
            (tmp_path / "x.json").write_text("{}")
            receipts = [{str(tmp_path / "x.json"): {"size": 2, "sha256": ""}}]
        elif harm == "rank 0's":
            receipts = [{"state.json": receipt["rank-00001.json"]}]
        with pytest.raises(CheckpointError, match="as its rank reported it"):
            saving.commit({"a": 1}, parts=receipts)
    assert not store.list()


def test_a_part_into_a_directory_that_is_gone(tmp_path):
    with pytest.raises(CheckpointError, match="not saved: No such file"):
        write_part(tmp_path / "gone", 1, {})
    with pytest.raises(ValueError, match="rank 0"):
        write_part(tmp_path, 0, {})


def test_a_reader_beside_the_writer_sees_whole_checkpoints_only(store):
    store.save({"a": 1}, step=1, kind="step")
    with store.begin(step=2, kind="step") as saving:
        write_part(saving.directory, 1, {"a": 1})
        assert CheckpointStore(store.path).load().info.step == 1
        saving.commit({"a": 2})
    assert CheckpointStore(store.path).load().state == {"a": 2}
