"""Processes that a bench starts: each reads one JSON command per line and answers with one JSON line."""
