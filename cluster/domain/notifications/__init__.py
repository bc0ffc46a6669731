"""Notifications: which rows of the log are told to whom, what is said, and when it is tried again."""
