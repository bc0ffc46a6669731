"""The exchange between a process and an actor, and the channel that carries it."""
