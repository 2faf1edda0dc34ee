"""Sweeps whose trials W&B's server chooses, through processes of its client."""
