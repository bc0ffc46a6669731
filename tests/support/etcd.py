"""Real etcd members on loopback, where etcd is installed (`.ci/run` does; elsewhere: `apt-get install etcd-server`)."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.embedded.etcd import EtcdMember, etcd_binary, etcd_members_in
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import end
from cluster.process.clock import SystemClock
from regions.consensus.etcd import EtcdGroup
from tests.support.probes import eventually
from tests.support.reaper import after_us_end

ETCD = etcd_binary()
#: For each test that needs etcd.
needs_etcd = pytest.mark.skipif(ETCD is None, reason="etcd is not on this machine (apt-get install etcd-server)")


@contextmanager
def etcd_members(
    members: int | Sequence[str] = 1, client_options: Sequence[str] = (), scheme: str = "http"
) -> Iterator[list[EtcdMember]]:
    """A cluster whose members have started: so many, or those of these names. ``client_options`` are etcd's for the clients'
    side."""
    assert ETCD is not None
    names = [f"m{number}" for number in range(members)] if isinstance(members, int) else members
    with tempfile.TemporaryDirectory(prefix="aragora-etcd-") as folder:
        cluster = etcd_members_in(Path(folder), ETCD, names, free_ports(2 * len(names)), client_options, scheme)
        try:
            for member in cluster:
                after_us_end("session", member.start().to_json())
            yield cluster
        finally:
            end([member.process for member in cluster if member.process is not None], first=signal.SIGKILL)


@asynccontextmanager
async def etcd_group(members: Sequence[EtcdMember], **options: Any) -> AsyncIterator[EtcdGroup]:
    """A client of members that answer; ``options`` are those of `EtcdGroup`."""
    group = EtcdGroup([member.url for member in members], SystemClock(), **options)
    try:
        await answering(group)
        yield group
    finally:
        await group.close()


async def lead_by(members: Sequence[EtcdMember], name: str) -> None:
    """Makes a member lead etcd, as soon as it can."""
    async with httpx.AsyncClient() as client:

        async def asked(member: EtcdMember, path: str, body: Mapping[str, str]) -> Any:
            return (await client.post(f"{member.url}/v3/maintenance/{path}", json=body)).json()

        async def leads() -> bool:
            try:
                statuses = {member.name: await asked(member, "status", {}) for member in members}
                ids = {each: status["header"]["member_id"] for each, status in statuses.items()}
                if statuses[name].get("leader") == ids[name]:
                    return True
                for member in members:
                    await asked(member, "transfer-leadership", {"targetID": ids[name]})
            except (httpx.HTTPError, ValueError):
                pass  # it has just started
            return False

        await eventually(leads, what=f"{name} leads etcd")


async def answering(group: EtcdGroup) -> None:
    async def answers() -> bool:
        try:
            await group.read("")
        except StoreUnavailable:
            return False
        return True

    await eventually(answers, what="etcd answers")
