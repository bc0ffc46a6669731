from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from xdist.scheduler import LoadScopeScheduling

from cluster.postgres.stores import Stores, open_stores
from tests.support.api import Api, api_settings
from tests.support.invariants import validate_stores
from tests.support.log_texts import words_in
from tests.support.stores import Databases, StoreUrls, running_stores

# Hypothesis fails a slow example, and what draws slowly, unless told otherwise. Timing is never asserted: machines are busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

#: These make systems of their own; the other tests of this room share one.
_ALONE = (
    "tests/e2e/test_guide_stack.py",
    "tests/e2e/test_other_ways.py",
    "tests/e2e/test_whole_path.py::test_the_demo",
)
#: What takes longest begins first, so that no worker is left with a long test when the others have ended.
_ORDER = (
    "tests/actors",
    "tests/stores",
    "tests/regions",
    "tests/browser",
    "tests/bench",
    "tests/conformance",
    "tests/carry_over",
    "tests/api",
    "tests/chaos",
    "tests/transports",
    "tests/unit",
    "tests/repository",
)


def _shares_the_system(nodeid: str) -> bool:
    return nodeid.startswith("tests/e2e/") and not nodeid.startswith(_ALONE)


class Workers(LoadScopeScheduling):
    """Who shares the system runs in one worker and in the order of the files, since some tests end it. Who makes systems of
    its own runs in one worker too: a third Ray that starts on two cores may take longer than Ray gives itself. Every other
    test goes to whoever is free. (xdist's own groups, ``--dist loadgroup``, have no effect with pytest 9.)"""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/e2e/"):
            return "system" if _shares_the_system(nodeid) else "systems of their own"
        return nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Workers:
    return Workers(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--longer", action="store_true", help="also the tests that .ci/run has no time for (make verify)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what only `make verify` has time for, and sets the order in which workers get the others."""
    # Hypothesis imports this part of itself at its first use, and pytest parses it then: in a test, amid finalisers of other
    # tests, which fail the parse in Python 3.11 if they log a stack trace. Before the session starts it would warn.
    st.from_regex("a").validate()
    if not config.getoption("longer"):
        longer = [item for item in items if item.get_closest_marker("longer")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in set(longer)]

    def place(item: pytest.Item) -> int:
        if item.nodeid.startswith("tests/e2e/"):
            return -1 if _shares_the_system(item.nodeid) else 0
        return next((place for place, room in enumerate(_ORDER, 1) if item.nodeid.startswith(room)), len(_ORDER) + 1)

    if hasattr(config, "workerinput"):
        items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Reports go to the other process as UTF-8, and what a test logs may hold half a character."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_encodable, value))
    return value


@pytest.fixture(scope="session")
def shared_stores() -> Iterator[StoreUrls]:
    with running_stores() as urls:
        yield urls


@pytest.fixture(scope="session")
def databases(shared_stores: StoreUrls) -> Databases:
    found = Databases(shared_stores)
    # In a thread: whichever test of a worker asks first, it may do so within its event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, found.prepare()).result()
    return found


@pytest.fixture
async def own_database(databases: Databases) -> AsyncIterator[tuple[StoreUrls, str]]:
    async with databases.another() as found:
        yield found


@pytest.fixture
def store_urls(request: pytest.FixtureRequest) -> StoreUrls:
    """Those of all tests; the database is the test's own if it takes `schema`."""
    if "schema" in request.fixturenames:
        urls: StoreUrls = request.getfixturevalue("own_database")[0]
        return urls
    shared: StoreUrls = request.getfixturevalue("shared_stores")
    return shared


@pytest.fixture
def schema(own_database: tuple[StoreUrls, str]) -> str:
    """A migrated schema in a database of its own."""
    return own_database[1]


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


@pytest.fixture
async def validated(stores: Stores) -> AsyncIterator[None]:
    """For tests of workflows, schedules, budgets, retention and people: at their end, what is stored belongs together."""
    yield
    await validate_stores(stores)


async def _no_words(stores: Stores) -> None:
    """Whatever wrote a row: its data names things, and what somebody said is in its private part. ``system.`` is ours."""
    for row in await stores.log.read(0, 100_000):
        if not row.kind.startswith("system."):
            assert words_in(row.kind, row.data) == [], f"row {row.seq}, {row.kind}"
