"""Composition roots of the actors' processes: a maker per role."""
