"""Routes by which agents claim tasks and keep them. What concerns a lease goes through the scheduler shard, its single writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.agents.agent import Agent
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import ActorUnavailable, Conflict, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.answers import ClaimAnswer, Lease
from cluster.domain.scheduling.requests import ClaimRequest, ExtendRequest
from cluster.domain.tasks.progress import checked_progress
from cluster.domain.tasks.task import LeaseToken, Task, TaskStatus
from cluster.process import spans
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.suspension import check_starts
from serve_app.gateway import Gateway, gateway
from serve_app.http.hang_ups import hung_up
from serve_app.http.idempotency import Idempotency, given_key
from serve_app.http.spans import claimed
from serve_app.residency import check_residency
from serve_app.routes.children import outcomes_of
from serve_app.routes.task_reads import shown
from serve_app.schemas.tasks import (
    MAX_BLOCK_MS,
    Claim,
    Extend,
    task_wire,
)

router = GuardedRouter(tags=["tasks"])

#: Passes of the event loop between the server learning of a lost connection and ``hung_up`` returning.
LOOP_PASSES_TO_NOTICE = 2


@router.post("/tasks/claim")
@requires(Permission.TASKS_CLAIM)
async def claim_task(request: Request, body: Claim, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Claims work for a registered agent. The call waits up to ``block_ms`` (at most 25 s) for a task; ``task`` is null if
    there is none.

    With ``max_tasks`` the answer also has the list ``tasks``. With ``task_types`` only tasks of these types are claimed, with
    ``queues`` only those of these queues. The same ``claim_id`` gives the same leases, and the newest call under it is the one
    that is answered: an older one that still waits ends with 409 (`Conflict`, ``superseded``). ``cancelling`` names tasks that
    the agent should stop. 404 (`NotFound`) if the agent is not registered. 403 (`Forbidden`, ``workspace_suspended``) while the
    workspace is suspended, or (``residency_violation``) if the agent says that it runs outside of the workspace's zone.
    """
    gate = gateway(request)
    asked_at = gate.clock.now()
    acting_agent(request, body.agent_id)
    check_starts(gate.access, asker.workspace)
    agent = await _claimant(gate, asker, body.agent_id)
    check_residency(gate, asker.workspace, [agent])
    gate.record_activity(asker.workspace, body.agent_id)
    registered = frozenset(agent.capabilities)
    capabilities = registered if not body.capabilities else registered & frozenset(body.capabilities)
    block_s = min(body.block_ms, MAX_BLOCK_MS) / 1000
    claim = ClaimRequest(
        workspace=asker.workspace,
        agent_id=body.agent_id,
        principal=asker.principal,
        capabilities=capabilities,
        max_concurrency=agent.max_concurrency,
        max_tasks=body.max_tasks,
        claim_id=body.claim_id or given_key(key) or gate.new_id("claim"),
        client_claim_id=bool(body.claim_id or key),
        wait=block_s > 0,
        regions=agent.regions,
        # Not from the agent's liveness: an agent that claims is alive.
        unschedulable=agent.is_unschedulable,
        explicit_only=agent.explicit_only,
        cause=asker.cause,
        asked_at=asked_at,
        after_seq=gate.newest_submit,
        task_types=None if body.task_types is None else frozenset(body.task_types),
        queues=None if body.queues is None else frozenset(body.queues),
        version=body.version or agent.version,
    )
    async with _granted(gate, request, claim, block_s) as answer:
        gate.record_activity(asker.workspace, body.agent_id)
        tasks = await _leased(gate, asker.workspace, answer.leases)
    wire: dict[str, Any] = {"task": tasks[0] if tasks else None}
    if answer.cancelling:
        wire["cancelling"] = list(answer.cancelling)
    if body.max_tasks is not None:
        wire["tasks"] = tasks
    return wire


async def _claimant(gate: Gateway, asker: Origin, agent_id: str) -> Agent:
    """The agent that claims, from this replica's copy. If the copy has it as unschedulable it is read from the store, because
    another replica may have made it schedulable a moment ago."""
    agent = await gate.directory.get(asker.workspace, agent_id)
    if agent is not None and agent.is_unschedulable:
        agent = await gate.agents.get(asker.workspace, agent_id)
    if agent is None:
        raise NotFound(f"Agent {agent_id} is not registered; register it first.", "agent_not_registered")
    return agent


@contextlib.asynccontextmanager
async def _granted(gate: Gateway, request: Request, claim: ClaimRequest, block_s: float) -> AsyncIterator[ClaimAnswer]:
    """Waits for the claim's leases and gives them to the block, which makes the answer. A claim without leases is withdrawn
    when its time is over.

    The leases are released unless the block ends while the client is still connected. Else a client that hangs up, a
    request that Serve cancels or a store that fails would leave them with an agent that never heard of them, and whose
    heartbeats keep renewing them."""
    asked = asyncio.ensure_future(gate.scheduler.request(claim, long_poll=claim.wait))
    hang_up = asyncio.ensure_future(hung_up(request.receive))
    answer, taken = ClaimAnswer(), False
    try:
        timeout = block_s if claim.wait else None
        waiting = gate.attended.of([(claim.workspace, claim.agent_id)])
        with waiting, gate.open_calls.of(request, Permission.TASKS_CLAIM, starts_work=True) as call:
            refused = asyncio.ensure_future(call.ended.wait())
            try:
                await asyncio.wait({asked, hang_up, refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                refused.cancel()
            if asked.done():
                answer = asked.result()
            gate.open_calls.check(call)
            if not asked.done() and gate.scheduler.away and not hang_up.done():
                answer = await _asked_again(gate, claim)
        yield answer
        for _ in range(LOOP_PASSES_TO_NOTICE if answer.leases else 0):
            await asyncio.sleep(0)
        taken = not hang_up.done()
    finally:
        hang_up.cancel()
        if not taken:
            gate.release(answer)
        # Leases that came after the answer had been made are not in it, so they are released too.
        late = asked.result() if asked.done() and not asked.cancelled() and asked.exception() is None else answer
        if late is not answer:
            gate.release(late)
        asked.cancel()


async def _asked_again(gate: Gateway, claim: ClaimRequest) -> ClaimAnswer:
    """Asks the scheduler's successor once more, without waiting for work, because the scheduler is away at the end of the
    claim's wait. An empty answer was rejected: a lease that the predecessor granted to this claim would stay idle.

    If the successor does not answer either, a client that chose the claim's id gets the error and can repeat the claim
    under that id; for the others the answer is empty."""
    try:
        answer: ClaimAnswer = await gate.scheduler.request(evolve(claim, wait=False))
    except ActorUnavailable:
        if claim.client_claim_id:
            raise
        return ClaimAnswer()
    return answer


async def _leased(gate: Gateway, workspace: str, leases: Sequence[Lease]) -> list[dict[str, Any]]:
    """The tasks of those leases that are still held. One may be lost while the answer is on its way, and its task may be with
    another agent or ended by then: the caller would work for nothing, and read the other's attempt and result."""
    tasks = await gate.task_reads.put_many([(workspace, lease.head.id) for lease in leases])
    outcomes = await outcomes_of(gate, workspace, [task for task in tasks if task is not None])
    headers: Mapping[str, str] = {}
    if spans.tracer is not None:
        held = [task for lease, task in zip(leases, tasks, strict=True) if task is not None and _is_held(lease, task)]
        headers = await claimed(gate.submit_causes, held)
    wire = []
    for lease, task in zip(leases, tasks, strict=True):
        if task is not None and _is_held(lease, task):
            wire.append(
                {
                    **task_wire(shown(gate, task)),
                    "lease_token": lease.token,
                    "lease_expires_at": lease.expires_at,
                    "redelivered": lease.redelivered,
                    **({"children": outcomes[task.id]} if task.id in outcomes else {}),
                    **({"traceparent": headers[task.id]} if task.id in headers else {}),
                }
            )
    return wire


def _is_held(lease: Lease, task: Task) -> bool:
    """Whether the task, as it is stored now, runs under this lease."""
    granted = lease.head.attempt, lease.head.assigned_agent
    return task.status is TaskStatus.RUNNING and (task.attempt, task.assigned_agent) == granted


@router.post("/tasks/{task_id}/extend")
@requires(Permission.TASKS_CLAIM)
async def extend_lease(request: Request, task_id: str, body: Extend, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Renews one lease; a heartbeat renews all leases of an agent. With ``percent``, ``message`` or ``checkpoint`` it reports
    progress too, and is answered when that, or a newer report of the same attempt, is durable: a task's is stored once a second
    at most, and before its attempt ends. 400 (`InvalidRequest`, ``invalid_progress``) if the checkpoint is too large, 409
    (`Conflict`) if ``lease_token`` belongs to another task or the lease is lost."""
    token = LeaseToken.decode(body.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    extension = ExtendRequest(
        workspace=asker.workspace,
        task_id=task_id,
        attempt=token.attempt,
        agent_id=token.agent_id,
        progress=checked_progress(body.percent, body.message, body.checkpoint),
    )
    with gate.attended.of([(asker.workspace, token.agent_id)]):
        done = await gate.scheduler.request(extension)
    return {"extended": True, "lease_expires_at": done.lease_expires_at}
