"""The proof: a training that goes on from any batch, in a new process, ends with the same bits."""

import json
import subprocess
import sys

import pytest

TRAINING = """
import hashlib, json, os, random, signal, sys
import numpy as np
import torch
from torch import nn
from ridgepole import ResumableLoader

class Images:
    # augmented by all three generators
    def __len__(self):
        return 22
    def __getitem__(self, index):
        image = torch.full((6,), index / 22) + 0.1 * torch.randn(6)
        image = image.flip(0) if random.random() < 0.5 else image
        return image * float(np.random.uniform(0.9, 1.1)), torch.tensor([index / 22])

class Training:
    def __init__(self, num_workers, seed=3):
        torch.manual_seed(seed); random.seed(seed); np.random.seed(seed)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.loader = ResumableLoader(Images(), 5, 2, num_workers=num_workers, seed=seed)

    def save(self, path):
        torch.save({
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(), "loader": json.dumps(self.loader.state_dict()),
        }, path + ".new")
        os.replace(path + ".new", path)

    def load(self, path):
        stored = torch.load(path)
        self.model.load_state_dict(stored["model"])
        self.optimiser.load_state_dict(stored["optimiser"])
        self.loader.load_state_dict(json.loads(stored["loader"]))
        torch.set_rng_state(stored["rng"])

    def run(self, after_step=lambda done: None):
        for images, targets in self.loader:
            loss = ((self.model(images) - targets) ** 2).mean()
            loss.backward(); self.optimiser.step(); self.optimiser.zero_grad()
            after_step(self.loader.cursor)
        bits = b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())
        return hashlib.sha256(bits + torch.get_rng_state().numpy().tobytes()).hexdigest()

torch.set_num_threads(1)
what, folder, counts = sys.argv[1], sys.argv[2], [int(count) for count in sys.argv[3]]
found = {}
for count in counts:
    if what == "whole":  # leaves a checkpoint of every step
        training = Training(count)
        training.save(f"{folder}/{count}-0")
        found[f"{count}"] = training.run(lambda done: training.save(f"{folder}/{count}-{done}"))
    elif what == "killed":
        def die(done):
            training.save(f"{folder}/{count}-last")
            if done == 6:
                os.kill(os.getpid(), signal.SIGKILL)
        training = Training(count)
        training.run(die)
    else:                # goes on from each of the checkpoints named
        for name in sys.argv[4:]:
            training = Training(count)
            training.load(f"{folder}/{name}")
            found[f"{name} with {count}"] = training.run()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    script = folder / "training.py"
    script.write_text(TRAINING)

    def start(what, counts, *names):
        command = [sys.executable, "-W", "error", script, what, str(folder), counts, *names]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def result(process):
    output, errors = process.communicate(timeout=110)
    assert process.returncode == 0, errors
    assert errors == ""
    return json.loads(output)


@pytest.fixture(scope="module")
def whole(training):
    """What a training that is left alone ends with; its checkpoints stay."""
    ends = result(training("whole", "02"))
    assert ends["0"] == ends["2"], "the number of workers changes nothing"
    return ends["0"]


def test_every_cursor_leads_to_the_same_bits(training, whole):
    """Stopped with no worker or two, gone on with no worker or two."""
    names = [f"{count}-{cursor}" for count in "02" for cursor in range(11)]
    ends = result(training("resumed", "02", *names))
    assert ends == {f"{name} with {count}": whole for name in names for count in "02"}


def test_a_killed_process_leaves_a_position_to_go_on_from(training, whole):
    killed = [training("killed", count) for count in "02"]
    for process in killed:
        process.communicate(timeout=110)
    assert [process.returncode for process in killed] == [-9, -9]
    ends = result(training("resumed", "02", "0-last", "2-last"))
    assert set(ends.values()) == {whole}
    assert len(ends) == 4
