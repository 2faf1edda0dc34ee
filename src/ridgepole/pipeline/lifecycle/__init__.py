"""The parts that a run and its ranks share: signals, steps, the process that runs, checkpoints."""
