"""Following the log, and the copies that are folds of it."""
