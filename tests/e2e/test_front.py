"""HAProxy is killed: a stopgap answers until Serve has started the next."""

from __future__ import annotations

import asyncio

import httpx
import psutil

from cluster.process.stopgap import CURRENT, STOPGAP, pid_in
from tests.support.probes import eventually
from tests.support.system import RunningSystem, kill


async def test_a_killed_haproxy_is_stood_in_for_and_replaced(system: RunningSystem) -> None:
    # Each actor that starts HAProxy has a directory; those of earlier ones may have been left.
    known = {file: pid_in(file) for file in (system.layout.sockets / "h").glob(f"*/{CURRENT}")}
    ((beside, first),) = [(file, pid) for file, pid in known.items() if pid and psutil.pid_exists(pid)]
    await asyncio.to_thread(kill, first)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/health/live")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, 30, what="the stopgap")
        stopgap = pid_in(beside.with_name(STOPGAP))
        await eventually(lambda: pid_in(beside) != first, 60, what="Ray's next HAProxy")
        await eventually(lambda: not psutil.pid_exists(stopgap or 0), 60, what="the end of the stopgap")
        await eventually(answers, 30, what="Ray's next HAProxy to answer")
