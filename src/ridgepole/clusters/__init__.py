"""Clusters: SLURM's commands and Ray's connection, for sweeps and for jobs."""
