"""Lists about access on many rows: a page reads as many rows as it has, wherever it begins and however many there are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.postgres.migrate import migrate
from cluster.postgres.queries import queries
from cluster.postgres.stores import Stores, open_stores
from tests.stores.test_task_lists import _visited
from tests.support.stores import StoreUrls, fresh_name

KEYS, LIMIT = 20_000, 20
_SQL = queries("access")
_FILL = f"""
insert into api_keys (id, name, workspaces, grants, digests, created_at, created_by)
select lpad(n::text, 26, '0'), 'k', case when n % 100 = 0 then array['small'] else array['large'] end,
       array['viewer'], '{{}}', n, 'p'
from generate_series(1, {KEYS}) n;
insert into role_bindings select 'large', 'user:' || n || '@example.com', 'viewer', n, 'p' from generate_series(1, {KEYS}) n;
insert into workspaces select 'w' || n, 'w', 'active', n, n from generate_series(1, {KEYS}) n;
analyze api_keys; analyze role_bindings; analyze workspaces;
"""


@pytest.fixture(scope="module")
def url(shared_stores: StoreUrls) -> tuple[str, str]:
    """A database with many rows, and the schema that they are in."""

    async def fill() -> None:
        stores = await open_stores(shared_stores.database, schema, "test-region")
        for statement in filter(str.strip, _FILL.split(";")):
            await stores.pool.execute(statement)
        await stores.close()

    schema = fresh_name()
    asyncio.run(migrate(shared_stores.database, schema))
    asyncio.run(fill())
    return shared_stores.database, schema


@pytest.fixture
async def many(url: tuple[str, str]) -> AsyncIterator[Stores]:
    stores = await open_stores(*url, "test-region")
    yield stores
    await stores.close()


def _lists() -> list[tuple[str, tuple[Any, ...]]]:
    middle = float(KEYS // 2)
    return [
        ("list_keys", (float("-inf"), "", LIMIT)),
        ("list_keys", (middle, "", LIMIT)),
        ("list_keys_of", ("large", middle, "", LIMIT)),
        ("list_members", ("large", "user:5", "", LIMIT)),
        ("list_workspaces", ("w5", LIMIT)),
    ]


@pytest.mark.parametrize(("query", "arguments"), _lists(), ids=str)
async def test_a_page_reads_little_more_than_it_has(many: Stores, query: str, arguments: tuple[Any, ...]) -> None:
    (plan,) = json.loads(await many.pool.value(f"explain (analyze, format json) {_SQL[query]}", *arguments))
    assert _visited(plan["Plan"]) <= 5 * LIMIT


async def test_the_keys_of_a_small_workspace_are_found_among_many(many: Stores) -> None:
    asked = ("small", float("-inf"), "", LIMIT)
    (plan,) = json.loads(await many.pool.value(f"explain (analyze, format json) {_SQL['list_keys_of']}", *asked))
    assert _visited(plan["Plan"]) <= KEYS // 100 * 12


async def test_totals_of_many_are_estimates(many: Stores) -> None:
    keys, total = await many.access.list_keys(None, None, LIMIT)
    assert (len(keys), total.exact) == (LIMIT, False)
    assert total.entries == pytest.approx(KEYS, rel=0.1)
    small, exact = await many.access.list_keys("small", None, LIMIT)
    assert (len(small), exact.exact, exact.entries) == (LIMIT, True, KEYS // 100)
