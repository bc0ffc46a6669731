"""Deliberation workers and the choice of panels."""
