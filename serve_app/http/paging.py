"""Keyset pages: an opaque cursor names the last row of a page, so that the next page skips and repeats no row."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from cluster.domain.base.conditions import CONDITIONS, MAX_CONDITION_CHARS, MAX_CONDITIONS
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import check_json, check_text
from cluster.ports.totals import Total
from serve_app.schemas.fields import MAX_EPOCH_S, Text, Words


def encode_cursor(at: float, task_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at!r}|{task_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> tuple[float, str] | None:
    """(time, id) of the row after which a page begins; None without a cursor.

    Raises: `InvalidRequest` if the cursor is not one that ``encode_cursor`` made.
    """
    if cursor is None:
        return None
    try:
        at, task_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("|")
        position = (float(at), task_id)
        if encode_cursor(*position) != cursor or not math.isfinite(position[0]):
            raise ValueError("another text than the one that was given out")
    except ValueError:
        raise InvalidRequest(
            "cursor must be the next_cursor of an earlier answer, unchanged.", "invalid_cursor"
        ) from None
    check_json(task_id, "cursor")
    return position


def encode_names(*names: str) -> str:
    """The cursor of a list that is in the order of names."""
    return base64.urlsafe_b64encode(json.dumps(names).encode()).decode().rstrip("=")


def decode_names(cursor: str | None, count: int) -> tuple[str, ...] | None:
    """The ``count`` names of the row after which a page begins; None without a cursor.

    Raises: `InvalidRequest` if the cursor is not one that ``encode_names`` made."""
    if cursor is None:
        return None
    try:
        names = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(names, list) or len(names) != count or encode_names(*names) != cursor:
            raise ValueError("another text than the one that was given out")
        for name in names:
            check_text(name, "cursor")
        return tuple(names)
    except (ValueError, TypeError, RecursionError, InvalidRequest):
        raise InvalidRequest(
            "cursor must be the next_cursor of an earlier answer, unchanged.", "invalid_cursor"
        ) from None


def next_cursor(page: Sequence[Any], limit: int, position: Any) -> str | None:
    """The cursor of the page after ``page``, or None if ``page`` is the last. ``position`` gives (time, id) of a row."""
    return encode_cursor(*position(page[-1])) if len(page) == limit else None


def total_wire(total: Total) -> dict[str, Any]:
    """The fields of a list's answer that say how many entries there are in all."""
    return {"total": total.entries, "total_exact": total.exact}


class Sort(StrEnum):
    """By what a list is ordered, the newest first: when its entries were submitted, or when each has ended, else begun, else was
    submitted."""

    CREATED = "created"
    CHANGED = "changed"


def check_sort(sort: Sort, *, searched: bool) -> None:
    """Raises: `InvalidRequest` if a search is to be ordered by changes."""
    if sort is Sort.CHANGED and searched:
        raise InvalidRequest("sort=changed goes without where; leave one of them out.")


Filter = Annotated[Words | None, Query()]
#: A part of somebody's words.
Contained = Annotated[Annotated[Text, Field(min_length=1, max_length=256)] | None, Query()]
#: Conditions of a search (`cluster.domain.base.conditions`).
Where = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_CONDITION_CHARS)]],
    Query(
        default_factory=list,
        max_length=MAX_CONDITIONS,
        description=f"A condition; all hold that are given. {'; '.join(CONDITIONS)}",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=512)]
#: Epoch seconds.
Time = Annotated[float | None, Query(ge=0, le=MAX_EPOCH_S)]
