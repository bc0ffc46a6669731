"""Denied calls in a region that is not the primary: they are kept, and are rows of its log when it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.requests import HTTPConnection

from cluster.domain.base.errors import Unauthenticated
from cluster.log.replication_gate import ReplicationGate
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from serve_app.auth.clients import Clients
from serve_app.auth.denials import Denials
from tests.support.gates import GatedRegion, gated


@pytest.fixture
async def region(stores: Stores) -> AsyncIterator[GatedRegion]:
    async with gated(stores) as found:
        yield found


def denials(region: GatedRegion, gate: ReplicationGate | None) -> Denials:
    """Without the gate it finds out from the database that it is not the primary."""
    return Denials(
        log=region.stores.log,
        clients=Clients(),
        home="default",
        clock=SystemClock(),
        may_write=lambda: gate is None or gate.is_primary,
    )


def note(noted: Denials, times: int) -> None:
    scope = {"type": "http", "method": "GET", "headers": [], "state": {"trace_id": "t"}, "client": ("192.0.2.1", 1)}
    for _ in range(times):
        noted.note(HTTPConnection(scope), Unauthenticated("Send a key."))


@pytest.mark.parametrize("knows", [True, False])
async def test_only_the_primary_writes_rows_and_no_denial_is_lost(region: GatedRegion, knows: bool) -> None:
    noted = denials(region, region.gate if knows else None)
    note(noted, 2)
    await noted.write()
    note(noted, 1)
    await noted.write()
    assert await region.stores.log.head() == 0
    await region.becomes_primary(2)
    await region.tell(2, await region.stores.log.head())
    await noted.write()
    rows = [row for row in await region.stores.log.read(0, 10) if row.kind == "auth.denied"]
    assert [(row.data["count"], row.private["addresses"]) for row in rows] == [(3, ["192.0.2.1"])]
