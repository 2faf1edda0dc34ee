"""Run a plan: permanences, processes, retries, the record of the run."""
