"""A whole pipeline or script as one job of a cluster."""
