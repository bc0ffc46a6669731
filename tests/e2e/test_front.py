"""What clients get from HAProxy while the replica behind it, or HAProxy itself, is killed."""

from __future__ import annotations

import asyncio

import httpx
import psutil

from cluster.process.stopgap import CURRENT, STOPGAP, pid_in
from serve_app.schemas.tasks import MAX_BLOCK_MS
from tests.e2e.test_replicas import CP, replica_pids, waits_at
from tests.support.probes import eventually
from tests.support.system import RunningSystem, kill


def ours(answer: httpx.Response) -> bool:
    """200, or an error in the API's shape that says when to repeat the call."""
    if answer.status_code == 200:
        return True
    return (
        answer.status_code == 503
        and "retry-after" in answer.headers
        and {"error", "code", "trace_id"} <= set(answer.json())
    )


async def test_a_killed_replica_gives_no_error_of_another_shape(system: RunningSystem) -> None:
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=60, limits=fresh) as client:
        await client.post(f"{CP}/agents", json={"agent_id": "cut", "capabilities": ["nothing-of-this"]})
        claim = asyncio.create_task(
            client.post(f"{CP}/tasks/claim", json={"agent_id": "cut", "block_ms": MAX_BLOCK_MS})
        )
        (replica,) = replica_pids(system)
        await eventually(lambda: waits_at(replica), 30, what="the claim")
        await asyncio.to_thread(kill, replica)
        answers = [await claim]  # 200 if HAProxy had not sent it yet
        async def recovered() -> bool:
            answers.append(await client.get(f"{CP}/agents/cut"))
            return answers[-1].status_code == 200

        await eventually(recovered, 90, what="another replica")
    print([(answer.status_code, answer.text[:90]) for answer in answers[:4]])
    assert not [(answer.status_code, answer.text) for answer in answers if not ours(answer)]


async def test_a_killed_haproxy_is_stood_in_for_and_replaced(system: RunningSystem) -> None:
    (beside,) = (system.layout.sockets / "h").glob(f"*/{CURRENT}")
    first = pid_in(beside)
    assert first is not None
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
