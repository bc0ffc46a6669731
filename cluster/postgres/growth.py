"""How large the tables are and how fast they grow, for who looks at a database from outside.

It opens one connection for a few short questions and drops it without ceremony, so that a server that hangs costs no more
than the bound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from cluster.domain.base.errors import StoreUnavailable
from cluster.postgres.queries import queries

_SQL = queries("growth")
ANSWER_S: Final = 3.0
HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """``living`` and ``dead`` rows are the server's estimates."""

    name: str
    size: int
    living: int
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """``hourly``: the bytes that all tables together have grown by within the last hour, by estimate."""

    tables: Sequence[TableSize]
    rows_hourly: int
    hourly: int

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return sum(table.size for table in self.tables)


class Looker:
    """One connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def clock(self) -> float:
        """The server's clock, as epoch seconds."""
        return float(await self._connection.fetchval(_SQL["clock"]))

    async def last_head(self) -> str | None:
        """The head of the audit's last checkpoint, as it is stored; None before there is one."""
        head: str | None = await self._connection.fetchval(_SQL["last_head"])
        return head

    async def growth(self) -> Growth:
        """Sizes of the tables, and their growth: what a row of the log costs with all that it stands for, times the rows of
        the last hour. Statistics of the server were rejected: they count rows that were updated as well, and forget at a
        crash."""
        tables = [
            TableSize(name=row["name"], size=row["bytes"], living=row["living"], dead=row["dead"])
            for row in await self._connection.fetch(_SQL["table_sizes"])
        ]
        first, last = await self._connection.fetchrow(_SQL["log_ends"])
        if first is None:
            return Growth(tables=tables, rows_hourly=0, hourly=0)
        begin = await self._first_since(first, last, await self.clock() - HOUR_S)
        rows, size = last + 1 - begin, sum(table.size for table in tables)
        return Growth(tables=tables, rows_hourly=rows, hourly=size * rows // (last + 1 - first))

    async def _first_since(self, first: int, last: int, since: float) -> int:
        """The number of the first row that was written since then, last + 1 if there is none. By halves: the log has no index of
        times, and may be long."""
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            at = await self._connection.fetchval(_SQL["log_time"], middle)
            low, high = (low, middle) if at is None or at >= since else (middle + 1, high)
        return low


@asynccontextmanager
async def looking(url: str, schema: str) -> AsyncIterator[Looker]:
    """A connection whose every step is bounded. Raises: `StoreUnavailable` if the database cannot be reached or asked."""
    connection = None
    try:
        connection = await asyncpg.connect(
            url,
            timeout=ANSWER_S,
            command_timeout=ANSWER_S,
            server_settings={"search_path": schema, "application_name": "aragora-doctor", "statement_timeout": "3000"},
        )
        yield Looker(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        words = str(error) or f"no answer within {ANSWER_S:g} s"
        raise StoreUnavailable(f"The database cannot be reached: {words}.") from error
    finally:
        if connection is not None:
            connection.terminate()
