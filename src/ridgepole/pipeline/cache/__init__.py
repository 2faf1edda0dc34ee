"""Keep the results of processes for later runs that would compute the same."""
