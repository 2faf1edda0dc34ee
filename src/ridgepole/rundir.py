"""The only module that knows the file names inside a run directory."""

from __future__ import annotations

CONFIG = "config.toml"
RESOLVED = "config.resolved.json"
RUN = "run.json"
ATTEMPTS = "attempts.jsonl"
PROVENANCE = "provenance.json"
DIFF = "code.diff"
OWNER = "owner.lock"
RUN_LOG = "run.log"
METRICS = "metrics.jsonl"
METRICS_GLOB = "metrics*.jsonl"
MEDIA = "media.jsonl"
SUMMARY = "summary.json"
FIGURES = "figures"
CHECKPOINTS = "checkpoints"
