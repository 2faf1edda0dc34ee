"""Sweeps whose trials W&B's server chooses: the client's agents in processes of their own, and what they are told."""
