"""Trains nothing, and uses thirty of the calls of W&B's client."""

import argparse
from pathlib import Path

import numpy as np
import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()

run = wandb.init(
    project="moving",
    name="first",
    group="fold-1",
    job_type="train",
    tags=["baseline"],
    notes="a note",
    config=args,
    id="abc12345",
    mode="offline",
)
wandb.config.update({"optimizer": "adam", "layers": [64, 32]})
wandb.config.seed = 7
assert wandb.config.lr == wandb.config["lr"] == args.lr
wandb.define_metric("epoch")
wandb.define_metric("val/*", step_metric="epoch", summary="max")
draw = np.random.default_rng(0)

for epoch in range(wandb.config.epochs):
    wandb.log({"train/loss": 1 / (epoch + 1), "epoch": epoch})
    wandb.log({"val/accuracy": 0.8 + epoch / 20}, commit=False)
    wandb.log({"val/loss": np.float32(0.5), "nested": {"a": 1, "b": {"c": 2.5}}})
wandb.log({"jump": 1.0}, step=20)
wandb.log({"jump/more": 2}, step=20)
wandb.log({"flag": True, "word": "text"}, step=21, commit=True)

pixels = draw.integers(0, 255, (16, 24, 3), dtype=np.uint8)
mask = np.zeros((16, 24), dtype=np.uint8)
mask[4:8, 4:8] = 1
names = {0: "none", 1: "cat"}
box = {"position": {"minX": 0.25, "maxX": 0.5, "minY": 0.25, "maxY": 0.5}, "class_id": 1, "scores": {"p": 0.9}}
image = wandb.Image(
    pixels,
    caption="a cat",
    masks={"prediction": {"mask_data": mask, "class_labels": names}},
    boxes={"truth": {"box_data": [box], "class_labels": names}},
)
table = wandb.Table(columns=["name", "score"])
table.add_data("cat", 0.5)
table.add_data("dog", 0.25)
table.add_column("rank", [1, 2])
wandb.log({"image": image, "several": [wandb.Image(pixels), wandb.Image(pixels)], "table": table})
wandb.log(
    {"weights": wandb.Histogram(draw.normal(size=100)), "given": wandb.Histogram(np_histogram=([1, 2], [0, 1, 2]))}
)
wandb.log({"page": wandb.Html("<h1>it works</h1>")})
wandb.log({"matrix": wandb.plot.confusion_matrix(y_true=[0, 1, 1], preds=[0, 1, 0], class_names=["cat", "dog"])})
wandb.log({"line": wandb.plot.line(table, "rank", "score", title="scores")})

Path("notes.txt").write_text("kept")
wandb.save("notes.txt")
Path(wandb.run.dir, "direct.txt").write_text("direct")
artifact = wandb.Artifact("model", type="model", metadata={"accuracy": 0.9})
artifact.add_file("notes.txt")
with artifact.new_file("more.txt") as file:
    file.write("more")
run.log_artifact(artifact, aliases=["best"])
wandb.alert(title="done", text="the end is near", level=wandb.AlertLevel.WARN)
wandb.summary["best"] = 0.9
wandb.summary.update({"verdict": "good"})
assert wandb.summary["train/loss"] == 1 / 3
assert run.name == "first"
assert run.id == "abc12345"
assert run.project == "moving"
assert run.step > 21
wandb.finish()
assert wandb.run is None
