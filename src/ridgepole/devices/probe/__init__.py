"""Probes: one file for each driver that can be asked for its devices."""
