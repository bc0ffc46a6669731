"""Scheduling: which task goes to which agent next, within limits, and why one waits."""
