"""A run's directory, kept in an object store while the run goes."""
