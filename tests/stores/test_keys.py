"""Signing keys on Postgres: one for all who ask."""

from __future__ import annotations

import asyncio

import pytest

from cluster.domain.access.sealing import Unsealable
from cluster.domain.base.signing import Signer, key_id
from cluster.postgres.stores import Stores

KEYS = (b"k" * 32,)


async def test_concurrent_callers_get_one_signing_key(stores: Stores) -> None:
    candidates = [bytes([number]) * 32 for number in range(20)]
    seeds = await asyncio.gather(*(stores.signing_keys(KEYS).own(candidate) for candidate in candidates))
    assert len(set(seeds)) == 1
    assert seeds[0] in candidates
    assert await stores.signing_keys(KEYS).own(b"x" * 32) == seeds[0]
    (published,) = await stores.signing_keys(KEYS).published()
    assert published.public_key == Signer(seeds[0]).public_key
    assert published.key_id == Signer(seeds[0]).key_id


async def test_keys_that_are_held_elsewhere_are_published_without_their_secret(stores: Stores) -> None:
    other = Signer(b"o" * 32)
    await stores.signing_keys(KEYS).publish(other.public_key)
    await stores.signing_keys(KEYS).publish(other.public_key)
    own = Signer(await stores.signing_keys(KEYS).own(b"c" * 32))
    assert own.seed == b"c" * 32
    assert [key.key_id for key in await stores.signing_keys(KEYS).published()] == [key_id(other.public_key), own.key_id]
    seeds = await stores.pool.rows("select seed from signing_keys where public_key = $1", other.public_key)
    assert [row["seed"] for row in seeds] == [None]


async def test_the_seed_of_an_earlier_version_is_sealed_and_signs_on(stores: Stores) -> None:
    before = await stores.signing_keys(()).own(b"s" * 32)
    assert await stores.pool.value("select seed from signing_keys") == before == b"s" * 32
    published = await stores.signing_keys(()).published()
    # A process that was killed after it had sealed the seed, and before it had removed the other one.
    await stores.secrets(KEYS).own("receipt-seed", before)
    found = await asyncio.gather(*(stores.signing_keys(KEYS).own(bytes([number]) * 32) for number in range(5)))
    assert set(found) == {before}
    assert await stores.pool.value("select count(*) from signing_keys where seed is not null") == 0
    assert before not in bytes(await stores.pool.value("select sealed from secrets"))
    assert await stores.signing_keys(KEYS).published() == published, "keys keep their ids and their places"


async def test_a_sealed_seed_is_sealed_anew_and_not_replaced(stores: Stores) -> None:
    seed = await stores.signing_keys(KEYS).own(b"s" * 32)
    with pytest.raises(Unsealable):
        await stores.signing_keys(()).own(b"t" * 32)
    new = b"n" * 32
    assert await stores.secrets((new, *KEYS)).reseal() == 1
    assert await stores.signing_keys((new,)).own(b"t" * 32) == seed
    with pytest.raises(Unsealable):
        await stores.signing_keys(KEYS).own(b"t" * 32)
    assert len(await stores.signing_keys(KEYS).published()) == 1
