"""API replicas that use more memory than their bound."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.cli.commands.doctor import examine
from cluster.domain.actor_memory import LOOKS, MIB
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from cluster.process.memory import resident_bytes
from serve_app.memory import LEASE, ReplicaMemory
from tests.support.api import Api, api_settings


class Used:
    def __init__(self, mib: int) -> None:
        self.mib = mib

    def __call__(self) -> int:
        return self.mib * MIB


def _replica(stores: Stores, used: Used, holder: str = "r1") -> ReplicaMemory:
    return ReplicaMemory(bound=1000 * MIB, resident=used, leases=stores.leases, holder=holder, clock=ManualClock())


def _leaves(memory: ReplicaMemory) -> bool:
    try:
        memory.check()
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize(
    ("looks", "leaves"),
    [((1001,) * LOOKS, True), ((5000,) * 9, True), ((5000, 999, 5000, 999), False), ((1000,) * 9, False)],
    ids=["above", "far above", "now and then", "at the bound"],
)
async def test_a_replica_above_its_bound_for_two_looks_leaves(
    stores: Stores, looks: tuple[int, ...], leaves: bool
) -> None:
    used = Used(0)
    memory = _replica(stores, used)
    for mib in looks:
        assert not _leaves(memory) or looks.count(5000) > LOOKS
        used.mib = mib
        await memory.look()
    assert (_leaves(memory), len(memory.increments())) == (leaves, int(leaves))
    assert memory.increments() == [], "each replacement is counted once"


async def test_replicas_leave_one_at_a_time(stores: Stores) -> None:
    replicas = [_replica(stores, Used(1500), f"r{number}") for number in range(3)]
    for _ in range(LOOKS + 2):
        for memory in replicas:
            await memory.look()
    assert [_leaves(memory) for memory in replicas] == [True, False, False]
    await stores.leases.release(LEASE, "r0")  # its time is over
    for memory in replicas:
        await memory.look()
    assert [_leaves(memory) for memory in replicas] == [True, True, False]


@pytest.mark.parametrize(
    ("mib", "said"),
    [(799, ""), (810, "nearly"), (1000, "nearly"), (1001, "more than the 1000 MiB of ARAGORA_API_MEMORY_MB")],
)
async def test_what_is_said_near_the_bound_and_above(stores: Stores, mib: int, said: str) -> None:
    memory = _replica(stores, Used(mib))
    await memory.look()
    words = await memory.warnings()
    assert said in words[0] if said else words == []


async def test_a_replica_above_its_bound_says_so_and_is_counted(store_urls: Any, schema: str) -> None:
    ballast = b"x" * (128 * MIB)  # a test's process may use less than the least bound
    assert resident_bytes() > len(ballast)
    async with Api(api_settings(store_urls, schema, api_memory_mb=128)).running() as api:
        memory = api.app.state.memory
        for _ in range(LOOKS):
            await memory.look()
        assert _leaves(memory)
        (component,) = [part for part in (await api.get("/health/detailed"))["components"] if part["name"] == "API"]
        assert component["status"] == "healthy"
        assert "ARAGORA_API_MEMORY_MB" in component["warnings"][0]
        assert "aragora_cp_api_memory_replacements_total 1.0" in (await api.client.get("/metrics")).text
        findings = await examine(api.settings.model_copy(update={"api_url": api.url}), 60.0)
        assert any("ARAGORA_API_MEMORY_MB" in finding.detail for finding in findings)
