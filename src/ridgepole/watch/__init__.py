"""Watch over a run: alerts, stalls, the console, system metrics, and where the time goes."""
