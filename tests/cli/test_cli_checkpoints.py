"""`checkpoints ls|show|verify` and `load_checkpoint`."""

import json
import os
from pathlib import Path

import pytest

from ridgepole import CheckpointError, Permanence, Pipeline, PipelineProcess, RunDirError, load_checkpoint, process
from ridgepole.permanences import BaseLoggerManager

torch = pytest.importorskip("torch")


class Net(Permanence):
    def __init__(self, size: int = 2000):
        self.weight = torch.zeros(size)
        self.updates = 0

    def state_dict(self):
        return {"weight": self.weight, "updates": self.updates, "at": "no tag"}

    def load_state_dict(self, state):
        self.weight, self.updates = state["weight"], state["updates"]

    def cleanup(self):
        pass


class Train(PipelineProcess):
    def __init__(self, net: Net, logger: BaseLoggerManager):
        self.net, self.logger = net, logger

    def execute(self):
        for accuracy in (0.5, 0.75, 0.25):
            self.net.weight += 1
            self.net.updates += 1
            self.logger.log_metrics({"accuracy": accuracy})
            self.controller.tick()


BEST = {"keep_best": {"metric": "accuracy", "mode": "max"}}


def trained(root, checkpoint=BEST, **keys):
    pipeline = Pipeline("nets", progress=False, seed=1, checkpoint=checkpoint, **keys)
    return pipeline.permanence("net", Net).process("train", Train).run(root).path


@pytest.fixture
def run(tmp_path):
    return trained(tmp_path / "runs")


def damage(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_ls(run, ridgepole):
    done = ridgepole("checkpoints", "ls")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "STEP", "PROCESS", "SCORE", "SIZE", "AGE"]
    rows = {line.split()[1]: line for line in lines[2:]}
    assert "000003-step-2" in rows["best"]
    assert "train" in rows["best"]
    assert "0.75" in rows["best"]
    assert rows["best"].endswith("best"), "in the middle of a process that can't be resumed there"
    assert rows["boundary"].endswith("latest resumable")


def test_ls_json(run, ridgepole):
    rows = json.loads(ridgepole("checkpoints", "ls", run.name[:-2], "--json").stdout)
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert {row["step"]: row["score"] for row in rows if row["best"]} == {2: {"metric": "accuracy", "value": 0.75}}
    assert [row["step"] for row in rows if row["latest"]] == [3]
    assert {row["process"] for row in rows} == {None, "train"}


def test_show(run, ridgepole):
    done = ridgepole("checkpoints", "show", "latest")
    assert done.returncode == 0, done.stderr
    net = next(line for line in done.stdout.splitlines() if line.startswith("net "))
    assert net.split()[1:] == ["1", "8.1", "kB"], "2000 float32 and a little text"
    assert "(latest, resumable)" in done.stdout
    shown = json.loads(ridgepole("checkpoints", "show", run.name, "best", "--json").stdout)
    assert (shown["step"], shown["process"], shown["attempt"]) == (2, "train", 1)
    assert shown["permanences"]["net"]["tensors"] == 1
    assert shown["permanences"]["net"]["bytes"] > 8000


def test_show_needs_neither_the_code_nor_torch(run, ridgepole, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = ridgepole("checkpoints", "show", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "net " in done.stdout


def test_verify(run, ridgepole):
    done = ridgepole("checkpoints", "verify", run.name)
    assert done.returncode == 0
    assert {line.split()[1] for line in done.stdout.splitlines()[1:]} == {"ok"}
    newest = max((run / "checkpoints").glob("0*"))
    damage(newest / "state.safetensors")
    done = ridgepole("checkpoints", "verify", run.name)
    assert done.returncode == 1
    (bad,) = [line for line in done.stdout.splitlines()[1:] if not line.endswith("ok")]
    assert bad.startswith(newest.name)
    assert "state.safetensors is damaged" in bad
    assert ridgepole("checkpoints", "verify", run.name, "best").returncode == 0
    rows = json.loads(ridgepole("checkpoints", "verify", run.name, newest.name, "--json").stdout)
    assert [(row["name"], row["valid"]) for row in rows] == [(newest.name, False)]


def test_damage_that_a_listing_can_see(run, ridgepole):
    newest = max((run / "checkpoints").glob("0*"))
    damage(newest / "manifest.json")
    assert "damaged" in ridgepole("checkpoints", "ls").stdout.splitlines()[-1]
    done = ridgepole("checkpoints", "show", "latest", newest.name)
    assert (done.returncode, "its manifest is damaged" in done.stderr) == (1, True)
    assert "latest" in ridgepole("checkpoints", "ls").stdout.splitlines()[-2]


def test_verify_changes_nothing(run, ridgepole):
    def everything():
        return {path: path.lstat().st_mtime_ns for path in [run, *run.rglob("*")]}

    before = everything()
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for verb in ("ls", "show", "verify"):
            assert ridgepole("checkpoints", verb).returncode == 0
    finally:
        for path in before:
            path.chmod(0o755)
    assert everything() == before


def test_verify_while_the_run_goes_on(tmp_path, ridgepole):
    codes = []

    class Look(PipelineProcess):
        def execute(self):
            for _ in range(3):
                self.controller.tick()
            done = ridgepole("checkpoints", "verify", self.controller.run_dir.name)
            codes.append((done.returncode, done.stdout + done.stderr))

    Pipeline(progress=False, checkpoint={"every_steps": 1}).process("look", Look).run(tmp_path / "runs")
    ((code, text),) = codes
    assert code == 0, text


def test_what_is_not_there(run, ridgepole, tmp_path):
    assert "no run 'nope'" in ridgepole("checkpoints", "ls", "nope").stderr
    done = ridgepole("checkpoints", "show", "latest", "000009-step-9")
    assert done.returncode == 1
    assert "no checkpoint '000009-step-9'" in done.stderr
    none = Pipeline(progress=False, checkpoint=False).process("nothing", process(lambda: None)).run(tmp_path / "runs")
    assert ridgepole("checkpoints", "ls").stdout == f"run {none.id} has no checkpoints\n"
    assert json.loads(ridgepole("checkpoints", "ls", "--json").stdout) == []
    for verb in ("show", "verify"):
        done = ridgepole("checkpoints", verb)
        assert (done.returncode, "no checkpoint in" in done.stderr) == (1, True)
    done = ridgepole("checkpoints", "ls", "2")
    assert (done.returncode, "matches 2 runs" in done.stderr) == (2, True)


def test_a_newer_format(run, ridgepole):
    from ridgepole.checkpoint import manifest

    newest = max((run / "checkpoints").glob("0*"))
    info = manifest.decode_manifest((newest / "manifest.json").read_bytes(), newest)
    body = manifest.encode_manifest(info)[: -manifest._TAIL].replace(b'"format":1', b'"format":99') + b"}"
    import hashlib

    seal = manifest._SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
    (newest / "manifest.json").write_bytes(body[:-1] + seal)
    assert ridgepole("checkpoints", "ls").stdout.splitlines()[-1].endswith("newer")
    for call in (("show", run.name, newest.name), ("verify", run.name)):
        done = ridgepole("checkpoints", *call)
        assert done.returncode == 1
        assert "written by a newer Ridgepole (format 99" in done.stdout + done.stderr


# --- load_checkpoint


def test_load_checkpoint(run, monkeypatch):
    states = load_checkpoint(run, "best")
    assert states["net"]["updates"] == 2
    assert torch.equal(states["net"]["weight"], torch.full((2000,), 2.0))
    assert load_checkpoint(run.name, "latest", run.parent)["net"]["updates"] == 3
    assert load_checkpoint("latest", root=str(run.parent))["net"]["updates"] == 2
    monkeypatch.chdir(run.parents[1])
    assert load_checkpoint("latest", "000001-step-0")["net"]["updates"] == 0


def test_load_checkpoint_without_a_score(tmp_path):
    path = trained(tmp_path, checkpoint=True)
    with pytest.raises(CheckpointError, match=r"no checkpoint of run .* has a score: .* or ask for 'latest'"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no checkpoint 'x'"):
        load_checkpoint(path, "x")
    with pytest.raises(RunDirError, match="no run 'nope'"):
        load_checkpoint("nope", root=tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load_checkpoint(trained(tmp_path, checkpoint=False))


def test_load_checkpoint_passes_damage_over_loudly(run):
    newest = max((run / "checkpoints").glob("0*"))
    damage(newest / "state.json")
    with pytest.warns(UserWarning, match=f"checkpoint {newest.name} can't be used"):
        states = load_checkpoint(run, "latest")
    assert states["net"]["updates"] == 2
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(run, newest.name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(run):
    newest = max((run / "checkpoints").glob("0*"))
    (newest / "state.json").chmod(0)
    with pytest.raises(CheckpointError, match="can't be read"):
        load_checkpoint(run, newest.name)
