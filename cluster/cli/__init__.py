"""The command line: a composition root, and otherwise a client of the API."""
