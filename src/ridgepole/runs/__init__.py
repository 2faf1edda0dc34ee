"""Many runs as one table: their columns, filters and comparisons, for commands and pages alike."""
