"""The trials of a sweep in Optuna: storage, samplers, and which trials stop early."""
