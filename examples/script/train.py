"""Train a small network on scikit-learn's digits. A run that was killed resumes with the next epoch."""

import argparse

import torch
from sklearn.datasets import load_digits

import ridgepole

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--lr", type=float, default=3e-3)
args = parser.parse_args()

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16  # 16 is black
labels = torch.tensor(digits.target)
split = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))  # the same in every run
learnt, tested = split[:1437], split[1437:]

with ridgepole.run("digits-script", config=vars(args), seed=1) as run:
    network = torch.nn.Sequential(torch.nn.Linear(64, args.width), torch.nn.ReLU(), torch.nn.Linear(args.width, 10))
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.lr)

    # None in a new run. In a resumed one the random generators are restored too.
    state = run.restore() or {"epoch": 0}
    if "network" in state:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])

    for epoch in range(state["epoch"], args.epochs):
        for batch in learnt[torch.randperm(len(learnt))].split(64):
            loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            run.log({"loss": loss})
        with torch.no_grad():
            accuracy = (network(images[tested]).argmax(dim=1) == labels[tested]).float().mean()
        run.log({"accuracy": accuracy})
        print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}", flush=True)
        run.checkpoint({"epoch": epoch + 1, "network": network.state_dict(), "optimiser": optimiser.state_dict()})
