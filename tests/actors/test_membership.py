"""Membership of agent hosts: which host is found dead, and which one still counts as alive."""

from __future__ import annotations

import asyncio

import pytest

from actors.agents.membership import (
    PREFIX,
    RENEW_S,
    SUSPECT_S,
    TTL_S,
    LiveHosts,
    Membership,
    NeighbourWatch,
    held_slots,
    lease_name,
)
from actors.roles import AGENT_HOST, Role
from cluster.domain.base.errors import ActorUnavailable, StoreUnavailable
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.probes import eventually

#: How a call to a process that dies may break.
BROKEN = pytest.mark.parametrize("error", [ActorUnavailable("gone"), RuntimeError("unexpected")], ids=repr)


class Peers:
    """Calls that stay open until their host ``breaks``."""

    def __init__(self) -> None:
        self.called: list[int] = []
        self._broken: dict[int, asyncio.Event] = {}
        self._error = Exception()

    def _event(self, index: int) -> asyncio.Event:
        return self._broken.setdefault(index, asyncio.Event())

    def breaks(self, index: int, error: Exception) -> None:
        self._error = error
        self._event(index).set()

    async def stand(self, role: Role) -> None:
        self.called.append(role.index)
        await self._event(role.index).wait()
        raise self._error


def _owner(index: int, process: int = 1) -> str:
    return f"host-{index}:{process}"


async def _joined(stores: Stores, *indexes: int) -> None:
    for index in indexes:
        await Membership(stores.leases, Role(kind=AGENT_HOST, index=index), _owner(index)).join()


async def _renewed_long_ago(stores: Stores, index: int) -> None:
    name = lease_name(str(index), _owner(index))
    await stores.leases.acquire(name, name, TTL_S - SUSPECT_S - RENEW_S)


def _watch(stores: Stores, clock: ManualClock, peers: Peers, index: int) -> asyncio.Task[None]:
    hosts = LiveHosts(stores.leases, stores.agents, clock, 4)
    watch = NeighbourWatch(hosts, stores.leases, clock, _owner(index), peers.stand)
    return asyncio.ensure_future(watch.lost())


async def _held(stores: Stores) -> dict[str, str]:
    return held_slots(await stores.leases.held(PREFIX))


@pytest.mark.parametrize(("index", "neighbour"), [(0, 1), (1, 3), (3, 0)])
async def test_each_host_watches_the_next_one_and_the_last_the_first(
    stores: Stores, index: int, neighbour: int
) -> None:
    await _joined(stores, 0, 1, 3)
    peers = Peers()
    watching = _watch(stores, ManualClock(), peers, index)
    await eventually(lambda: peers.called == [neighbour])
    watching.cancel()


@BROKEN
async def test_a_neighbour_without_connection_and_renewal_is_dead_at_once(stores: Stores, error: Exception) -> None:
    await _joined(stores, 0, 1)
    clock, peers = ManualClock(), Peers()
    watching = _watch(stores, clock, peers, 0)
    await eventually(lambda: peers.called == [1])
    await _renewed_long_ago(stores, 1)
    peers.breaks(1, error)

    async def lost() -> bool:
        await clock.advance(SUSPECT_S)
        return watching.done()

    await eventually(lost)
    assert await _held(stores) == {_owner(0): "0"}


@BROKEN
async def test_a_neighbour_without_connection_that_renews_its_lease_is_alive(stores: Stores, error: Exception) -> None:
    await _joined(stores, 0, 1)
    clock, peers = ManualClock(), Peers()
    watching = _watch(stores, clock, peers, 0)
    await eventually(lambda: peers.called == [1])
    peers.breaks(1, error)

    async def asked_again() -> bool:
        await clock.advance(SUSPECT_S)
        await _joined(stores, 0, 1)
        return len(peers.called) > 3

    await eventually(asked_again)
    assert not watching.done()
    assert await _held(stores) == {_owner(0): "0", _owner(1): "1"}
    watching.cancel()


async def test_an_unreachable_database_declares_no_neighbour_dead(stores: Stores) -> None:
    await _joined(stores, 0, 1)
    clock, peers = ManualClock(), Peers()
    watching = _watch(stores, clock, peers, 0)
    await eventually(lambda: peers.called == [1])
    peers.breaks(1, StoreUnavailable("away"))

    async def asked_again() -> bool:
        await _joined(stores, 0)
        await _renewed_long_ago(stores, 1)
        await clock.advance(SUSPECT_S)
        return len(peers.called) > 3

    await eventually(asked_again)
    assert not watching.done()
    assert await _held(stores) == {_owner(0): "0", _owner(1): "1"}
    watching.cancel()


async def test_a_process_releases_leases_of_its_own_predecessor_only(stores: Stores) -> None:
    await _joined(stores, 0, 1)
    other_version = "host-0-next:1"
    role = Role(kind=AGENT_HOST, index=0)
    await Membership(stores.leases, role, other_version).join()
    await Membership(stores.leases, role, _owner(0, process=2)).join()
    assert await _held(stores) == {_owner(0, process=2): "0", other_version: "0", _owner(1): "1"}
    hosts = LiveHosts(stores.leases, stores.agents, ManualClock(), 4)
    assert await hosts.alive() == (0, 1)
    await Membership(stores.leases, Role(kind=AGENT_HOST, index=1), _owner(1)).leave()
    await hosts.look()
    assert (await hosts.alive(), set(await hosts.owners())) == ((0,), {_owner(0, process=2), other_version})
