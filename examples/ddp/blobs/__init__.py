"""Train a network with DistributedDataParallel: each rank learns from its share of every batch.

| module | holds |
|---|---|
| `network` | `Group`, the process group, and `Network`, which needs it |
| `train` | `Train`, the process of the pipeline |
"""
