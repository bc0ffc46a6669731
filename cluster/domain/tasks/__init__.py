"""Tasks: the values, the machine that decides about them, its table, and how a failure is retried."""
