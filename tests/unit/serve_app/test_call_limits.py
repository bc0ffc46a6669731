"""One limit over several replicas, and each replica's own while Redis is away."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cluster.domain.access.rate_limits import MAX_KEPT, CallKind, Rate
from cluster.domain.base.errors import RateLimited
from cluster.embedded.redis import EmbeddedRedis
from cluster.process.rate_limits import LocalRateLimits
from cluster.redis.pool import connect
from cluster.redis.rate_limits import RedisRateLimits
from serve_app.auth import shared_limits
from serve_app.auth.call_limits import CallLimits
from serve_app.auth.shared_limits import AWAY_S, SharedLimits
from tests.support.hanging import stopped
from tests.support.principals import principal
from tests.support.probes import eventually
from tests.support.stores import fresh_name, stores_in

#: Comes back in hours, so that the time which a test takes does not count.
SLOW = Rate(interval_s=3600, burst=30)
ANN, BOB = principal("ann"), principal("bob")


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    with tempfile.TemporaryDirectory(prefix="aragora-test-") as name:
        Path(name, "s").mkdir(mode=0o700)
        store = stores_in(Path(name))[1]
        store.start()
        yield store
        store.stop()


MakeReplica = Callable[..., CallLimits]


@pytest.fixture
async def replica(redis: EmbeddedRedis) -> AsyncIterator[MakeReplica]:
    prefix = fresh_name()
    async with AsyncExitStack() as opened:

        def make(rate: Rate = SLOW, now: Callable[[], float] = time.monotonic, sharers: int = 1) -> CallLimits:
            client = connect(redis.url, max_connections=4, idempotent=False)
            shared = RedisRateLimits(client, prefix, fresh_name(), at_once=4)
            limits = SharedLimits(shared=shared, own=LocalRateLimits(time.monotonic), sharers=sharers, now=now)
            opened.push_async_callback(limits.close)
            made = CallLimits(limits, dict.fromkeys(CallKind, rate), now)
            opened.push_async_callback(made.close)
            return made

        yield make


async def admitted(limits: CallLimits, calls: int, kind: CallKind = CallKind.OTHERS) -> int:
    """How many of so many calls that come at once are let in."""
    answers = await asyncio.gather(*(limits.check(ANN, kind) for _ in range(calls)), return_exceptions=True)
    assert {type(answer) for answer in answers} <= {type(None), RateLimited}
    return answers.count(None)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not taken for a Redis that is away."""
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)


@pytest.mark.usefixtures("patient")
async def test_replicas_admit_a_limit_together(replica: MakeReplica) -> None:
    replicas = [replica() for _ in range(3)]
    assert sum(await asyncio.gather(*(admitted(limits, 25) for limits in replicas))) == SLOW.burst
    assert await admitted(replicas[0], 30, CallKind.HEARTBEATS) == 30
    await replicas[0].check(BOB, CallKind.OTHERS)


@pytest.mark.usefixtures("patient")
async def test_who_makes_many_calls_asks_redis_seldom(redis: EmbeddedRedis, replica: MakeReplica) -> None:
    rate = Rate(interval_s=0.001, burst=3000)
    replicas = [replica(rate) for _ in range(3)]
    began = time.monotonic()
    total = sum(await asyncio.gather(*(admitted(limits, 2000) for limits in replicas)))
    ahead = 3 * 100
    assert total <= rate.burst + (time.monotonic() - began) / rate.interval_s + ahead
    assert rate.burst - ahead <= total
    client = connect(redis.url)
    asked = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await client.aclose()
    assert asked < 200


async def test_a_hanging_redis_leaves_each_replica_its_share_and_is_asked_once(
    redis: EmbeddedRedis, replica: MakeReplica
) -> None:
    assert redis.process is not None
    limits = replica(now=lambda: 1000.0, sharers=5)
    with stopped(redis.process):
        assert await admitted(limits, 25) == SLOW.burst // 5
        next_call = asyncio.create_task(limits.check(BOB, CallKind.OTHERS))
        for _ in range(20):  # turns of the loop, in which nothing that waits for Redis ends
            await asyncio.sleep(0)
        assert next_call.done()


async def test_limits_are_shared_again_when_redis_is_back(
    redis: EmbeddedRedis, replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis.process is not None
    moment = 1000.0
    other, limits = replica(), replica(now=lambda: moment)
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    assert await admitted(other, 1) == await admitted(limits, 1) == 1
    monkeypatch.setattr(shared_limits, "WAIT_S", 0.1)
    with stopped(redis.process):
        await limits.check(BOB, CallKind.OTHERS)
        # Both have asked, so it has a half.
        assert await admitted(limits, 25) == SLOW.burst // 2
    moment += AWAY_S
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)

    async def shared_again() -> bool:
        nonlocal moment
        moment += 3600 * 2
        await admitted(limits, 1, CallKind.CLAIMS)
        return limits._limits.are_shared

    await eventually(shared_again)
    assert await admitted(limits, 50) <= SLOW.burst - 2


def local(now: Callable[[], float]) -> SharedLimits:
    return SharedLimits(shared=LocalRateLimits(now), own=LocalRateLimits(now), now=now)


async def test_allowances_of_many_principals_are_bounded() -> None:
    def now() -> float:
        return 1000.0

    limits = CallLimits(local(now), {CallKind.OTHERS: Rate(1.0, 5)}, now)
    for number in range(MAX_KEPT + 500):
        await limits.check(principal(str(number)), CallKind.OTHERS)
    assert len(limits._allowances) == MAX_KEPT
    await limits.close()


async def test_what_has_no_rate_is_not_counted() -> None:
    limits = CallLimits(local(time.monotonic), {})
    for _ in range(1000):
        await limits.check(ANN, CallKind.OTHERS)
    assert limits._allowances == {}
