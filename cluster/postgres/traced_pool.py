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
_TABLE = re.compile(r"\b(?:from|into|update)\s+([a-z_][a-z0-9_]*)\b(?!\s*\()", re.IGNORECASE)
#: PostgreSQL's own functions that statements begin with.
_BUILT_IN = frozenset(
    {"array_agg", "coalesce", "count", "exists", "greatest", "json_agg", "least", "max", "min", "sum", "unnest"}
)
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
    """The SQL function of ours that a statement calls, else its first word and table. Never its values, nor its text, which
    some statements are made of what was searched for."""
    if not sql:
        return TRANSACTION
    called = next((each[1] for each in _CALLED.finditer(sql) if each[1].lower() not in _BUILT_IN), None)
    if called is not None:
        return called
    first, table = _FIRST.match(sql), _TABLE.search(sql)
    words = [found[1].lower() for found in (first, table) if found is not None]
    return " ".join(words) or "statement"
