"""Ridgepole runs deep-learning experiments as pipelines."""
