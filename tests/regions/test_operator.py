"""What operators ask, and over what: the socket admits its user only, and a group that lost its data is not founded anew."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict, ControlPlaneError, Fenced, InvalidRequest, StoreUnavailable, TryLater
from cluster.domain.replication.quorum import ReplicationMode
from cluster.process.clock import SystemClock
from cluster.rpc.control import ask_leader
from regions.control import ControlSocket
from regions.domain.group import RegionGroup, RegionMember
from regions.operator import RegionOperator
from tests.regions.simulation.store import MemoryGroup, SimulatedGroup
from tests.support.links import ZONE
from tests.support.shells import NAMES, shells
from tests.support.stores import StoreUrls


async def _transfer(to: str) -> dict[str, str]:
    if to == "away":
        raise Conflict("It is away.", "not_in_sync")
    if to == "broken":
        raise RuntimeError("a secret of the process")
    return {"primary": to}


@asynccontextmanager
async def _socket(path: Path) -> AsyncIterator[Path]:
    control = ControlSocket(path, {"failover": _transfer})
    await control.start()
    try:
        yield path
    finally:
        await control.stop()


async def test_a_command_is_answered_and_a_refusal_keeps_its_code(tmp_path: Path) -> None:
    async with _socket(tmp_path / "private" / "c") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await ask_leader(path, "failover", timeout_s=5.0, to="west") == {"primary": "west"}
        with pytest.raises(Conflict) as refused:
            await ask_leader(path, "failover", timeout_s=5.0, to="away")
        assert (refused.value.code, refused.value.message) == ("not_in_sync", "It is away.")
        with pytest.raises(ControlPlaneError) as broken:
            await ask_leader(path, "failover", timeout_s=5.0, to="broken")
        assert (broken.value.code, "secret" in broken.value.message) == ("internal_error", False)
    async with _socket(path):  # a leader that was killed has left its socket
        assert await ask_leader(path, "failover", timeout_s=5.0, to="west") == {"primary": "west"}


@pytest.mark.parametrize(
    "line",
    [b"\n", b"\xff\n", b"[]\n", b'{"command": "drop"}\n', b'{"command": [1]}\n', b'{"command": "failover"}\n'],
)
async def test_what_is_no_command_is_refused(tmp_path: Path, line: bytes) -> None:
    async with _socket(tmp_path / "c") as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        answer: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        assert (answer["code"], answer["status"]) == (InvalidRequest.default_code, InvalidRequest.status)


async def test_a_file_is_not_replaced_and_nobody_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("mine")
    with pytest.raises(Conflict):
        await ControlSocket(path, {}).start()
    assert path.read_text() == "mine"
    with pytest.raises(TryLater) as away:
        await ask_leader(path, "status", timeout_s=5.0)
    assert away.value.code == "leader_unreachable"


async def test_a_change_that_is_made_does_not_fail_for_its_row(store_urls: StoreUrls) -> None:
    """As when the database is trusted again only after the next renewal."""
    stored: list[str] = []
    refusals = [StoreUnavailable("It restarts."), Fenced("It is not trusted.", "not_primary")]

    async def audit(kind: str, data: object) -> None:
        if refusals:
            raise refusals.pop()
        stored.append(kind)

    async with shells(store_urls, SimulatedGroup(MemoryGroup(), SystemClock())) as world:
        east = await world.primary()
        await east.write("before")
        members = RegionGroup(members=tuple(RegionMember(region=name) for name in NAMES))
        west = world.regions["west"].shell
        operator = RegionOperator("west", ZONE, west, west._parts, members, "east", ReplicationMode.SYNC, audit)
        found = await operator.take()
    assert (found["primary"], found["audited"], stored) == ("west", True, ["region.transfer_asked"])


async def test_an_operator_lets_the_primary_write_alone_and_ends_that(store_urls: StoreUrls) -> None:
    stored: list[tuple[str, object]] = []

    async def audit(kind: str, data: object) -> None:
        stored.append((kind, data))

    async with shells(store_urls, SimulatedGroup(MemoryGroup(), SystemClock())) as world:
        east = await world.primary()

        def operator(name: str) -> RegionOperator:
            members = RegionGroup(members=tuple(RegionMember(region=each) for each in NAMES))
            shell = world.regions[name].shell
            return RegionOperator(name, ZONE, shell, shell._parts, members, "east", ReplicationMode.SYNC, audit)

        with pytest.raises(InvalidRequest):
            await operator("east").set_mode("quorum")
        with pytest.raises(Conflict) as elsewhere:
            await operator("west").set_mode("async")
        assert elsewhere.value.code == "not_primary"
        assert (await operator("east").set_mode("sync"))["in_sync"] == sorted(NAMES)
        assert stored == []
        for other in ("north", "west"):
            world.cut("east", other)
        found = await operator("east").set_mode("async")
        assert found == {"primary": "east", "epoch": 2, "in_sync": ["east"], "mode": "async", "audited": True}
        await east.acknowledged("alone")
        await operator("east").set_mode("sync")
        refused = east.shell.why_not_write()
        assert refused is not None
        assert refused.code == "not_replicated"
        for other in ("north", "west"):
            world.cut("east", other, up=True)
        await world.primary()
        await east.acknowledged("with all")
        await world.primary()
        assert stored == [("region.mode_set", {"mode": mode}) for mode in ("async", "sync")]
        for region in world.regions.values():
            assert await region.tasks() == {"alone", "with all"}


async def test_a_group_that_lost_its_data_is_not_founded_anew(store_urls: StoreUrls) -> None:
    """Whoever founded it might lack rows that were answered."""
    async with shells(store_urls, SimulatedGroup(MemoryGroup(), SystemClock())) as world:
        east = await world.primary()
        emptied = SimulatedGroup(MemoryGroup(), SystemClock())
        members = RegionGroup(members=tuple(RegionMember(region=name) for name in NAMES))
        parts = replace(east.shell._parts, group=emptied)

        async def audit(kind: str, data: object) -> None:
            raise AssertionError(kind)

        operator = RegionOperator("east", ZONE, east.shell, parts, members, "east", ReplicationMode.SYNC, audit)
        why = await operator.found()
        assert why is not None
        assert "etcd has lost its data" in why
        assert (await emptied.read("")).entries == {}
