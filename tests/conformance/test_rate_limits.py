"""What both adapters of `RateLimits` do: Redis, and a process's memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.domain.access.rate_limits import Rate, take
from cluster.ports.rate_limits import RateLimits
from cluster.process.rate_limits import LocalRateLimits
from cluster.redis.pool import connect
from cluster.redis.rate_limits import TAKE, RedisRateLimits
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name

#: Of a burst that comes back in hours, so that the time which a test takes does not count.
SLOW = Rate(interval_s=3600, burst=10)


@pytest.fixture(params=["redis", "memory"])
async def limits(request: pytest.FixtureRequest, store_urls: StoreUrls) -> AsyncIterator[RateLimits]:
    found: RateLimits = LocalRateLimits(time.monotonic)
    if request.param == "redis":
        client = connect(store_urls.redis, max_connections=4, idempotent=False)
        found = RedisRateLimits(client, fresh_name(), "r1", at_once=4)
    yield found
    await found.close()


async def test_a_burst_is_granted_once_and_in_parts(limits: RateLimits) -> None:
    assert (await limits.take("a", SLOW, 7)).granted == 7
    assert (await limits.take("a", SLOW, 7)).granted == 3
    refused = await limits.take("a", SLOW, 1)
    assert refused.granted == 0
    assert SLOW.interval_s - 60 < refused.retry_after_s <= SLOW.interval_s


async def test_all_are_granted_or_none_if_fewer_than_the_least(limits: RateLimits) -> None:
    assert (await limits.take("a", SLOW, 7, least=7)).granted == 7
    refused = await limits.take("a", SLOW, 5, least=5)
    assert refused.granted == 0
    assert 2 * SLOW.interval_s - 60 < refused.retry_after_s <= 2 * SLOW.interval_s
    assert (await limits.take("a", SLOW, 5, least=3)).granted == 3


async def test_callers_have_limits_of_their_own(limits: RateLimits) -> None:
    odd = "user:" + "ü\x00 {}" * 200
    assert (await limits.take(odd, SLOW, 100)).granted == 10
    assert (await limits.take(odd + "x", SLOW, 100)).granted == 10
    assert (await limits.take("", SLOW, 100)).granted == 10


async def test_a_question_for_nothing_counts_nothing(limits: RateLimits) -> None:
    assert (await limits.take("a", SLOW, 0)).granted == 0
    assert (await limits.take("a", SLOW, 10)).granted == 10


async def test_calls_come_back_with_time(limits: RateLimits) -> None:
    rate = Rate(interval_s=0.05, burst=2)
    assert (await limits.take("a", rate, 2)).granted == 2

    async def again() -> bool:
        return (await limits.take("a", rate, 1)).granted == 1

    await eventually(again)


async def test_redis_counts_the_replicas_that_ask(store_urls: StoreUrls) -> None:
    client, prefix = connect(store_urls.redis, idempotent=False), fresh_name()
    first, second = (RedisRateLimits(client, prefix, name, at_once=4) for name in ("r1", "r2"))
    assert (await first.take("a", SLOW, 6))[::2] == (6, 1)
    assert (await second.take("b", SLOW, 1))[::2] == (1, 2)
    assert (await second.take("a", SLOW, 6))[::2] == (4, 2)
    lives = sorted([await client.pttl(key) for key in await client.keys(f"{prefix}:rate:*")])
    hours = [life / 3_600_000 for life in lives]
    assert [round(hour) for hour in hours] == [0, 1, 10]
    await client.aclose()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    used_up_to=st.floats(-1e4, 2e4),
    interval_s=st.floats(1e-5, 60),
    burst=st.integers(1, 1_000_000),
    calls=st.integers(0, 10_000),
    least=st.integers(1, 10_000),
)
async def test_the_script_computes_what_the_core_does(
    scripts: _Scripts, used_up_to: float, interval_s: float, burst: int, calls: int, least: int
) -> None:
    now = 1_700_000_000.25
    ends, grant = take(now + used_up_to, now, Rate(interval_s, burst), calls, least)
    found = await scripts.run(now + used_up_to, now, interval_s, burst, calls, least)
    assert [float(text) for text in found] == [ends, grant.granted, grant.retry_after_s]


class _Scripts:
    def __init__(self, url: str) -> None:
        self.client = connect(url)
        numbers = ", ".join(f"tonumber(ARGV[{at}])" for at in range(1, 7))
        shown = ", ".join(f"string.format('%.17g', {name})" for name in ("ends", "granted", "after"))
        self._text = f"{TAKE}\nlocal ends, granted, after = take({numbers})\nreturn {{{shown}}}"

    async def run(self, *numbers: float) -> list[str]:
        found: list[str] = await self.client.eval(self._text, 0, *(repr(number) for number in numbers))
        return found


@pytest.fixture
async def scripts(store_urls: StoreUrls) -> AsyncIterator[_Scripts]:
    made = _Scripts(store_urls.redis)
    yield made
    await made.client.aclose()
