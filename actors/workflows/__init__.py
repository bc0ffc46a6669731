"""Advances the runs of workflows."""
