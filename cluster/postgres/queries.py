"""Loads ``.sql`` files: statements, each under a ``-- name:`` header and a line that says what it is for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of a file of ``sql/`` by name."""
    text = (files("cluster.postgres") / "sql" / f"{file}.sql").read_text()
    parts = _HEADER.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def in_one_statement(parts: Sequence[tuple[str, tuple[Any, ...]]], *, with_rows: bool = False) -> tuple[Any, ...]:
    """A statement that runs all of these, and its arguments. So they are one transaction of one round trip, which a client that
    freezes does not hold open. ``with_rows``: it answers with the rows of the first one, which has some."""
    texts: list[str] = []
    arguments: tuple[Any, ...] = ()
    for n, (text, own) in enumerate(parts):
        for number in range(len(own), 0, -1):  # from the last, so that $1 is not taken for the beginning of $10
            text = text.replace(f"${number}", f"$#{number + len(arguments)}")
        texts.append(f"p{n} as materialized ({text.replace('$#', '$')})")
        arguments += own
    counts = ", ".join(f"(select count(*) from p{n})" for n in range(len(parts)))
    chosen = f"p0.*, {counts} from p0" if with_rows else counts
    return f"with {', '.join(texts)} select {chosen}", *arguments
