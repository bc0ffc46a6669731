"""Workflows: documents of steps, and what becomes of a run of one. Pure."""
