"""Train a small vision transformer of Hugging Face on digits, or fine-tune one that an earlier run has trained."""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification

import ridgepole

CONFIG = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    num_labels=5,
)


def load_half(first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images of five digits from `first` on, and their labels from 0 to 4."""
    digits = load_digits()
    chosen = (digits.target >= first) & (digits.target < first + 5)
    images = torch.tensor(digits.images[chosen], dtype=torch.float32).unsqueeze(1) / 16  # 16 is black
    return images, torch.tensor(digits.target[chosen] - first)


def make_model(base: Path | None) -> ViTForImageClassification:
    """Return a model from scratch, or a trained one with a frozen embedding and a new head."""
    if base is None:
        return ViTForImageClassification(CONFIG)
    model = ViTForImageClassification.from_pretrained(base)
    model.vit.embeddings.requires_grad_(False)
    model.classifier = torch.nn.Linear(CONFIG.hidden_size, CONFIG.num_labels)
    return model


parser = argparse.ArgumentParser()
parser.add_argument("--base", type=Path, help="the directory of a trained model, such as runs/.../model")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--lr", type=float, default=1e-3)
args = parser.parse_args()

torch.set_num_threads(1)  # one is enough for so small a model
config = {"base": args.base and str(args.base), "epochs": args.epochs, "lr": args.lr}
with ridgepole.run("finetune" if args.base else "pretrain", config=config, seed=1) as run:
    images, labels = load_half(5 if args.base else 0)
    split = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))  # the same in every run
    learnt, tested = split[180:], split[:180]
    model = make_model(args.base)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.lr)

    state = run.restore() or {"epoch": 0}
    if "model" in state:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])

    for epoch in range(state["epoch"], args.epochs):
        model.train()
        for batch in learnt[torch.randperm(len(learnt))].split(32):
            loss = model(pixel_values=images[batch], labels=labels[batch]).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            run.log({"loss": loss})
        model.eval()
        with torch.no_grad():
            read = model(pixel_values=images[tested]).logits.argmax(dim=1)
        run.log({"accuracy": (read == labels[tested]).float().mean()})
        run.checkpoint({"epoch": epoch + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict()})
    model.save_pretrained(run.dir / "model")
