"""Leases of actors and published actor names on Postgres."""

from __future__ import annotations

from cluster.ports.actor_names import ActorName
from cluster.postgres.stores import Stores


async def test_a_lease_has_one_holder_and_a_growing_fence(stores: Stores) -> None:
    first = await stores.leases.acquire("l", "one", 30.0)
    assert first is not None
    assert await stores.leases.acquire("l", "one", 30.0) == first
    assert await stores.leases.acquire("l", "two", 30.0) is None
    await stores.leases.release("l", "two")
    assert await stores.leases.acquire("l", "two", 30.0) is None
    await stores.leases.release("l", "one")
    second = await stores.leases.acquire("l", "two", 30.0)
    assert second is not None
    assert second > first
    await stores.leases.acquire("short", "one", 0.0)
    assert await stores.leases.acquire("short", "two", 1.0) is not None


async def test_a_lease_that_was_not_renewed_can_be_ended_by_anybody(stores: Stores) -> None:
    await stores.leases.acquire("h:1", "one", 30.0)
    await stores.leases.acquire("h:2", "two", 5.0)
    assert [await stores.leases.end_unrenewed(name, 20.0) for name in ("h:1", "h:2", "h:2", "h:3")] == [
        False,
        True,
        False,
        False,
    ]
    assert await stores.leases.held("h:") == ["h:1"]
    await stores.leases.forget("h:", 60.0)
    await stores.leases.forget("other", 0.0)
    assert (await stores.pool.value("select count(*) from leases where name like 'h:%'")) == 2
    await stores.leases.forget("h:", 0.0)
    assert (await stores.pool.value("select count(*) from leases where name like 'h:%'")) == 1
    assert await stores.leases.held("h:") == ["h:1"]


async def test_the_published_name_of_a_role_is_the_last_one(stores: Stores) -> None:
    assert await stores.names.current("scheduler-0") is None
    for name in ("a", "b"):
        await stores.names.publish(ActorName(role="scheduler-0", name=name, fingerprint="f"))
    assert (await stores.names.current("scheduler-0")).name == "b"  # type: ignore[union-attr]
