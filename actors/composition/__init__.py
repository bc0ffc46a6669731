"""Composition roots of the actors' processes: a maker per role, each a module with ``make(context)``."""
