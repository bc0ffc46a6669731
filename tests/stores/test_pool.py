"""A database that is away is named."""

from __future__ import annotations

import asyncpg
import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.postgres.pool import connect, translated


async def test_a_database_that_is_away_is_named() -> None:
    with pytest.raises(StoreUnavailable):
        await connect("postgresql://nobody@/none?host=/nonexistent", "s")


@pytest.mark.parametrize(
    "broken",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_makes_the_store_unavailable(broken: Exception) -> None:
    assert isinstance(translated(broken), StoreUnavailable)
