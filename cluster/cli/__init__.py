"""The command line: starts a control plane on one machine, and is a client of the API for everything else.

In a command's docstring the text after the form feed (``\f``) is for readers of the code: typer leaves it out of the help.
"""
