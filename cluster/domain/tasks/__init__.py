"""Tasks: their values, the state machine with its table, and how a failed attempt is retried."""
