"""Read handwritten digits: the images, the network, and the three steps from one to the other.

| module | holds |
|---|---|
| `data` | `Data`, the images in three parts |
| `network` | `Network`, a small CNN and its optimiser |
| `steps` | `Train`, `evaluate` and `report`, the processes of the pipeline |
| `figures` | how the pictures are drawn |

`digits.toml`, beside this folder, puts them together.
"""
