"""Submits tasks and asks for them from inside the cluster: directly with the stores and the shard, without HTTP.

For processes that run beside the actors and can reach the shard's exchange. Submits are committed to Postgres from here;
claims and reports go over one exchange. Both put the requests of concurrent callers together, so many callers with one task
each cost little more than one caller with many tasks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.json_values import (
    check_json,
    check_size,
    check_text,
    read_json,
)
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.answers import ClaimAnswer, HeartbeatAnswer, Lease
from cluster.domain.scheduling.requests import ClaimRequest, HeartbeatRequest, ReportRequest
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.events import Complete, Fail, Reporter
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import IdempotencyKey, LeaseToken, NewTask, Submitted
from cluster.ports.clock import Clock
from cluster.ports.tasks import SubmitItem, TaskStore
from cluster.ports.wake_ups import Doorbell, topics_for
from cluster.process.group_commit import GroupCommit
from cluster.process.large import in_thread_if_large
from cluster.rpc.exchange import ExchangeClient


class TaskClient:
    """One per process and event loop. ``origin`` says who asks; ``scheduler`` is the exchange with the shard."""

    def __init__(
        self,
        *,
        origin: Origin,
        region: str,
        tasks: TaskStore,
        doorbell: Doorbell,
        clock: Clock,
        scheduler: ExchangeClient,
    ) -> None:
        self.origin = origin
        self.clock = clock
        self.scheduler = scheduler
        self._region = region
        self._tasks = tasks
        self._doorbell = doorbell
        # Submits that wait for the next commit, and task ids whose payloads are to be read by the next query.
        self._submits: GroupCommit[SubmitItem, Submitted] = GroupCommit(self._commit, max_batch=1000)
        self._bodies: GroupCommit[str, TaskBody | None] = GroupCommit(self._read_bodies, max_batch=1000)
        # Notifications under way. Kept here because the event loop alone would not keep them alive; each leaves when it ends.
        self._background: set[asyncio.Future[Any]] = set()

    def new_id(self, prefix: str) -> str:
        """A new id that sorts after those made before."""
        return sortable_id(prefix, self.clock.now(), os.urandom(10))

    def task(self, task_type: str, payload: Any = None, **options: Any) -> NewTask:
        """A task of this client; ``options`` are fields of ``NewTask``."""
        return NewTask(
            id=self.new_id("task"),
            origin=self.origin,
            task_type=task_type,
            created_at=self.clock.now(),
            payload={} if payload is None else payload,
            origin_region=self._region,
            **options,
        )

    async def submit(self, task: NewTask, key: IdempotencyKey | None = None) -> str:
        """Returns the task's id when it is durable. If the key was used before, it is the id of the task of then.

        Raises: `InvalidRequest` if the task could not be stored, found out before it is put together with what others submit;
        `Conflict` if the key was used with another body."""
        _check(task)
        return self._accepted(await self._submits.put(SubmitItem(task=task, idempotency=key)))

    async def submit_many(self, tasks: Sequence[NewTask]) -> list[str]:
        """Submits tasks in one transaction and returns their ids when they are durable.

        Raises: `InvalidRequest` if one of them could not be stored; then none is submitted. `Overloaded` if too many wait."""
        for task in tasks:
            _check(task)
        outcomes = await self._submits.put_many([SubmitItem(task=task) for task in tasks])
        return [self._accepted(outcome) for outcome in outcomes]

    def _accepted(self, outcome: Submitted) -> str:
        if outcome.conflict:
            raise Conflict("This idempotency key was used with another body; use a new key.", "idempotency_conflict")
        return outcome.task_id

    async def _commit(self, items: Sequence[SubmitItem]) -> Sequence[Submitted]:
        outcomes = await self._tasks.submit(items)
        self._spawn(self._doorbell.notify(*topics_for(items)))
        return outcomes

    async def claim(
        self,
        agent_id: str,
        capabilities: frozenset[str],
        *,
        max_tasks: int,
        max_concurrency: int,
        claim_id: str | None = None,
        wait: bool = True,
    ) -> tuple[Lease, ...]:
        """Leases for an agent. With ``wait`` the claim waits at the shard until there are some; the shard may also answer without
        any, and then the agent claims again. The same ``claim_id`` gives the same leases.

        Raises: `NotFound` if the agent was deregistered; `ActorUnavailable` if the shard does not answer in time."""
        request = ClaimRequest(
            workspace=self.origin.workspace,
            agent_id=agent_id,
            principal=self.origin.principal,
            capabilities=capabilities,
            max_concurrency=max_concurrency,
            max_tasks=max_tasks,
            claim_id=claim_id or self.new_id("claim"),
            client_claim_id=True,
            wait=wait,
            cause=self.origin.cause,
            asked_at=self.clock.now(),
        )
        answer: ClaimAnswer = await self.scheduler.request(request, long_poll=wait)
        return answer.leases

    async def report(
        self,
        lease: Lease,
        *,
        result_json: str | None = None,
        error: str | None = None,
        error_class: ErrorClass = ErrorClass.RETRYABLE,
    ) -> None:
        """Ends the lease and returns when that is durable.

        Raises: `Conflict` (``lease_lost``) if the lease is held no more; `NotFound` if there is no such task; `InvalidRequest`,
        with nothing changed, if the result or the error could not be stored."""
        if result_json is not None:
            check_size(result_json, "result")
            await in_thread_if_large(len(result_json), read_json, result_json, "result")
        if error is not None:
            check_text(error, "error")
        await self.report_checked(lease, result_json=result_json, error=error, error_class=error_class)

    async def report_checked(
        self, lease: Lease, *, result_json: str | None, error: str | None, error_class: ErrorClass
    ) -> None:
        """``report`` for a result that ``write_json`` has written, which is not checked again.

        Raises: `Conflict` and `NotFound` as ``report`` does."""
        token = LeaseToken.decode(lease.token)
        by, cause = Reporter.of(self.origin.principal, token), self.origin.cause
        event = (
            Complete(by=by, result_json=result_json, cause=cause)
            if error is None
            else Fail(by=by, error=error, error_class=error_class, cause=cause)
        )
        await self.scheduler.request(
            ReportRequest(workspace=self.origin.workspace, task_id=token.task_id, event=event, brief=True, checked=True)
        )

    async def heartbeat(self, agent_id: str) -> HeartbeatAnswer:
        """Renews every lease of the agent. The answer names tasks that it should stop."""
        answer: HeartbeatAnswer = await self.scheduler.request(
            HeartbeatRequest(agents=((self.origin.workspace, agent_id),))
        )
        return answer

    async def bodies(self, leases: Sequence[Lease]) -> Sequence[TaskBody | None]:
        """Payload and metadata for each lease, None if the task is not stored any more. They do not pass through the shard:
        whoever needs them reads them from the store, many at once."""
        return await self._bodies.put_many([lease.head.id for lease in leases])

    async def _read_bodies(self, ids: Sequence[str]) -> Sequence[TaskBody | None]:
        found = await self._tasks.bodies(self.origin.workspace, ids)
        return [TaskBody(*found[id_]) if id_ in found else None for id_ in ids]

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Ends the client when everything that was submitted is committed."""
        await self._submits.drain()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.scheduler.close()


def _check(task: NewTask) -> None:
    check_text(task.task_type, "task_type")
    check_json(task.payload, "payload")
    check_json(task.metadata, "metadata")
    check_asked_schema(task.payload)


@dataclass(frozen=True, slots=True)
class TaskBody:
    """What a task is about. The shard does not keep it."""

    payload: Any
    metadata: Mapping[str, Any]
