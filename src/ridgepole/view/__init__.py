"""The page of runs: its index of metrics, its server, and the report as one file."""
