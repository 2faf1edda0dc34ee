"""Sounds, videos, pages and artifacts: in the local record, in TensorBoard, and back out of an export."""

import hashlib
import io
import json
import os
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ridgepole.export import refill
from ridgepole.permanences import BasicLogger, LoggerGroup, NullLogger, TensorBoardLogger

SOUND = (np.sin(np.arange(800) / 8) * 20_000).astype(np.int16)
VIDEO = np.stack([np.full((6, 8, 3), 80 * frame, np.uint8) for frame in range(3)])


def lines(directory):
    return [json.loads(line) for line in (directory / "media.jsonl").read_text().splitlines()]


def samples(path):
    with wave.open(str(path)) as sound:
        data = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, sound.getnchannels())
        return data, sound.getframerate()


def frames(path):
    with Image.open(path) as picture:
        found = []
        for number in range(picture.n_frames):
            picture.seek(number)
            found.append(np.asarray(picture.convert("RGB")))
        return found, picture.info["duration"]


@pytest.fixture
def basic(tmp_path):
    with BasicLogger(tmp_path / "local") as logger:
        yield logger


def kept(basic, number=-1):
    return basic.log_dir / lines(basic.log_dir)[number]["file"]


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (SOUND, SOUND[:, None]),
        (torch.from_numpy(SOUND), SOUND[:, None]),
        (np.stack([SOUND, -SOUND]), np.stack([SOUND, -SOUND], 1)),
        (np.stack([SOUND, -SOUND], 1), np.stack([SOUND, -SOUND], 1)),
        (np.float32([0, 0.5, 1, -1, 7, np.nan]), np.array([[0], [16384], [32767], [-32767], [32767], [0]])),
    ],
    ids=["int16", "tensor", "channels-first", "channels-last", "float"],
)
def test_an_array_of_sound_is_a_wav_file(basic, audio, expected):
    basic.log_audio("beep/../x", audio, sample_rate=16_000, step=3)
    (line,) = lines(basic.log_dir)
    assert (line["kind"], line["name"], line["step"]) == ("audio", "beep/../x", 3)
    data, rate = samples(kept(basic))
    assert data.tolist() == expected.tolist()
    assert rate == 16_000


@pytest.mark.parametrize(
    "video", [VIDEO, torch.from_numpy(VIDEO).permute(0, 3, 1, 2), VIDEO / 255.0], ids=["last", "first", "float"]
)
def test_an_array_of_frames_is_an_animated_picture(basic, video):
    basic.log_video("v", video, fps=10)
    found, duration = frames(kept(basic))
    assert np.abs(np.stack(found).astype(int) - VIDEO).max() <= 8, "of 256 colours"
    assert duration == 100


def test_files_are_kept_as_they_are_with_their_hash(basic, tmp_path):
    for name, log in (("a.mp3", basic.log_audio), ("b.mp4", basic.log_video), ("c.html", basic.log_html)):
        path = tmp_path / name
        path.write_bytes(os.urandom(1000))
        log("m", path)
        path.write_bytes(b"changed later")
    for line, suffix in zip(lines(basic.log_dir), (".mp3", ".mp4", ".html"), strict=True):
        data = (basic.log_dir / line["file"]).read_bytes()
        assert line["file"].endswith(suffix)
        assert line["bytes"] == len(data) == 1000
        assert line["sha256"] == hashlib.sha256(data).hexdigest()


def test_html_text_is_a_page(basic):
    basic.log_html("page", "<p>Grüße</p>")
    assert kept(basic).read_text("utf-8") == "<p>Grüße</p>"


@pytest.mark.parametrize("link", [False, True])
def test_an_artifact_is_a_copy_or_a_link(basic, tmp_path, link):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"weights")
    basic.log_artifact(path, link=link)
    basic.log_artifact(str(path), name="the best", link=link)
    first, second = lines(basic.log_dir)
    assert (first["kind"], first["name"], second["name"]) == ("artifact", "model.tar.gz", "the best")
    assert first["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert kept(basic).samefile(path) is link
    path.unlink()
    assert kept(basic).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda logger: logger.log_audio("a", SOUND), ValueError, "sample_rate"),
        (lambda logger: logger.log_audio("a", SOUND.astype(int), sample_rate=8), TypeError, "16-bit"),
        (lambda logger: logger.log_audio("a", np.zeros((3, 3, 3)), sample_rate=8), ValueError, "shape"),
        (lambda logger: logger.log_audio("a", "none.wav"), FileNotFoundError, "none.wav"),
        (lambda logger: logger.log_audio("a", __file__), ValueError, "ends in .wav"),
        (lambda logger: logger.log_video("a", np.zeros((2, 2))), ValueError, "shape"),
        (lambda logger: logger.log_video("a", VIDEO.astype(int) * 9), TypeError, "floats from 0 to 1"),
        (lambda logger: logger.log_video("a", VIDEO, fps=0), ValueError, "fps"),
        (lambda logger: logger.log_html("a", 3), TypeError, "text or a Path"),
        (lambda logger: logger.log_artifact(3), TypeError, "must be a path"),
        (lambda logger: logger.log_artifact("none"), FileNotFoundError, "none"),
        (lambda logger: logger.log_artifact("/tmp"), ValueError, "not a file"),
        (lambda logger: logger.log_html("", "x"), ValueError, "empty"),
    ],
)
def test_what_can_not_be_logged_is_refused_and_leaves_nothing(basic, call, error, words):
    with pytest.raises(error, match=words):
        call(basic)
    assert not (basic.log_dir / "media.jsonl").exists()


def log_all(logger, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"weights")
    logger.log_audio("sound", SOUND, sample_rate=8000, step=1)
    logger.log_video("video", VIDEO, step=2)
    logger.log_html("page", "<p>x</p>", step=3)
    logger.log_artifact(tmp_path / "model.bin", step=4)


def check_board(directory):
    found = EventAccumulator(str(directory), {"audio": 0, "images": 0, "tensors": 0})
    found.Reload()
    (sound,) = found.Audio("sound")
    assert (sound.sample_rate, sound.length_frames, sound.step) == (8000, 800, 1)
    with wave.open(io.BytesIO(sound.encoded_audio_string)) as data:
        assert data.readframes(800) == SOUND.tobytes()
    (video,) = found.Images("video")
    assert (video.width, video.height, video.step) == (8, 6, 2)
    assert len(frames(io.BytesIO(video.encoded_image_string))[0]) == 3
    for name in ("page", "model.bin"):
        (text,) = found.Tensors(name)
        assert b"the local record has it" in text.tensor_proto.string_val[0]


def test_a_group_and_a_replay_bring_all_to_tensorboard(tmp_path):
    with BasicLogger(tmp_path / "local") as local, TensorBoardLogger(tmp_path / "board") as board:
        log_all(LoggerGroup([local, board, NullLogger()]), tmp_path)
    check_board(tmp_path / "board")
    with TensorBoardLogger(tmp_path / "again") as board, BasicLogger(tmp_path / "copy") as copy:
        done = refill(tmp_path / "local", LoggerGroup([copy, board]))
    assert (done.media, done.skipped) == (4, ())
    check_board(tmp_path / "again")
    assert [line["sha256"] for line in lines(tmp_path / "copy")] == [
        line["sha256"] for line in lines(tmp_path / "local")
    ]


def test_a_file_that_changed_since_is_not_replayed(basic, tmp_path):
    log_all(basic, tmp_path)
    kept(basic).write_bytes(b"other")
    basic.flush()
    done = refill(basic.log_dir, NullLogger())
    (skipped,) = done.skipped
    assert "artifact 'model.bin'" in skipped
    assert "has changed since it was logged" in skipped
