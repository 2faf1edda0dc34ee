"""Encode a state as JSON and tensors, and decode it."""
