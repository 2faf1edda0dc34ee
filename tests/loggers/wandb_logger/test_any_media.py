"""Random arrays and texts through the calls for media, read back from every logger."""

import html
import io
import json
import math
import os
import random
import wave

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ridgepole.loggers.local.media_files import read_text
from ridgepole.permanences import BasicLogger, LoggerGroup, TensorBoardLogger, WandBLogger
from wandb_server import forget_account

COUNT = 800 if os.environ.get("RIDGEPOLE_TORTURE") else 40
VALUES = (0.0, 0.5, 1.0, -0.25, 7.0, math.nan, math.inf, -math.inf)  # exact in every type below
ARRAYS = (
    *(lambda x, kind=kind: np.array(x, kind) for kind in ("f2", "f4", "f8", np.longdouble)),
    *(lambda x, kind=kind: torch.tensor(x, dtype=kind) for kind in (torch.float16, torch.float64, torch.bfloat16)),
    lambda x: torch.tensor(x, requires_grad=True),
    lambda x: torch.tensor(x).to_sparse(),
    lambda x: np.asfortranarray(x),
    lambda x: np.ma.array(x),
)
SEQUENCES = (
    *ARRAYS,
    list,
    tuple,
    pd.Series,
    lambda x: [torch.tensor(each) for each in x],
    lambda x: [torch.tensor(x[:1]), torch.tensor(x[1:])],
    lambda x: np.array(x, object),
)
NO_NUMBERS = (
    lambda: [1j],
    lambda: ["a", 1.0],
    lambda: np.array(["a", "b"]),
    lambda: torch.empty(3, device="meta"),
    lambda: np.array(["2026-01-02", "NaT"], "datetime64[ns]"),
    lambda: pd.DataFrame({"a": ["x"]}),
    lambda: [object(), b"x"],
)


def drawn(r, *shape):
    return np.array(r.choices(VALUES, k=math.prod(shape))).reshape(shape).tolist()


def level(values, low, high):
    """The numbers of floats from `low` to `high`, as documented: NaN is 0, and others are clipped."""
    return np.clip(np.nan_to_num(np.array(values)), low, high)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Each random object by its call and step; the index lines and events of the loggers."""
    work, r = tmp_path_factory.mktemp("media"), random.Random(41)
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        forget_account(patch, work / "home")
        patch.setenv("WANDB_DIR", str(work / "wandb"))
        local, board = BasicLogger(work / "local"), TensorBoardLogger(work / "board")
        tracker = WandBLogger(project="any", mode="offline")
        with local, board, tracker:
            group = LoggerGroup([local, board, tracker])
            for step in range(COUNT):
                numbers, pixels = drawn(r, r.randrange(2, 60)), drawn(r, 4, 5)
                sound, video = drawn(r, r.randrange(9, 30), 2), drawn(r, 2, 4, 5)
                text = "".join(r.choices("aé🔥\n\"'\0,;<|`\ud800", k=r.randrange(6)))
                group.log_histogram("histogram", r.choice(SEQUENCES)(numbers), step=step)
                group.log_histogram("other", r.choice(NO_NUMBERS)(), step=step)
                group.log_text("text", text, step=step)
                group.log_html("html", text, step=step)
                group.log_image("image", r.choice(ARRAYS)(pixels), step=step)
                group.log_audio("audio", r.choice(ARRAYS)(sound), sample_rate=8000, step=step)
                group.log_video("video", r.choice(ARRAYS)(video), step=step)
                given |= {("histogram", step): numbers, ("text", step): text, ("html", step): text,
                          ("image", step): pixels, ("audio", step): sound, ("video", step): video}  # fmt: skip
                group.flush()  # W&B's queue is not what is tested
            state = group.get_state()
            directory = tracker.get_state()["sync_dir"]
    assert state["off"] == []
    lines = {}
    for line in map(json.loads, (work / "local" / "media.jsonl").read_bytes().splitlines()):
        assert lines.setdefault((line["name"], line["step"]), line) is line
    assert len(lines) == 7 * COUNT
    return work / "local", work / "board", directory, given, lines


def of(name, lines):
    return [lines[name, step] for step in range(COUNT)]


def test_histograms_count_every_number(logged):
    *_, given, lines = logged
    for step, line in enumerate(of("histogram", lines)):
        values = np.array(given["histogram", step])
        assert sum(line["counts"]) == np.isfinite(values).sum()
        assert (line["nan"], line["nonfinite"]) == (np.isnan(values).sum(), (~np.isfinite(values)).sum())
        if np.isfinite(values).any():
            assert line["edges"][0] <= values[np.isfinite(values)].min()
            assert line["edges"][-1] >= values[np.isfinite(values)].max()


def test_texts_and_pages_are_what_was_given(logged):
    local, _, _, given, lines = logged
    for name in ("text", "html"):
        for step, line in enumerate(of(name, lines)):
            found = read_text(local, line).encode()
            assert found == given[name, step].encode("utf-8", "backslashreplace")
    assert all(line["kind"] == "text" for line in of("other", lines))
    assert all(read_text(local, line).partition(" ")[2] for line in of("other", lines))


def test_pictures_sounds_and_videos_have_the_given_levels(logged):
    local, _, _, given, lines = logged
    for step, line in enumerate(of("image", lines)):
        pixels = np.array(given["image", step])
        with Image.open(local / line["file"]) as picture:
            found = np.asarray(picture.convert("L")).astype(float)
        finite = pixels[np.isfinite(pixels)]
        assert found.shape == pixels.shape
        if not finite.size or (finite.min() >= 0 and finite.max() <= 1):
            wanted = np.where(np.isfinite(pixels), pixels, 0.0) * 255
            assert np.abs(found - wanted).max() <= 1
        else:
            assert (found[pixels == finite.min()] == 0).all()
            assert (found[pixels == finite.max()] == 255).all() or finite.min() == finite.max()
    for step, line in enumerate(of("audio", lines)):
        with wave.open(str(local / line["file"])) as sound:
            found = np.frombuffer(sound.readframes(999), "<i2").reshape(-1, sound.getnchannels())
        wanted = level(given["audio", step], -1, 1) * 32767
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1
    for step, line in enumerate(of("video", lines)):
        with Image.open(local / line["file"]) as video:
            found = np.asarray(video.convert("L")).astype(float)
        assert np.abs(found - level(given["video", step], 0, 1)[0] * 255).max() <= 1


def test_tensorboard_has_every_medium(logged):
    local, board, _, _, lines = logged
    found = EventAccumulator(str(board), {"audio": 0, "images": 0, "tensors": 0, "histograms": 0})
    found.Reload()
    for events in (found.Audio("audio"), found.Images("image"), found.Images("video"), found.Histograms("histogram"),
                   *map(found.Tensors, ("text", "other", "html"))):  # fmt: skip
        assert [event.step for event in events] == [*range(COUNT)]
    for event in found.Audio("audio"):
        assert event.encoded_audio_string == (local / lines["audio", event.step]["file"]).read_bytes()
    for event in found.Images("image"):
        with Image.open(io.BytesIO(event.encoded_image_string)) as picture:
            assert picture.size == (5, 4)
    for event in found.Histograms("histogram"):
        assert event.histogram_value.num == sum(lines["histogram", event.step]["counts"])


def test_wandb_has_every_medium(logged, recorded):
    local, _, directory, given, lines = logged
    run = recorded(directory)
    rows = [row for row in run.rows if "step" in row]
    for name in ("text", "html", "other", "image", "audio", "video"):
        assert [row["step"] for row in rows if name in row] == [*range(COUNT)]
    counted = {row["step"] for row in rows if not row.keys().isdisjoint({"histogram", "histogram/nan"})}
    assert counted == {*range(COUNT)}
    files = run.path.parent / "files"
    for row in rows:
        if "audio" in row:
            kept = (local / lines["audio", row["step"]]["file"]).read_bytes()
            assert (files / row["audio"]["path"]).read_bytes() == kept
        elif "text" in row:
            safe = given["text", row["step"]].encode("utf-8", "backslashreplace").decode()
            assert html.escape(safe) in (files / row["text"]["path"]).read_bytes().decode()
