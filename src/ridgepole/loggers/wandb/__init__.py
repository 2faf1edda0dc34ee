"""The Weights & Biases backend.

The client runs in a process of its own, so that its faults (hangs, crashes, terminal output, locks
at a fork, its share of the GIL) don't reach the training loop. `logger` is the public class, `link`
the connection to that process, `writer` its program, `values` the conversion for the client, and
`account` the checks beforehand.
"""

from __future__ import annotations

from ridgepole.loggers.wandb.logger import WandBLogger as WandBLogger
