"""What makes one run of the processes that were launched together.

Rank 0 has a switchboard (`hub`), which every rank is connected to by a thread (`team`); `meeting` is how they find
each other, `ticks` how they stop and take checkpoints at the same step, `checkpoints` how they store one together,
`rescue` how one that sits in a collective of a failed run gets out.
"""
