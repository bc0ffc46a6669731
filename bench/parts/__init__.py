"""Processes that a bench starts. Each reads JSON commands, one a line, and answers each with one JSON line."""
