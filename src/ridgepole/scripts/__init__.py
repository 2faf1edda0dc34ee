"""Scripts as runs: `ridgepole run train.py`, and `with ridgepole.run(...)` inside a script."""
