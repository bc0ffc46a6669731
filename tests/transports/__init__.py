"""Agents over HTTP: wire formats, limits, and where they may be."""
