"""Metrics: what a process observes, and the text that Prometheus reads."""
