"""A small training under Ignite, which tests run, stop, kill and resume; see `lightning_training.py`."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average

from ridgepole import ResumableLoader
from ridgepole.integrations.ignite import RidgepoleHandler

DATA = torch.linspace(0, 1, 160).reshape(40, 4)


def main(options):
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    saved = {"model": model, "optimizer": optimizer}
    if options.get("loader") == "plain":
        loader = torch.utils.data.DataLoader(DATA, batch_size=4, shuffle=True)
    else:
        loader = saved["loader"] = ResumableLoader(DATA, batch_size=4, seed=5)

    def loss_of(batch):
        return (model(batch).squeeze() - batch.sum(dim=1)).square().mean()

    def train(engine, batch):
        model.train()
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not os.environ.get("RIDGEPOLE_RESUME") and options.get("at") == str(engine.state.iteration):
            os.kill(os.getpid(), getattr(signal, options["signal"]))
        return loss.item()

    def evaluate(engine, batch):
        model.eval()
        with torch.no_grad():
            return loss_of(batch).item()

    trainer, evaluator = Engine(train), Engine(evaluate)
    Average().attach(evaluator, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DATA.split(10)))
    seen = []
    evaluator.add_event_handler(
        Events.COMPLETED, lambda: seen.append([trainer.state.iteration, evaluator.state.metrics["loss"]])
    )
    handler = RidgepoleHandler(saved)
    handler.attach(trainer)
    handler.log(trainer, Events.ITERATION_COMPLETED, output=lambda loss: {"loss": loss})
    handler.log(evaluator, Events.COMPLETED, tag="validation")
    trainer.run(loader, max_epochs=3)
    Path("seen.json").write_text(json.dumps(seen))
    Path("weights-end.txt").write_text(str([p.tolist() for p in model.parameters()]))


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))
