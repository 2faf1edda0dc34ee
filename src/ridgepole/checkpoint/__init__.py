"""When a checkpoint is due, and the random number generators that it has to know."""
