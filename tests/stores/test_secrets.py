"""Secrets on Postgres: one for all who ask, and sealed in the table."""

from __future__ import annotations

import asyncio
import base64
import sys

import asyncpg
import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.access.sealing import Sealer, Unsealable
from cluster.postgres.secrets import PostgresSecrets
from cluster.postgres.stores import Stores
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.system import clean_environment

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


async def test_a_rotation_that_was_killed_is_ended_by_a_repeat(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    """SIGKILL of the command, while it waits for a row that somebody else has locked."""
    names = ("a", "b", "c", "d")
    old, both, new = _secrets(stores, OLD), Sealer([NEW, OLD]), _secrets(stores, NEW)
    for name in names:
        await old.own(name, name.encode())
    environment = clean_environment(
        ARAGORA_DATABASE_URL=store_urls.database,
        ARAGORA_DATABASE_SCHEMA=schema,
        ARAGORA_SECRETS_KEY=base64.b64encode(NEW).decode(),
        ARAGORA_SECRETS_KEY_PREVIOUS=base64.b64encode(OLD).decode(),
    )
    before = await _table(stores)
    database = await asyncpg.connect(store_urls.database, server_settings={"search_path": schema})
    async with database.transaction():
        await database.execute("select from secrets where name = 'c' for update")
        command = [sys.executable, "-c", "from cluster.cli.main import main; main()", "secrets", "rotate"]
        process = await asyncio.create_subprocess_exec(*command, env=environment)

        async def is_amidst() -> bool:
            return [was != sealed for was, sealed in zip(before, await _table(stores), strict=True)][:2] == [True] * 2

        try:
            await eventually(is_amidst)
        finally:
            process.kill()
            await process.wait()
        found = zip(names, await _table(stores), strict=True)
        assert [both.open(name, sealed).decode() for name, sealed in found] == list(names)
    await database.close()
    result = await asyncio.to_thread(CliRunner().invoke, app, ["secrets", "rotate"], env=environment)
    assert result.exit_code == 0, result.output
    assert [await new.own(name, b"other") for name in names] == [name.encode() for name in names]


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
