"""Loads ``.sql`` files: statements, each under a ``-- name:`` header and a line that says what it is for."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of a file of ``sql/`` by name."""
    text = (files("cluster.postgres") / "sql" / f"{file}.sql").read_text()
    parts = _HEADER.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
