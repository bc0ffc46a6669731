"""Columns of a commit in PostgreSQL's text form of an array; a statement casts them back: ``$5::text::text[]``.

asyncpg's own arrays ask of every element, by Python's abstract base classes, whether it is an array itself: three fifths of what
it costs to send a batch of short values. Values that may be long (payloads, results, rows' data) go as asyncpg's arrays,
since the text form has to be escaped here and read byte by byte there.

A column without a value is None as a whole: ``unnest`` pads it, and it costs nothing.

Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from cluster.domain.base.errors import Unstorable

T = TypeVar("T")
#: Between the elements while all are escaped at once. Values that hold it are escaped one by one.
_BETWEEN = "\x1e"


def texts(values: Sequence[str | None]) -> str | None:
    """A column of texts.

    Raises: `Unstorable` if a value is none."""
    try:
        if None in values:
            return _with_nulls(values)
        joined = _BETWEEN.join(values)  # type: ignore[arg-type]  # there is no None among them
    except (TypeError, AttributeError) as error:
        raise Unstorable(f"A column of texts cannot be written: {error}") from error
    if joined.count(_BETWEEN) != len(values) - 1:
        return _with_nulls(values)
    return '{"' + _escaped(joined).replace(_BETWEEN, '","') + '"}'


def _with_nulls(values: Sequence[str | None]) -> str | None:
    elements = ["NULL" if value is None else f'"{_escaped(value)}"' for value in values]
    return None if _all_null(elements) else "{" + ",".join(elements) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _all_null(elements: Sequence[str]) -> bool:
    return elements.count("NULL") == len(elements)


def numbers(values: Sequence[int | float | None]) -> str | None:
    """A column of numbers, whose text forms in Python PostgreSQL reads as the same numbers."""
    if None not in values:
        return "{" + ",".join(map(str, values)) + "}"
    elements = ["NULL" if value is None else str(value) for value in values]
    return None if _all_null(elements) else "{" + ",".join(elements) + "}"


def flags(values: Sequence[bool]) -> str:
    """A column of truth values."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def array(values: list[T]) -> list[T] | None:
    """A column that goes as asyncpg's array."""
    return None if values.count(None) == len(values) else values  # type: ignore[arg-type]
