"""Routes that change tasks: submit, claim, report, cancel, extend.

A replica commits submits itself. Everything that concerns a lease goes through the scheduler shard, the single writer of
leases.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import Request

from actors.messages import CancelRequest, ClaimAnswer, ExtendRequest, Lease, ReportRequest
from aragora_worker.base.money import nanos_of
from cluster.domain.access.permissions import Permission
from cluster.domain.agents.agent import Agent
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import ActorUnavailable, Conflict, ControlPlaneError, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json, shown_text
from cluster.domain.base.log import Origin
from cluster.domain.base.names import is_visible
from cluster.domain.deliberation.numbers import exact_json
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.progress import checked_progress
from cluster.domain.tasks.question_checks import INVALID_QUESTION
from cluster.domain.tasks.questions import Question
from cluster.domain.tasks.rules import Affinity, Edge, TaskRules, checked
from cluster.domain.tasks.task import IdempotencyKey, LeaseToken, NewTask, Priority, Task, TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.process import spans
from cluster.process.large import in_thread_if_large, rough_size
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.denials import note_denial
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.suspension import check_starts
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.exact_numbers import exact_numbers
from serve_app.http.hang_ups import hung_up
from serve_app.http.idempotency import Idempotency, given_key, key_of
from serve_app.http.spans import claimed, reporting
from serve_app.residency import check_residency
from serve_app.routes.children import below_their_parents, outcomes_of, parked_in
from serve_app.routes.questions import asked_in
from serve_app.routes.task_reads import Wait, shown, task_at_its_end
from serve_app.schemas.tasks import (
    MAX_BLOCK_MS,
    After,
    CancelAcknowledgement,
    Claim,
    Complete,
    CreateTask,
    CreateTasks,
    Extend,
    Fail,
    RefusedReport,
    Report,
    Reports,
    task_wire,
)
from serve_app.under_budgets import check_budgets
from serve_app.under_policies import under_policies
from serve_app.under_quotas import submit_within_quotas

router = GuardedRouter(tags=["tasks"])


def new_task(gate: Gateway, task_id: str, body: CreateTask, asker: Origin, now: float) -> NewTask:
    if body.run_at is not None and body.delay_seconds is not None:
        raise InvalidRequest("Give run_at or delay_seconds, not both.", "invalid_request")
    if body.retry is not None and body.retry.attempts is not None and body.max_retries is not None:
        raise InvalidRequest("Give max_retries or retry.attempts, not both: attempts are one more.", "invalid_retry")
    check_json(body.payload, "payload")
    check_json(body.metadata, "metadata")
    check_asked_schema(body.payload)
    run_at = body.run_at if body.delay_seconds is None else now + body.delay_seconds
    settings = gate.settings
    return NewTask(
        id=task_id,
        origin=asker,
        task_type=body.task_type,
        created_at=now,
        payload=body.payload,
        metadata=body.metadata,
        required_capabilities=tuple(sorted(set(body.required_capabilities))),
        priority=Priority.parse(body.priority),
        timeout_s=body.timeout_seconds or settings.task_timeout,
        max_retries=_max_retries(gate, body),
        run_at=run_at,
        queue=body.queue,
        target_agent=body.target_agent,
        target_region=body.target_region,
        fallback_regions=tuple(body.fallback_regions),
        region_routing_mode=body.region_routing_mode,
        origin_region=settings.region,
        rules=_rules(body),
        question=_question(body),
    )


#: What of a submit says which agent may have the task, or when: a person answers when it likes.
_OF_WORK = ("required_capabilities", "target_agent", "worker_version", "sticky_key", "run_at", "delay_seconds")


def _question(body: CreateTask) -> Question | None:
    """The question of a task that people do. Raises: `InvalidRequest` if it cannot be asked, or the task is also for agents."""
    if body.input_required is None:
        return None
    for name in _OF_WORK:
        if getattr(body, name):
            raise InvalidRequest(
                f"A task with input_required is done by people; leave {name} out, and give the work a task after this one.",
                INVALID_QUESTION,
            )
    return body.input_required.to_domain()


def _max_retries(gate: Gateway, body: CreateTask) -> int:
    if body.retry is not None and body.retry.attempts is not None:
        return body.retry.attempts - 1
    return gate.settings.max_task_retries if body.max_retries is None else body.max_retries


def _rules(body: CreateTask) -> TaskRules | None:
    if body.target_agent is not None and body.target_agent in body.excluded_agents:
        raise InvalidRequest(
            f"target_agent {body.target_agent} is among excluded_agents; nobody could take the task.", "invalid_target"
        )
    affinity = Affinity(body.region_routing_mode)
    target = () if body.target_region is None else (body.target_region,)
    edges = [edge for edge in body.after if isinstance(edge, After)]
    return checked(
        TaskRules(
            tenant=body.tenant,
            queue_timeout_s=body.queue_timeout_seconds,
            total_timeout_s=body.total_timeout_seconds,
            concurrency_key=body.concurrency_key,
            concurrency_limit=body.concurrency_limit,
            excluded_agents=tuple(sorted(set(body.excluded_agents))),
            regions=() if affinity is Affinity.ANY else (*target, *body.fallback_regions),
            affinity=affinity,
            retries=None if body.retry is None else body.retry.to_domain(),
            worker_version=body.worker_version,
            sticky_key=body.sticky_key,
            parent=body.parent_task_id,
            after=tuple(Edge(after=edge.id, when_failed=edge.when_failed) for edge in edges),
        )
    )


async def _check_dependencies(gate: Gateway, asker: Origin, tasks: Sequence[NewTask]) -> None:
    """Refuses tasks that depend on a task that does not exist. One that is found here counts as it ended, also if
    retention removes it before ``tasks`` are committed."""
    predecessors = {edge.after for task in tasks if task.rules is not None for edge in task.rules.after}
    if predecessors:
        found = await gate.tasks.statuses(asker.workspace, sorted(predecessors))
        unknown = sorted(predecessors - set(found))
        if unknown:
            raise InvalidRequest(f"after names a task that does not exist: {unknown[0]}.", "unknown_dependency")


#: Passes of the event loop between the server learning of a lost connection and ``hung_up`` returning.
LOOP_PASSES_TO_NOTICE = 2
_CONFLICT = "This idempotency key was used with another body; use a new key."


@router.post("/tasks", status_code=201)
@requires(Permission.TASKS_WRITE)
async def create_task(
    request: Request, body: CreateTask, asker: Asker, key: Idempotency, wait: Wait = 0.0
) -> dict[str, Any]:
    """Submits a task; it is durable before this is answered. Send an ``Idempotency-Key`` to make repeats safe. With ``wait`` the
    answer has the ``task`` too, when it has ended or so many seconds have passed (at most 25), unless it cannot be read; this
    takes the permission to read tasks. 400 (`InvalidRequest`) if the fields do not fit together or ``after`` or
    ``parent_task_id`` names an unknown task, 403 (`PolicyDenied`) with ``policy_id`` and what is ``allowed`` if a policy refuses
    it, 403 (`BudgetExhausted`) with ``budget_id`` and ``resets_at`` if a budget is used up, 429 (`QuotaFull`) with the ``quota``
    and its ``limit`` if a quota has no room, 409 (`Conflict`) if the key was used with another body."""
    gate = gateway(request)
    if wait:
        await admit(request, Permission.TASKS_READ)
    task = new_task(gate, gate.new_id("task"), body, asker, gate.clock.now())
    key = key or key_of(asker.principal, body.idempotency_key)
    idem = None
    if key is not None:
        digest = body_digest(body.for_digest("idempotency_key"))
        idem = IdempotencyKey(route="tasks", key=key, body_digest=digest)
    if body.after:
        await _check_dependencies(gate, asker, [task])
    (task,) = await below_their_parents(gate, asker, [task])
    await check_budgets(gate, asker, [SubmitItem(task=task, idempotency=idem)])
    (item,) = await under_policies(gate, asker, [SubmitItem(task=task, idempotency=idem)])
    (outcome,) = await submit_within_quotas(request, asker, [item])
    if outcome.conflict:
        raise Conflict(_CONFLICT, "idempotency_conflict")
    gate.acknowledged([outcome])
    answer: dict[str, Any] = {"task_id": outcome.task_id}
    if wait:
        with contextlib.suppress(ControlPlaneError):  # the task is submitted, and whoever asked has to learn its id
            answer["task"] = task_wire(await task_at_its_end(request, asker, outcome.task_id, wait))
    return answer


@router.post("/tasks/batch", status_code=201)
@requires(Permission.TASKS_WRITE)
async def create_tasks(request: Request, body: CreateTasks, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Submits up to 1,000 tasks in one transaction; they wait in the given order. An ``Idempotency-Key`` covers the whole
    batch. 400 (`InvalidRequest`) if a task is not valid, 403 (`PolicyDenied`, `BudgetExhausted`) if a policy or a budget
    refuses one, 429 (`QuotaFull`) if a quota has no room for all, 403 (`QuotaExceeded`) if it never has for so many, 409
    (`Conflict`) if the key was used with another body."""
    gate = gateway(request)
    return await submit_batch(request, asker, batch_of(gate, asker, body.tasks, key))


def batch_of(gate: Gateway, asker: Origin, bodies: Sequence[CreateTask], key: str | None) -> list[SubmitItem]:
    """The tasks of one call, with a key each if the call has one. Raises: `InvalidRequest` if one is not valid."""
    now = gate.clock.now()
    # Tasks with one creation time are ordered by their ids, so the ids are sorted.
    ids = sorted(gate.new_id("task") for _ in bodies)
    digest = body_digest({"tasks": [body.for_digest() for body in bodies]}) if key else b""
    items = []
    for index, (task_id, body) in enumerate(zip(ids, bodies, strict=True)):
        idem = IdempotencyKey(route="tasks/batch", key=f"{key}#{index}", body_digest=digest) if key else None
        items.append(SubmitItem(task=new_task(gate, task_id, body, asker, now), idempotency=idem))
    return items


async def submit_batch(request: Request, asker: Origin, items: Sequence[SubmitItem]) -> dict[str, Any]:
    """Submits them, all or none if they have keys, and returns the answer. Raises: what `create_tasks` says."""
    gate = gateway(request)
    tasks = await below_their_parents(gate, asker, [item.task for item in items])
    items = [replace(item, task=task) for item, task in zip(items, tasks, strict=True)]
    await _check_dependencies(gate, asker, tasks)
    await check_budgets(gate, asker, items)
    governed = await under_policies(gate, asker, items)
    all_or_none = items[0].idempotency is not None
    outcomes = await submit_within_quotas(request, asker, governed, all_or_none=all_or_none)
    if any(outcome.conflict for outcome in outcomes):
        raise Conflict(_CONFLICT, "idempotency_conflict")
    gate.acknowledged(outcomes)
    return {"task_ids": [outcome.task_id for outcome in outcomes], "total": len(outcomes)}


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


@router.post("/tasks/fail")
@router.post("/tasks/complete")
@requires(Permission.TASKS_CLAIM)
@exact_numbers
async def complete_tasks(request: Request, body: Reports, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Takes up to 1,000 reports in one call, completions and failures. ``results`` has one answer for each report, in their
    order; a report that cannot be taken, whatever its shape, fails alone (its ``task_id`` is null if it names no task)."""
    outcomes = await asyncio.gather(
        *(_report_one(request, asker, report) for report in body.reports), return_exceptions=True
    )
    results = []
    for report, outcome in zip(body.reports, outcomes, strict=True):
        if isinstance(outcome, ControlPlaneError):
            note_denial(request, outcome)
            # The client may have sent anything.
            task_id = report.named if isinstance(report, RefusedReport) else shown_text(report.task_id, 128)
            results.append({"task_id": task_id, "ok": False, "error": outcome.message, "code": outcome.code})
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append({"task_id": report.task_id, "ok": True})
    return {"results": results, "total": len(results)}


async def _report_one(request: Request, asker: Origin, body: Report) -> None:
    if isinstance(body, RefusedReport):
        raise InvalidRequest(body.refusal, body.code)
    if body.ask is not None:
        await asked_in(request, asker, body.task_id, body, body.ask)
        return
    if body.park is not None:
        await parked_in(request, asker, body.task_id, body, body.park)
        return
    await _report(request, await in_thread_if_large(rough_size(body.result), _report_request, asker, body))


def _report_request(asker: Origin, body: Report) -> ReportRequest:
    if body.stopped:
        return _report_of(asker, body.task_id, body, stopped=True)
    if body.released and body.result is not None:
        raise InvalidRequest("Report a result, or give the task back with released; not both.", "invalid_request")
    unsaid = body.error is not None and not is_visible(body.error)  # some clients send "error": "" with every result
    if body.released or (body.error is not None and not (unsaid and body.result is not None)):
        return _failure(asker, body.task_id, body)
    return _report_of(asker, body.task_id, body, result=body.result)


def _failure(asker: Origin, task_id: str, body: Report | Fail) -> ReportRequest:
    """The request of a report that an attempt has failed, or is given back.

    Raises: `InvalidRequest` if the report says both that the task should be given to others and that it should not."""
    if body.released and not body.requeue:
        raise InvalidRequest(
            "A task that is given back (released) is queued again; leave requeue out.", "invalid_request"
        )
    if body.released:
        return _report_of(asker, task_id, body, error=body.error or "", released=True)
    return _report_of(
        asker,
        task_id,
        body,
        error=body.error if body.error is not None and is_visible(body.error) else "Unknown error",
        requeue=body.requeue,
        error_class=body.error_class,
        retry_after_s=body.retry_after_seconds,
        error_code=body.error_code,
    )


def _report_of(
    asker: Origin,
    task_id: str,
    body: Report | Complete | Fail | CancelAcknowledgement,
    *,
    result: Any = None,
    **fields: Any,
) -> ReportRequest:
    check_id(task_id, "task_id")
    attempt, agent_id = None, body.agent_id
    if body.lease_token is not None:
        token = LeaseToken.decode(body.lease_token)
        if token.task_id != task_id:
            raise Conflict("lease_token belongs to another task.", "lease_lost")
        if agent_id is not None and agent_id != token.agent_id:
            raise Conflict("lease_token belongs to another agent.", "lease_lost")
        attempt, agent_id = token.attempt, token.agent_id
    return ReportRequest(
        workspace=asker.workspace,
        principal=asker.principal,
        task_id=task_id,
        attempt=attempt,
        agent_id=agent_id,
        result_json=None if result is None else exact_json(result, "result"),
        checked=True,
        cost_nanos=None if body.cost_usd is None else nanos_of(body.cost_usd, "cost_usd"),
        cause=asker.cause,
        **fields,
    )


async def _report(request: Request, report: ReportRequest) -> None:
    gate = gateway(request)
    report = evolve(report, agent_id=acting_agent(request, report.agent_id))
    if spans.tracer is None:
        await gate.report(report)
    else:
        with spans.within(await reporting(gate.submit_causes, report.task_id)):
            await gate.report(report)
    if report.agent_id is not None:
        gate.record_activity(report.workspace, report.agent_id)


@router.post("/tasks/{task_id}/complete")
@requires(Permission.TASKS_CLAIM)
@exact_numbers
async def complete_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: Complete | None = None
) -> dict[str, Any]:
    """Completes a task. With the ``lease_token`` of the claim, only the holder of that attempt can; for any other attempt the
    answer is 409 (`Conflict`, ``lease_lost``)."""
    body = body or Complete()
    report = partial(_report_of, asker, task_id, body, result=body.result)
    await _report(request, await in_thread_if_large(rough_size(body.result), report))
    return {"completed": True}


@router.post("/tasks/{task_id}/fail")
@requires(Permission.TASKS_CLAIM)
async def fail_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: Fail | None = None
) -> dict[str, Any]:
    """Reports a failed attempt. The task is tried again while it has retries left, unless ``requeue`` is false or
    ``error_class`` is ``not_retryable``. With ``released`` the attempt is given back unfinished: the task is queued again and
    no retry is spent. 409 (`Conflict`, ``lease_lost``) if the caller does not hold the lease."""
    body = body or Fail()
    await _report(request, _failure(asker, task_id, body))
    return {"released": True} if body.released else {"failed": True}


@router.post("/tasks/{task_id}/stopped")
@requires(Permission.TASKS_CLAIM)
async def stopped_task(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: CancelAcknowledgement | None = None
) -> dict[str, Any]:
    """Reports that the agent has stopped a task that is being cancelled. The lease ends at once, not after the grace.
    409 (`Conflict`, ``lease_lost``) if the caller does not hold it."""
    await _report(request, _report_of(asker, task_id, body or CancelAcknowledgement(), stopped=True))
    return {"stopped": True}


@router.post("/tasks/{task_id}/cancel")
@requires(Permission.TASKS_WRITE)
async def cancel_task(request: Request, task_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Cancels a task. A waiting task ends at once; the agent of a running task is asked to stop it. A repeat gets the same
    answer."""
    gate = gateway(request)
    cancel = CancelRequest(
        workspace=asker.workspace,
        principal=asker.principal,
        task_id=check_id(task_id, "task_id"),
        cause=asker.cause,
    )
    await gate.scheduler.request(cancel)
    return {"cancelled": True}


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
