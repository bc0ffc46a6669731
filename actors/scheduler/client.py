"""Submits tasks and works on them from inside the cluster: directly with the stores and the shard, without HTTP.

For processes that run beside the actors and can reach the shard's exchange. Submits are committed to Postgres from here;
claims and reports go over one exchange. Both put the requests of concurrent callers together, so many callers with one task
each cost little more than one caller with many tasks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.messages import ClaimAnswer, HeartbeatAnswer, HeartbeatRequest, Lease, ReportRequest
from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest, NotFound, TryLater
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.json_values import (
    MAX_ERROR_CHARS,
    check_json,
    check_size,
    check_text,
    read_json,
    shown_error,
    write_any_json,
)
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import IdempotencyKey, LeaseToken, NewTask, Submitted
from cluster.ports.clock import Clock
from cluster.ports.tasks import SubmitItem, TaskStore
from cluster.ports.wake_ups import Doorbell, topics_for
from cluster.process.group_commit import GroupCommit
from cluster.process.large import in_thread_if_large, rough_size
from cluster.rpc.exchange import ExchangeClient

_logger = logging.getLogger(__name__)

MAX_CLAIM = 100
RETRY_S = 0.2
_CANCELLED = "The task was cancelled."


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
        await self.scheduler.request(
            ReportRequest(
                workspace=self.origin.workspace,
                principal=self.origin.principal,
                task_id=token.task_id,
                attempt=token.attempt,
                agent_id=token.agent_id,
                result_json=result_json,
                error=error,
                error_class=error_class,
                brief=True,
                checked=True,
                cause=self.origin.cause,
            )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a handler gets: the lease, and what the task is about."""

    lease: Lease
    payload: Any
    metadata: Mapping[str, Any]


#: Does the work and returns its result (any JSON value). If it raises, the attempt fails with that error.
Handler = Callable[[Work], Awaitable[Any]]


class ClusterWorker:
    """Runs up to ``slots`` tasks at once for one agent, with up to ``prefetch`` more leased and waiting.

    A handler that has returned makes room for the next one at once; its report goes out meanwhile, and is repeated until it is
    durable or the lease is lost. ``heartbeat_s`` is the time between heartbeats.
    """

    def __init__(
        self,
        client: TaskClient,
        handler: Handler,
        *,
        agent_id: str,
        capabilities: frozenset[str] = frozenset(),
        slots: int = 1,
        prefetch: int = 0,
        heartbeat_s: float = 10.0,
    ) -> None:
        self._client = client
        self._handler = handler
        self._agent_id = agent_id
        self._capabilities = capabilities
        self._slots = slots
        self._capacity = slots + prefetch
        self._heartbeat_s = heartbeat_s
        # How many leases it holds: being begun, ready, running or being reported. ``_claim`` counts up, ``_free_slot`` down, and
        # sets the event for ``run``, which claims only while there is room.
        self._held = 0
        self._free = asyncio.Event()
        # Leased tasks whose payloads are here and that wait for a slot.
        self._ready: deque[Work] = deque()
        # Task id → the running handler. ``_fill`` adds, ``_do`` removes.
        self._running: dict[str, asyncio.Task[None]] = {}
        # Ids of running tasks whose handlers were cancelled on request, which tells them from those that end with the worker.
        self._cancelled: set[str] = set()
        # Leases that are being begun or reported. Each leaves when it ends; ``settled`` waits for all.
        self._reports: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Works until cancelled. Running handlers are cancelled too, and their leases expire."""
        heartbeats = asyncio.create_task(self._heartbeat())
        try:
            while True:
                while self._held >= self._capacity:
                    self._free.clear()
                    await self._free.wait()
                await self._claim()
        finally:
            tasks = [heartbeats, *self._running.values(), *self._reports]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Returns once every report so far is durable."""
        while self._reports:
            await asyncio.wait(set(self._reports))

    async def _claim(self) -> None:
        claim_id = self._client.new_id("claim")
        max_tasks = min(MAX_CLAIM, self._capacity - self._held)
        try:
            leases = await self._client.claim(
                self._agent_id,
                self._capabilities,
                max_tasks=max_tasks,
                max_concurrency=self._capacity,
                claim_id=claim_id,
            )
        except TryLater as error:
            _logger.debug("a claim of %s will be made again: %s", self._agent_id, error)
            await self._client.clock.sleep(RETRY_S)
            return
        self._held += len(leases)
        self._keep(asyncio.create_task(self._begin(leases)))

    async def _begin(self, leases: Sequence[Lease]) -> None:
        for lease, body in zip(leases, await self._bodies(leases), strict=True):
            if body is None:  # the task is not stored any more, so there is nothing to do or to report
                self._free_slot()
                continue
            self._ready.append(Work(lease=lease, payload=body.payload, metadata=body.metadata))
        self._fill()

    async def _bodies(self, leases: Sequence[Lease]) -> Sequence[TaskBody | None]:
        while True:
            try:
                return await self._client.bodies(leases)
            except TryLater as error:
                _logger.debug("payloads will be read again: %s", error)
                await self._client.clock.sleep(RETRY_S)

    def _fill(self) -> None:
        while self._ready and len(self._running) < self._slots:
            work = self._ready.popleft()
            self._running[work.lease.head.id] = asyncio.create_task(self._do(work))

    async def _do(self, work: Work) -> None:
        result: Any = None
        error: str | None = None
        try:
            result = await self._handler(work)
        except asyncio.CancelledError:
            if work.lease.head.id not in self._cancelled:
                raise  # the worker ends
            error = _CANCELLED
        except Exception as failure:  # noqa: BLE001 - the handler's own error is the outcome
            error = shown_error(failure, MAX_ERROR_CHARS)
        del self._running[work.lease.head.id]
        self._cancelled.discard(work.lease.head.id)
        self._keep(asyncio.create_task(self._report(work.lease, result, error)))
        self._fill()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    async def _report(self, lease: Lease, result: Any, error: str | None) -> None:
        # The loop renews the leases of this agent's other tasks meanwhile.
        outcome = (
            await in_thread_if_large(rough_size(result), self._outcome, result) if error is None else {"error": error}
        )
        report = {"result_json": None, "error": None, "error_class": ErrorClass.RETRYABLE, **outcome}
        try:
            while True:
                try:
                    await self._client.report_checked(lease, **report)
                    return
                except TryLater:
                    await self._client.clock.sleep(RETRY_S)
        except (Conflict, NotFound) as lost:
            _logger.info("the report on task %s was refused: %s", lease.head.id, lost)
        finally:
            self._free_slot()

    def _outcome(self, result: Any) -> dict[str, Any]:
        """The fields of the report: the result or, if that cannot be stored, an error."""
        if result is None:
            return {}
        try:
            text = write_any_json(result, "The result")
            check_size(text, "The result")
        except InvalidRequest as odd:
            return {"error": f"Agent {self._agent_id}: {odd.message}", "error_class": ErrorClass.MALFORMED}
        return {"result_json": text}

    def _free_slot(self) -> None:
        self._held -= 1
        self._free.set()

    async def _heartbeat(self) -> None:
        """Renews the leases, and cancels the handlers of tasks that should stop."""
        while True:
            await self._client.clock.sleep(self._heartbeat_s)
            try:
                answer = await self._client.heartbeat(self._agent_id)
            except ControlPlaneError as error:
                _logger.debug("a heartbeat of %s was lost: %s", self._agent_id, error)
                continue
            for _, _, task_id in answer.cancelling:
                self._cancel(task_id)

    def _cancel(self, task_id: str) -> None:
        running = self._running.get(task_id)
        if running is not None:
            self._cancelled.add(task_id)
            running.cancel()
        for work in [work for work in self._ready if work.lease.head.id == task_id]:
            self._ready.remove(work)
            self._keep(asyncio.create_task(self._report(work.lease, None, _CANCELLED)))
