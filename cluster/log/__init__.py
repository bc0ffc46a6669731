"""Following the log, and the copy of the agents that is kept by it."""
