"""A pool whose statements are spans. Only processes that trace have one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from cluster.postgres.pool import Pool
from cluster.process import spans

_CALLED = re.compile(r"\b(?:from|select(?:\s+\*\s+from)?)\s+([a-z_][a-z0-9_]*)\s*\(", re.IGNORECASE)
_FIRST = re.compile(r"\s*(?:--[^\n]*\n\s*)*([a-z]+)", re.IGNORECASE)
#: What a span without a statement of its own is: a transaction of several.
TRANSACTION = "transaction"


class TracedPool(Pool):
    """Statements are children of the span at work. Those without one are none: loops read the log several times a second."""

    @asynccontextmanager
    async def _connection(self, sql: str = "") -> AsyncIterator[tuple[Any, float]]:
        if not spans.header():
            async with super()._connection(sql) as connection:
                yield connection
            return
        does = summary(sql)
        attributes: dict[str, spans.Value] = {"db.system.name": "postgresql", "db.operation.name": does}
        with spans.span(does, spans.Kind.CLIENT, attributes):
            async with super()._connection(sql) as connection:
                yield connection


@lru_cache(maxsize=1000)
def summary(sql: str) -> str:
    """The SQL function that a statement calls, else its first word. Never its values, nor its text, which some statements are
    made of what was searched for."""
    if not sql:
        return TRANSACTION
    called = _CALLED.search(sql)
    if called is not None:
        return called[1]
    first = _FIRST.match(sql)
    return first[1].lower() if first is not None else "statement"
