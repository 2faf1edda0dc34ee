"""Make one run of the processes that were launched together.

`rendezvous` connects the ranks: a `server` on rank 0, a `coordinator` on each. `agreement` finds
the step at which all stop, `synchronized` ticks and stores checkpoints together, and `failure` ends
the other ranks when one fails.
"""
