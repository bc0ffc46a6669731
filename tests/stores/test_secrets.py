"""Secrets on Postgres: one for all who ask, and sealed in the table."""

from __future__ import annotations

import asyncio

import pytest

from cluster.domain.access.sealing import Sealer, Unsealable
from cluster.postgres.secrets import PostgresSecrets
from cluster.postgres.stores import Stores

OLD, NEW = b"o" * 32, b"n" * 32


def _secrets(stores: Stores, *keys: bytes) -> PostgresSecrets:
    return PostgresSecrets(stores.pool, Sealer(keys))


async def _table(stores: Stores) -> list[bytes]:
    return [bytes(row["sealed"]) for row in await stores.pool.rows("select sealed from secrets order by name")]


async def test_concurrent_callers_get_one_secret_and_the_table_none(stores: Stores) -> None:
    candidates = [f"candidate {number:02}".encode() for number in range(20)]
    secrets = _secrets(stores, OLD)
    found = await asyncio.gather(*(secrets.own("jwt", candidate) for candidate in candidates))
    assert len(set(found)) == 1
    assert found[0] in candidates
    (sealed,) = await _table(stores)
    assert b"candidate" not in sealed


async def test_a_rotation_seals_anew_and_changes_no_secret(stores: Stores) -> None:
    await _secrets(stores, OLD).own("a", b"first")
    both = _secrets(stores, NEW, OLD)
    assert await both.own("a", b"another") == b"first"
    await both.own("b", b"second")
    assert [await both.reseal(), await both.reseal()] == [1, 0]
    alone = _secrets(stores, NEW)
    assert [await alone.own("a", b"x"), await alone.own("b", b"x")] == [b"first", b"second"]


async def test_without_the_key_that_sealed_nothing_is_changed(stores: Stores) -> None:
    await _secrets(stores, OLD).own("a", b"first")
    await _secrets(stores, b"m" * 32).own("b", b"second")
    before = await _table(stores)
    other = _secrets(stores, NEW, OLD)
    with pytest.raises(Unsealable):
        await other.reseal()
    with pytest.raises(Unsealable):
        await other.own("b", b"third")
    assert await _table(stores) == before
