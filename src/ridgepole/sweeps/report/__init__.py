"""A sweep's report: pictures and one page that needs no network. `SweepResult.report` writes it."""
