"""Loggers: one interface, `BaseLoggerManager`, and what implements it."""
