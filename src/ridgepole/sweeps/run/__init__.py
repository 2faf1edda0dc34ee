"""Drive a sweep and run its trials."""
