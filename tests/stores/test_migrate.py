"""Migrations: once, together, forwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.postgres.migrate import Migration, MigrationError, migrate, shipped
from cluster.postgres.pool import connect
from tests.support.stores import StoreUrls, fresh_name


async def test_migrations_run_once_together_and_never_backwards(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    versions = await asyncio.gather(*(migrate(store_urls.database, schema) for _ in range(3)))
    assert len(set(versions)) == 1
    future = Migration(version=9999, name="9999_future.sql", sql="create table later (id int)")
    assert await migrate(store_urls.database, schema, [*shipped(), future]) == 9999
    with pytest.raises(MigrationError, match="9999"):
        await migrate(store_urls.database, schema)
    edited = replace(shipped()[0], sql="select 1")
    with pytest.raises(MigrationError, match="another content"):
        await migrate(store_urls.database, schema, [edited, future])


async def test_an_older_schema_is_brought_up_to_date(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    for number, newest in enumerate(shipped(), 1):
        assert await migrate(store_urls.database, schema, shipped()[:number]) == newest.version
    assert await migrate(store_urls.database, schema) == shipped()[-1].version


async def test_a_failed_migration_leaves_nothing_behind(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    broken = Migration(version=9998, name="9998_broken.sql", sql="create table half (id int); select nonsense")
    with pytest.raises(Exception, match="nonsense"):
        await migrate(store_urls.database, schema, [*shipped(), broken])
    pool = await connect(store_urls.database, schema)
    assert await pool.value("select count(*) from information_schema.tables where table_schema = $1", schema) == 0
    await pool.close()
