"""Loggers, callbacks and handlers for other frameworks; each module imports its own framework."""
