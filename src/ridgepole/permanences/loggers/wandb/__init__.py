"""The Weights & Biases backend.

The client runs in a process of its own, so that nothing it does (a hang, a crash, a message on the terminal, its locks
at a fork, its share of the interpreter) reaches the training loop: `logger` is what users see, `link` the way to that
process, `writer` what runs there, `values` how things look to the client, `account` what is checked beforehand.
"""

from __future__ import annotations

from ridgepole.permanences.loggers.wandb.logger import WandBLogger as WandBLogger
