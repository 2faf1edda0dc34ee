"""Figures of all kinds, drawn once to bytes that every logger writes as they are."""
