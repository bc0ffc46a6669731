"""What regions send each other: which tables, what a row of the log names, batches, and when a batch is refused."""
