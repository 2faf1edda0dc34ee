"""Logs with the drop-in for `SummaryWriter` in two directories, one after the other."""

from ridgepole.tensorboard import SummaryWriter

with SummaryWriter("tb/train") as train:
    train.add_scalar("loss", 1.0, 0)
    train.add_scalar("loss", 0.5, 1)
with SummaryWriter("tb/test") as test:
    test.add_scalar("loss", 0.25, 0)
