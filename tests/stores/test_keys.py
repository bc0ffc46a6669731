"""Signing keys on Postgres: one for all who ask."""

from __future__ import annotations

import asyncio

from cluster.domain.base.signing import Signer, key_id
from cluster.postgres.stores import Stores


async def test_concurrent_callers_get_one_signing_key(stores: Stores) -> None:
    candidates = [bytes([number]) * 32 for number in range(20)]
    seeds = await asyncio.gather(*(stores.signing_keys.own(candidate) for candidate in candidates))
    assert len(set(seeds)) == 1
    assert seeds[0] in candidates
    assert await stores.signing_keys.own(b"x" * 32) == seeds[0]
    (published,) = await stores.signing_keys.published()
    assert published.public_key == Signer(seeds[0]).public_key
    assert published.key_id == Signer(seeds[0]).key_id


async def test_keys_that_are_held_elsewhere_are_published_without_their_secret(stores: Stores) -> None:
    other = Signer(b"o" * 32)
    await stores.signing_keys.publish(other.public_key)
    await stores.signing_keys.publish(other.public_key)
    own = Signer(await stores.signing_keys.own(b"c" * 32))
    assert own.seed == b"c" * 32
    assert [key.key_id for key in await stores.signing_keys.published()] == [key_id(other.public_key), own.key_id]
    seeds = await stores.pool.rows("select seed from signing_keys where public_key = $1", other.public_key)
    assert [row["seed"] for row in seeds] == [None]
