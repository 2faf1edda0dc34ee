"""From a description to a run: `spec` checks it, `run` runs it, `api` is what users call."""
