from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cluster.domain.log_texts import words_in
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from tests.support.api import Api, api_settings
from tests.support.stores import StoreUrls, fresh_name, running_stores

_HERE = Path(__file__).parent
#: What takes longest begins first, so that no worker is left with a long test when the others have ended.
_ORDER = ("e2e", "actors", "stores", "bench", "api", "chaos", "transports", "unit")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order in which `make test` hands tests to its workers. The group of the shared system is the first."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        room = item.path.relative_to(_HERE).parts[0]
        return item.get_closest_marker("xdist_group") is None, _ORDER.index(room) if room in _ORDER else len(_ORDER)

    if hasattr(config, "workerinput"):
        items.sort(key=place)


@pytest.fixture(scope="session")
def store_urls() -> Iterator[StoreUrls]:
    with running_stores() as urls:
        yield urls


@pytest.fixture
async def schema(store_urls: StoreUrls) -> str:
    """A migrated schema of its own."""
    name = fresh_name()
    await migrate(store_urls.database, name)
    return name


@pytest.fixture
async def stores(store_urls: StoreUrls, schema: str) -> AsyncIterator[Stores]:
    opened = await open_stores(store_urls.database, schema, "test-region", max_connections=8)
    yield opened
    await _no_words(opened)
    await opened.close()


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    """The control plane without Ray, on a free port. The health monitor is started by the test that wants it."""
    async with Api(api_settings(store_urls, schema)).running() as running:
        yield running
        await _no_words(running.stores)


async def _no_words(stores: Stores) -> None:
    """Whatever wrote a row: its data names things, and what somebody said is in its private part. ``system.`` is ours."""
    for row in await stores.log.read(0, 100_000):
        if not row.kind.startswith("system."):
            assert words_in(row.kind, row.data) == [], f"row {row.seq}, {row.kind}"
