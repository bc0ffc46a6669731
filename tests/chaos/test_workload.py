"""The workload and the checker over the real application without Ray, with faults that a test can cause by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from actors.roles import KINDS, SCHEDULER
from cluster.domain.base.errors import ActorUnavailable
from cluster.postgres.migrate import migrate
from tests.chaos.checker import check
from tests.chaos.history import Answer, Fault, Outcome
from tests.chaos.nemesis import DECK, StoreFaults, plan
from tests.chaos.workload import ChaosTarget, Load, Turn, Workload
from tests.support.api import Api, api_settings
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, own_stores

TTL_S = 1.0


@pytest.fixture
async def short_leases(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, heartbeat_timeout=TTL_S)).running() as running:
        yield running


def _target(api: Api) -> ChaosTarget:
    assert api.settings.database_url is not None
    return ChaosTarget(
        api_url=api.url,
        database_url=api.settings.database_url.get_secret_value(),
        schema=api.settings.database_schema,
        workspace=api.settings.workspace,
        heartbeat_timeout_s=TTL_S,
    )


def test_a_seed_fixes_every_decision() -> None:
    assert plan(7, 60) == plan(7, 60) != plan(8, 60)
    assert {planned.name for planned in plan(7, len(set(DECK)))} == set(DECK)
    assert {f"kill-{kind}" for kind in KINDS} < set(DECK)
    load = Load(seed=7, duration_s=1.0)
    first, second = load.random("worker-1"), load.random("worker-1")
    assert [Turn.draw(first, 4) for _ in range(50)] == [Turn.draw(second, 4) for _ in range(50)]


async def test_shards_that_die_and_overlap_break_no_promise(short_leases: Api) -> None:
    api = short_leases
    await api.start_health_monitor()
    load = Load(seed=3, duration_s=8.0, submit_every_s=0.02, ordered=40, shared=150)
    async with Workload.open(_target(api), load) as workload:
        history, now = workload.history, asyncio.get_running_loop().time

        async def faults() -> None:
            for name in ("kill", "two generations") * 3:
                before, began = len(history.reports), now()
                if name == "kill":
                    await api.kill(SCHEDULER)
                await api.start(SCHEDULER)
                await eventually(lambda before=before: len(history.reports) > before + 40)
                history.faults.append(Fault(name=name, began=began, healed=now()))
            await eventually(lambda: any(r.outcome is Outcome.LEASE_LOST for r in history.reports))

        await workload.run(faults)
    assert check(history) == []
    assert len(api.superseded) == 3
    newest = (await api.actor(SCHEDULER).status())["generation"]
    for process in api.superseded:
        with contextlib.suppress(
            ActorUnavailable
        ):  # which has found out; the last may have had nothing to decide since
            assert (await process.actor.status())["generation"] < newest
    assert {call.answer for call in history.calls} == {Answer.OK, Answer.REFUSED}
    assert any(lease.attempt > 1 for claim in history.claims for lease in claim.leases)


async def test_stores_that_are_taken_away_break_no_promise() -> None:
    with own_stores() as (postgres, redis):
        settings = api_settings(StoreUrls(postgres.url, redis.url), "chaos", heartbeat_timeout=TTL_S)
        await migrate(postgres.url, "chaos")
        async with Api(settings).running() as api:
            await api.start_health_monitor()
            stores = StoreFaults(postgres, redis)
            load = Load(seed=4, duration_s=5.0, submit_every_s=0.02, ordered=40, shared=0)
            async with Workload.open(_target(api), load) as workload:
                history, now = workload.history, asyncio.get_running_loop().time

                async def strike(name: str, act: Callable[[float], Awaitable[str]]) -> None:
                    before, began = len(history.reports), now()
                    detail = await act(0.5)
                    await eventually(lambda: len(history.reports) > before + 40)
                    history.faults.append(Fault(name=name, began=began, healed=now(), detail=detail))

                async def faults() -> None:
                    for _ in range(2):
                        await strike("postgres-kill", stores.kill_postgres)
                        await strike("redis-flush", stores.flush_redis)
                        await strike("redis-kill", stores.kill_redis)

                await workload.run(faults)
    assert check(history) == []
    assert Answer.TRY_LATER in {call.answer for call in history.calls if call.name == "submit"}
