"""The report of a sweep, which `SweepResult.report` writes: pictures and an offline page."""
