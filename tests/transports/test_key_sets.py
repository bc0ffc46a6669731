"""The keys of an issuer: fetched when needed, kept for a bounded time, and never a reason to let somebody in or to hang."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from cluster.domain.access.token_keys import Algorithm
from cluster.domain.base.errors import StoreUnavailable
from cluster.http import key_sets
from cluster.http.key_sets import COOL_DOWN_S, KEEP_S, RENEW_S, IssuerKeys, fetch_from
from tests.support.issuers import LOOPBACK, Issuer, connections
from tests.support.probes import eventually
from tests.support.tokens import jwk

ED = Algorithm.EDDSA


class Hand:
    """A clock of seconds that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@contextlib.asynccontextmanager
async def _keys(allowed: tuple[str, ...] = LOOPBACK) -> AsyncIterator[tuple[Issuer, IssuerKeys, Hand]]:
    async with Issuer().running() as issuer, connections(allowed) as pool:
        hand = Hand()
        keys = IssuerKeys(fetch_from(issuer.url, pool), hand)
        yield issuer, keys, hand
        await keys.close()


async def _ended(keys: IssuerKeys) -> None:
    """Returns when the fetch that a call began has ended, which is later than the issuer's answer."""
    await eventually(lambda: keys._fetching is None)


async def test_keys_are_fetched_once_for_many_calls() -> None:
    async with _keys() as (issuer, keys, _):
        found = await asyncio.gather(*(keys.find(ED, "k1") for _ in range(20)))
        assert all(key is not None for key in found)
        assert issuer.calls == 1


async def test_an_unknown_key_makes_one_fetch_per_cool_down() -> None:
    async with _keys() as (issuer, keys, hand):
        assert await keys.find(ED, "k1") is not None
        issuer.keys.append(jwk("EdDSA", "k2", "second"))
        hand.at += COOL_DOWN_S
        assert await keys.find(ED, "k2") is not None
        assert issuer.calls == 2
        for number in range(50):
            assert await keys.find(ED, f"odd {number}") is None
        assert issuer.calls == 2
        hand.at += COOL_DOWN_S
        assert await keys.find(ED, "odd") is None
        assert issuer.calls == 3


async def test_a_key_that_was_withdrawn_stops_counting() -> None:
    async with _keys() as (issuer, keys, hand):
        assert await keys.find(ED, "k1") is not None
        issuer.keys[:] = [jwk("EdDSA", "k2", "second")]
        hand.at += RENEW_S + 1
        await keys.find(ED, "k1")  # begins a fetch, and does not wait for it
        await _ended(keys)
        assert issuer.calls == 2
        hand.at += COOL_DOWN_S
        assert await keys.find(ED, "k1") is None


async def test_an_issuer_that_is_away_lets_nobody_in_after_a_time() -> None:
    async with _keys() as (issuer, keys, hand):
        assert await keys.find(ED, "k1") is not None
        issuer.status = 503
        hand.at += KEEP_S
        assert await keys.find(ED, "k1") is not None
        await _ended(keys)
        assert issuer.calls == 2
        hand.at += COOL_DOWN_S
        with pytest.raises(StoreUnavailable, match="issuer"):
            await keys.find(ED, "k1")
        issuer.status = 200
        with pytest.raises(StoreUnavailable):  # the cool-down holds for failures too
            await keys.find(ED, "k1")
        hand.at += COOL_DOWN_S
        assert await keys.find(ED, "k1") is not None


async def test_an_issuer_that_hangs_holds_no_call_for_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    usual_s = key_sets.FETCH_S
    monkeypatch.setattr(key_sets, "FETCH_S", 0.1)
    async with _keys() as (issuer, keys, hand):
        issuer.hangs = True
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await keys.find(ED, "k1")
        issuer.hangs = False
        monkeypatch.setattr(key_sets, "FETCH_S", usual_s)
        hand.at += COOL_DOWN_S
        assert await keys.find(ED, "k1") is not None


async def test_while_a_fetch_hangs_known_keys_count() -> None:
    async with _keys() as (issuer, keys, hand):
        assert await keys.find(ED, "k1") is not None
        issuer.hangs = True
        hand.at += RENEW_S + 1
        async with asyncio.timeout(key_sets.FETCH_S / 2):
            assert await keys.find(ED, "k1") is not None
        await eventually(lambda: issuer.calls == 2)


@pytest.mark.parametrize(
    ("status", "content"), [(302, None), (404, None), (200, b"no json"), (200, b"[]"), (200, b"{" * 100_000)]
)
async def test_other_answers_are_no_keys(status: int, content: bytes | None) -> None:
    async with _keys() as (issuer, keys, _):
        issuer.status, issuer.content = status, content
        with pytest.raises(StoreUnavailable):
            await keys.find(ED, "k1")
        assert issuer.calls == 1


async def test_keys_are_not_fetched_from_forbidden_addresses() -> None:
    async with _keys(allowed=()) as (issuer, keys, _):
        with pytest.raises(StoreUnavailable):
            await keys.find(ED, "k1")
        assert issuer.calls == 0
