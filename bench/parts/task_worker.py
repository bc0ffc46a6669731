"""Works on tasks from inside the cluster, by a client that asks the shard without HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.parts.task_client import TaskBody, TaskClient
from cluster.domain.base.errors import Conflict, ControlPlaneError, InvalidRequest, NotFound, TryLater
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_size, shown_error, write_any_json
from cluster.domain.scheduling.answers import Lease
from cluster.domain.tasks.retries import ErrorClass
from cluster.process.large import in_thread_if_large, rough_size

_logger = logging.getLogger(__name__)

MAX_CLAIM = 100
RETRY_S = 0.2
_CANCELLED = "The task was cancelled."


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
