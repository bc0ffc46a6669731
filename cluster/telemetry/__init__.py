"""Metrics: what is observed and how it is shown."""
