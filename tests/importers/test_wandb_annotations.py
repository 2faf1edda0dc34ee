"""Masks, boxes and captions that the real client wrote are in the imported run."""

import os
import subprocess
import sys

import numpy as np
import orjson
import pytest
from PIL import Image

from ridgepole.importers import import_runs

pytest.importorskip("wandb")

PROGRAM = """
import numpy as np, wandb

pixels = np.full((20, 30, 3), 100, np.uint8)
classes = np.zeros((20, 30), np.uint8)
classes[5:9] = 2
box = {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.6}
data = [{"position": box, "class_id": 1, "scores": {"sure": 0.75}}]
boxes = {"truth": {"box_data": data, "class_labels": {1: "dog"}}}

def image(caption):
    masks = {"guess": {"mask_data": classes, "class_labels": {2: "cat"}}}
    return wandb.Image(pixels, caption=caption, masks=masks, boxes=boxes)

with wandb.init(project="p") as run:
    run.log({"one": image("a, <b>"), "loss": 0.5})
    run.log({"several": [image("first"), wandb.Image(pixels, caption="second"), wandb.Image(pixels)]})
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
    quiet |= {"WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_META": "true"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=os.environ | quiet, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder


def lines(path):
    return [orjson.loads(line) for line in (path / "media.jsonl").read_bytes().splitlines()]


def test_images_keep_their_masks_boxes_and_captions(written, tmp_path):
    (done,) = import_runs("wandb", written, tmp_path / "runs")
    assert done.notes == ()
    found = lines(done.path)
    annotated = [line for line in found if line["kind"] == "image"]
    assert [(line["name"], line["step"]) for line in annotated] == [("one", 0), ("several", 1)]
    for line in annotated:
        (box,) = line["boxes"]["truth"]
        assert box == {"corners": pytest.approx([3, 4, 15, 12]), "label": 1, "name": "dog", "score": 0.75}
        mask = line["masks"]["guess"]
        assert mask["names"] == {"2": "cat"}
        with Image.open(done.path / mask["file"]) as opened:
            labels = np.array(opened)
        assert labels.shape == (20, 30)
        assert np.unique(labels[5:9]).tolist() == [2]
        assert np.count_nonzero(labels) == 4 * 30
        with Image.open(done.path / line["plain"]) as opened:
            assert np.unique(np.array(opened)).tolist() == [100]
    texts = [(line["name"], line["text"], line["step"]) for line in found if line["kind"] == "text"]
    assert texts == [("one/caption", "a, <b>", 0), ("several/caption", "first", 1), ("several/caption", "second", 1)]
    assert len([line for line in found if line["kind"] == "figure"]) == 2, "those without annotations, as they are"
    assert done.media == len(found) == 7


def test_an_image_whose_boxes_are_lost_is_imported_without_them(written, tmp_path):
    copy = tmp_path / "wandb"
    (run,) = (written / "wandb").glob("offline-run-*")
    subprocess.run(["cp", "-r", run, copy], check=True)
    for number, path in enumerate(sorted(copy.rglob("*.boxes2D.json"))):
        path.unlink() if number else path.write_text("{torn")
    (done,) = import_runs("wandb", copy, tmp_path / "runs")
    assert len(done.notes) == 2
    assert all("its masks and boxes" in note for note in done.notes)
    assert [line["name"] for line in lines(done.path) if line["kind"] == "figure"] == ["one", *["several"] * 3]
