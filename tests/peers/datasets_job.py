"""A process that goes through a data set of Hugging Face's, which a test kills and resumes."""

import json
import os
import signal
from pathlib import Path

from datasets import Dataset, load_dataset
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from ridgepole import Permanence, ResumableLoader, process, track


class Seen(Permanence):
    def __init__(self):
        self.items = []

    def state_dict(self):
        return {"items": list(self.items)}

    def load_state_dict(self, state):
        self.items = list(state["items"])

    def cleanup(self):
        Path("seen.json").write_text(json.dumps(self.items))


def numbers(shards=3):
    return Dataset.from_dict({"x": list(range(60))}).to_iterable_dataset(num_shards=shards)


def streamed():
    """Read a file as a stream, as from a hub."""
    Path("data.jsonl").write_text("".join(f'{{"x": {number}}}\n' for number in range(60)))
    return load_dataset("json", data_files="data.jsonl", split="train", streaming=True)


def mapped():
    data = numbers().map(lambda row: {"x": 3 * row["x"]}).filter(lambda row: row["x"] % 2 == 0)
    return data.batch(2)


def two_workers():
    return StatefulDataLoader(numbers(4), batch_size=4, num_workers=2, multiprocessing_context="fork")


SOURCES = {
    "iterable": numbers,
    "streamed": streamed,
    "mapped": mapped,
    "shards in another order": lambda: numbers(6).shuffle(seed=3, buffer_size=1),
    "buffer": lambda: numbers(6).shuffle(seed=3, buffer_size=20),
    "workers": two_workers,
    "loader": lambda: DataLoader(Dataset.from_dict({"x": list(range(60))}).with_format("torch"), 4, shuffle=True),
    "resumable": lambda: ResumableLoader(Dataset.from_dict({"x": list(range(60))}).with_format("torch"), batch_size=4),
}


@process
def train(seen: Seen) -> None:
    source = SOURCES[os.environ["SOURCE"]]()
    for number, item in enumerate(track(source, "train", tick=True)):
        if number == int(os.environ.get("KILL_AT", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)
        values = item["x"]
        seen.items.append(values.tolist() if hasattr(values, "tolist") else values)
