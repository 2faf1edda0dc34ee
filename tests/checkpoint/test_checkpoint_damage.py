"""Damage anywhere is found, the checkpoint before is used, and the caller is told; forged files do no harm."""

import hashlib
import json
import os
import pickle
import shutil
import struct

import numpy as np
import orjson
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ridgepole import CheckpointError
from ridgepole.checkpoint import CheckpointStore, KeepBest

pytestmark = pytest.mark.fault("damaged and partial checkpoints: detected, the one before is used")

BLOCK = 4096


@pytest.fixture
def two(store, rich_state):
    """A store of two checkpoints; the newer one is for spoiling."""
    store.save({"first": True, **rich_state}, step=1, kind="step")
    store.save({"first": False, **rich_state}, step=2, kind="step")
    return store


def newest(store):
    return store.path / "000002-step-2"


def assert_the_one_before_is_used(store, harm):
    """Loading says what it passed over, loading by name refuses, verify names the problem."""
    fresh = CheckpointStore(store.path)
    loaded = fresh.load()
    assert loaded.state["first"] is True, f"{harm}: the damaged one was used"
    assert [passed.name for passed in loaded.passed_over] == ["000002-step-2"], harm
    assert loaded.passed_over[0].reason
    assert "000002-step-2 can't be used" in str(loaded.passed_over[0])
    with pytest.raises(CheckpointError, match="000002-step-2 can't be used"):
        fresh.load("000002-step-2")
    assert fresh.verify("000002-step-2"), harm
    assert fresh.verify("000001-step-1") == ()


def places(path):
    """A byte in every block of a file, and its last one."""
    size = path.stat().st_size
    return sorted({*range(0, size, BLOCK), *range(BLOCK // 2, size, BLOCK), size - 1})


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_found(two):
    count = 0
    for path in sorted(newest(two).iterdir()):
        whole = path.read_bytes()
        for place in places(path):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << (place % 8)
            path.write_bytes(spoilt)
            assert_the_one_before_is_used(two, f"bit at {place} of {path.name}")
            count += 1
        path.write_bytes(whole)
    assert count > 20
    assert two.load().state["first"] is False


def test_every_bit_of_a_manifest_counts(store):
    store.save({"first": True}, step=1, kind="step")
    store.save({"first": False}, step=2, kind="step", meta={"a": "b"})
    path = newest(store) / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << (place % 8)
        path.write_bytes(spoilt)
        loaded = store.load()
        assert loaded.state == {"first": True}, f"byte {place}"
        assert loaded.passed_over, f"byte {place}"


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "lengthened"])
def test_a_file_of_another_length_is_found(two, harm):
    for path in sorted(newest(two).iterdir()):
        whole = path.read_bytes()
        for place in places(path):
            path.write_bytes(whole[:place] if harm == "cut" else whole + b"\0" * (place + 1))
            assert_the_one_before_is_used(two, f"{path.name} {harm} at {place}")
        path.write_bytes(whole)


@pytest.mark.parametrize("harm", ["deleted", "a directory", "a link", "a pipe", "a link that leads nowhere"])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "state.safetensors"])
def test_a_file_that_is_none_is_found(two, name, harm, tmp_path):
    path = newest(two) / name
    real = path.rename(tmp_path / "real")
    if harm == "a directory":
        path.mkdir()
    elif harm == "a link":  # what it leads to is the right file: it is refused all the same
        path.symlink_to(real)
    elif harm == "a pipe":
        os.mkfifo(path)
    elif harm == "a link that leads nowhere":
        path.symlink_to("nowhere")
    assert_the_one_before_is_used(two, f"{name} is {harm}")


def test_a_checkpoint_that_is_a_link_is_refused(two, tmp_path):
    real = newest(two).rename(tmp_path / "real")
    newest(two).symlink_to(real)
    assert_the_one_before_is_used(two, "a link in the place of the directory")


def test_an_empty_directory_is_no_checkpoint(two):
    shutil.rmtree(newest(two))
    newest(two).mkdir()
    assert_the_one_before_is_used(two, "an empty directory")


def test_the_manifest_of_another_checkpoint(two):
    shutil.rmtree(newest(two))
    shutil.copytree(two.path / "000001-step-1", newest(two))
    assert_the_one_before_is_used(two, "a copy of the one before")


def test_the_files_of_another_checkpoint(two):
    shutil.copy(two.path / "000001-step-1" / "state.json", newest(two) / "state.json")
    assert_the_one_before_is_used(two, "a file of the one before")


def test_where_all_are_damaged_each_is_named(two):
    for info in two.list():
        (info.path / "state.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="no usable checkpoint") as caught:
        two.load()
    assert "000001-step-1" in str(caught.value)
    assert "000002-step-2" in str(caught.value)


def test_the_next_best_is_used(tmp_path):
    store = CheckpointStore(tmp_path / "c", keep_best=KeepBest("m", "max", 2))
    for step, score in enumerate([0.1, 0.9, 0.8, 0.0, 0.0]):
        store.save({"step": step, "w": torch.ones(9)}, step=step, kind="step", score=score)
    path = store.find("best").path / "state.safetensors"
    path.write_bytes(path.read_bytes()[::-1])
    loaded = store.load("best")
    assert loaded.state["step"] == 2
    assert [passed.name for passed in loaded.passed_over] == ["000002-step-1"]


def test_a_sound_one_is_not_pruned_for_the_sake_of_a_damaged_one(store):
    """What a load found damaged doesn't count as one of the last."""
    for step in (1, 2):
        store.save({"step": step}, step=step, kind="step")
    (newest(store) / "state.json").write_bytes(b"")
    assert store.load().state["step"] == 1
    store.save({"step": 3}, step=3, kind="step")
    (store.path / "000003-step-3" / "state.json").write_bytes(b"")
    assert store.load().state["step"] == 1
    for step in (4, 5):
        store.save({"step": step}, step=step, kind="step")
    assert [info.step for info in store.list()] == [4, 5]


def test_a_checkpoint_without_its_manifest_is_never_pruned(store):
    for step in range(4):
        store.save({"step": step}, step=step, kind="step")
        if step == 0:
            (store.path / "000001-step-0" / "manifest.json").write_bytes(b"")
    assert [info.name for info in store.list()] == ["000001-step-0", "000003-step-2", "000004-step-3"]
    assert store.list()[0].problem


# --- forged: everything fits its hashes


def seal(fields):
    body = orjson.dumps(fields)
    return body[:-1] + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def forge(store, change=None, **files):
    """Replaces files of the newest checkpoint, and makes its manifest fit them."""
    path = newest(store)
    fields = json.loads((path / "manifest.json").read_bytes())
    del fields["sha256"]
    for name, data in files.items():
        name = name.replace("__", ".")
        (path / name).write_bytes(data)
        fields["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if change:
        change(fields)
    (path / "manifest.json").write_bytes(seal(fields))


def test_a_newer_format_is_refused_and_not_passed_over(two):
    forge(two, lambda fields: fields.update(format=3))
    with pytest.raises(CheckpointError, match=r"newer Ridgepole \(format 3.*upgrade"):
        two.load()
    with pytest.raises(CheckpointError, match="newer Ridgepole"):
        two.load("2")
    assert two.verify("2")
    for step in range(3, 9):
        two.save({}, step=step, kind="step")
    assert newest(two).exists(), "what a newer version wrote is not this one's to remove"


@pytest.mark.parametrize(
    "name", ["../../secret.json", "/etc/passwd", "..", "a/b.json", "manifest.json", ".x.json", "x.pkl", ""]
)
def test_a_manifest_can_not_name_a_file_elsewhere(two, name, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    forge(two, lambda fields: fields["files"].update({name: {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}}))
    assert "malformed" in CheckpointStore(two.path).find("2").problem
    assert_the_one_before_is_used(two, name)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"format": None},
        {"number": 3},
        {"step": "2"},
        {"kind": "error"},
        {"files": []},
        {"files": {"state.json": {"size": -1, "sha256": ""}}},
        {"files": {"state.json": {"size": 1}}},
        {"files": {}},
        {"score": {"metric": "m", "mode": "median", "value": 1.0}},
        {"score": 1},
        {"meta": None},
    ],
    ids=str,
)
def test_a_manifest_that_no_save_writes(two, change):
    forge(two, lambda fields: fields.update(change))
    assert_the_one_before_is_used(two, str(change))


class Canary:
    """Unpickling it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "manifest.json"])
@pytest.mark.parametrize("how", ["pickle", "torch.save"])
def test_nothing_is_ever_unpickled(two, name, how, tmp_path):
    canary = tmp_path / "canary"
    if how == "pickle":
        data = pickle.dumps({"state": Canary(canary)})
    else:
        torch.save({"state": Canary(canary)}, tmp_path / "x.pt")
        data = (tmp_path / "x.pt").read_bytes()
    if name == "manifest.json":
        (newest(two) / name).write_bytes(data)
    else:
        forge(two, **{name.replace(".", "__"): data})
    loaded = two.load()
    assert loaded.state["first"] is True
    assert loaded.passed_over
    two.list()
    two.verify("2")
    assert not canary.exists()


HOSTILE_TREES = [
    {"pickle": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAVmYWxzZZSFlFKULg=="},
    {"torch.dtype": "load"},
    {"torch.dtype": "__dict__"},
    {"torch.dtype": "os.system"},
    {"torch.device": "nosuch:99"},
    {"torch.device": 3},
    {"torch": {"at": "nowhere", "dtype": "float32", "shape": [1]}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [2**40, 2**40]}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [-1]}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [True]}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [1], "view": {"offset": 10**6, "stride": [1]}}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [1], "view": {"offset": -4, "stride": [1]}}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [2, 2], "view": {"offset": 0, "stride": [10**12, 1]}}},
    {"torch": {"at": "w", "dtype": "float32", "shape": [4], "stride": [10**12]}},
    {"torch": {"at": "w", "dtype": "float64", "shape": [4]}},
    {"torch": {"at": "a", "dtype": "float32", "shape": [4]}},
    {"numpy": {"at": "a", "dtype": "|O", "shape": [2]}},
    {"numpy": {"at": "a", "dtype": [["f", "|O"]], "shape": [2]}},
    {"numpy": {"at": "a", "dtype": "<f8", "shape": [10**9]}},
    {"numpy": {"at": "a", "dtype": "<f8", "shape": [1]}},
    {"numpy": {"at": "a", "dtype": "os.system", "shape": [1]}},
    {"numpy": {"at": "a", "dtype": {"names": []}, "shape": [1]}},
    {"numpy": {"at": "w", "dtype": "<f4", "shape": [4]}},
    {"numpy.scalar": ["|O", "AAAAAAAAAAA="]},
    {"numpy.scalar": ["<f8", "AA=="]},
    {"bytes": {"at": "w"}},
    {"bytes": "not base64!"},
    {"numbers": ["list", "u", "AAAA"]},
    {"numbers": ["eval", "q", "AAAAAAAAAAA="]},
    {"numbers": ["list", "q", "AAAA"]},
    {"int": "__import__('os')"},
    {"int": 5},
    {"float": "00"},
    {"complex": ["00", "00"]},
    {"str": "gA=="},
    {"range": ["a"]},
    {"range": [1, 2, 0]},
    {"dict": ["one"]},
    {"dict": [["unhashable"], 1]},
    {"set": [[1]]},
    {"tuple": "abc"},
    {"tuple": {"a": 1}},
    {"deque": [-1]},
    {"deque": []},
    {"Counter": 3},
    {"Path": 3},
    {"map": []},
    {"map": {}, "tuple": []},
    {"OrderedDict": [], "_metadata": 1, "x": 2},
    {},
    {"__reduce__": []},
]


@pytest.mark.parametrize("node", HOSTILE_TREES, ids=lambda node: str(node)[:60])
def test_a_forged_tree_is_damage(store, node):
    for first in (True, False):
        store.save({"first": first, "w": torch.arange(4.0), "a": np.arange(2.0)}, step=2 - first, kind="step")
    document = json.loads((newest(store) / "state.json").read_bytes())
    document["state"]["map"]["w"] = node
    forge(store, state__json=json.dumps(document).encode())
    loaded = store.load()
    assert loaded.state["first"] is True
    assert "state.json" in loaded.passed_over[0].reason


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"null", b'{"state": 1, "memory": {}}', b"[" * 100_000, b'{"a"', b"\xff"]
)
def test_a_forged_document_is_damage(store, document):
    for first in (True, False):
        store.save({"first": first}, step=2 - first, kind="step")
    forge(store, state__json=document)
    assert store.load().state["first"] is True


def tensor_file(header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


FORGED_FILES = {
    "empty": b"",
    "short": b"\0\0\0",
    "a header beyond the end": struct.pack("<Q", 2**63) + b"{}",
    "a header of 2**64-1": b"\xff" * 8,
    "no JSON": tensor_file(b"\x80\x04K."),
    "nested without end": tensor_file(b"[" * 100_000),
    "no object": tensor_file([1]),
    "an unknown dtype": tensor_file(entry("OBJ")),
    "a shape that overflows": tensor_file(entry(shape=(2**32, 2**32, 2**32))),
    "a negative size": tensor_file(entry(shape=(-4,), offsets=(16, 0))),
    "offsets beyond the end": tensor_file(entry(shape=(2**40,), offsets=(0, 2**42))),
    "a gap": tensor_file(entry(shape=(3,), offsets=(4, 16))),
    "bytes left over": tensor_file(entry(shape=(3,), offsets=(0, 12))),
    "an overlap": tensor_file(entry() | {"x": {"dtype": "F32", "shape": (4,), "data_offsets": (0, 16)}}),
    "a name the tree does not know": tensor_file({"x": entry()["w"]}),
    "no entry": tensor_file({}, b""),
    "entries of another kind": tensor_file({"w": 5}),
    "a shape of a text": tensor_file(entry(shape="4")),
    "offsets of floats": tensor_file(entry(offsets=(0.0, 16.0))),
    "a thousand dimensions": tensor_file(entry(shape=(4, *[1] * 1000))),
}


@pytest.mark.parametrize("name", FORGED_FILES)
def test_a_forged_tensor_file_is_damage(store, name):
    for first in (True, False):
        store.save({"first": first, "w": torch.arange(4.0)}, step=2 - first, kind="step")
    forge(store, state__safetensors=FORGED_FILES[name])
    loaded = store.load()
    assert loaded.state["first"] is True
    assert "state.safetensors is damaged" in loaded.passed_over[0].reason


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_no_bytes_do_more_than_count_as_damage(tmp_path, data):
    store = CheckpointStore(tmp_path / "c")
    if not store.list():
        for first in (True, False):
            store.save({"first": first, "w": torch.arange(4.0), "t": (1, b"x")}, step=2 - first, kind="step")
    name = data.draw(st.sampled_from(["state.json", "state.safetensors"]))
    original = (store.path / "000001-step-1" / name).read_bytes()
    start = data.draw(st.integers(0, len(original)))
    spoilt = (
        original[:start] + data.draw(st.binary(max_size=20)) + original[data.draw(st.integers(start, len(original))) :]
    )
    forge(store, **{name.replace(".", "__"): spoilt})
    store.load()  # some of these are sound states by chance; what matters is that nothing else is raised
