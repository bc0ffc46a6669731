"""A worker: one process that is an agent. It registers, claims, runs handlers, reports, and drains when it is told to.

    from cluster.worker import Job, Worker

    worker = Worker("adder", capabilities=["add"], concurrency=4)

    @worker.handles("add")
    async def add(job: Job) -> int:
        return sum(job.payload["terms"])

    worker.run_forever()

Claims carry an id until they are answered and reports carry their lease, so everything that is repeated after a lost
answer or a restart of the control plane means the same. A handler may be a plain function: it runs in a thread, and
``job.cancelled`` tells it to stop; a coroutine is cancelled. What a handler raises fails the attempt; ``Reject`` fails the
task for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cluster.client import ControlPlaneClient
from cluster.domain.errors import ControlPlaneError, InvalidRequest, NotFound, TryLater
from cluster.domain.json_values import MAX_ERROR_CHARS, shown_error, shown_text, write_json
from cluster.domain.retries import ErrorClass
from cluster.group_commit import GroupCommit
from cluster.settings import load_settings

_logger = logging.getLogger(__name__)

BLOCK_MS = 20_000
HEARTBEAT_S = 10.0
DRAIN_S = 30.0
#: How long a draining worker tries to say that it drains.
SAY_SO_S = 5.0
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 5.0
#: Reports are repeated for this long; a lease that nobody renewed meanwhile belongs to another attempt.
REPORT_S = 300.0
STOPPED = "the worker was stopped before it was done"


class Reject(Exception):
    """Raised by a handler: this task can never succeed, so it is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A task that was claimed. ``cancelled`` is set when it should be stopped; nobody waits for its result then."""

    id: str
    task_type: str
    payload: Any
    metadata: Mapping[str, Any]
    attempt: int
    timeout_s: float
    lease_token: str
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)


Handler = Callable[[Job], Any]


class Worker:
    """``concurrency`` jobs at once, claimed up to ``batch`` at a time. ``description`` is what else the agent registers
    with (``model``, ``provider``, ``tags``, ...). ``base_url`` and ``api_key`` default to ARAGORA_API_URL and
    ARAGORA_API_KEY."""

    def __init__(
        self,
        agent_id: str | None = None,
        *,
        capabilities: Sequence[str] = (),
        concurrency: int = 10,
        batch: int = 50,
        base_url: str | None = None,
        api_key: str | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        drain_s: float = DRAIN_S,
        **description: Any,
    ) -> None:
        self.agent_id = agent_id or f"{socket.gethostname()}-{os.getpid()}"
        self._concurrency = concurrency
        self._batch = batch
        settings = load_settings()
        own_key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._base_url = base_url or settings.api_url or f"http://127.0.0.1:{settings.http_port}"
        self._api_key = api_key or own_key
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"job-{self.agent_id}")
        self._heartbeat_s = heartbeat_s
        self._drain_s = drain_s
        self._description = {
            "agent_id": self.agent_id,
            "capabilities": list(capabilities),
            "max_concurrency": concurrency,
            **description,
        }
        self._handlers: dict[str | None, Handler] = {}
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._draining = asyncio.Event()
        self._slot = asyncio.Event()
        self._client: ControlPlaneClient
        self._reports: GroupCommit[dict[str, Any], dict[str, Any]] = GroupCommit(self._send_reports)

    def handles(self, *task_types: str) -> Callable[[Handler], Handler]:
        """Registers the handler of task types; of every other type without any."""

        def register(handler: Handler) -> Handler:
            for task_type in task_types or (None,):
                self._handlers[task_type] = handler
            return handler

        return register

    def run_forever(self) -> None:
        """Until SIGTERM or SIGINT drains it."""
        asyncio.run(self.run(signals=True))

    def drain(self) -> None:
        """Claims no more; ``run`` returns when the jobs at hand are done, or after ``drain_s``."""
        self._draining.set()
        self._slot.set()

    async def run(self, *, signals: bool = False) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
            loop.add_signal_handler(number, self.drain)
        async with ControlPlaneClient(self._base_url, self._api_key) as self._client:
            heart = asyncio.create_task(self._heartbeats())
            try:
                if await self._until_drained(self._patiently(self._register)):
                    await self._claim_forever()
                await self._finish()
            finally:
                heart.cancel()
                await asyncio.gather(heart, return_exceptions=True)
                self._threads.shutdown(wait=False, cancel_futures=True)
                for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
                    loop.remove_signal_handler(number)

    # --- the control plane ---------------------------------------------------------------------------------------

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeats a call while the control plane is away."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                return await call()
            except TryLater as error:
                _logger.info("the control plane is away, will try again: %s", error)
                await asyncio.sleep(wait_s)
                wait_s = min(RETRY_MOST_S, wait_s * 2)

    async def _until_drained(self, work: Awaitable[Any]) -> Any:
        """The result, or None when draining begins first: the work is then cancelled."""
        task = asyncio.ensure_future(work)
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, draining):
                one.cancel()
            await asyncio.gather(task, draining, return_exceptions=True)

    async def _register(self) -> Any:
        answer = await self._client.post("/agents", self._description)
        _logger.info("agent %s is registered", self.agent_id)
        return answer

    async def _heartbeats(self) -> None:
        """Renews every lease, and learns which jobs to stop."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                await self._beat()
            except NotFound:
                with contextlib.suppress(ControlPlaneError):
                    await self._register()
            except ControlPlaneError as error:
                _logger.info("a heartbeat was not taken: %s", error)

    async def _beat(self) -> None:
        status = {"status": "draining"} if self._draining.is_set() else {}
        answer = await self._client.post(f"/agents/{self.agent_id}/heartbeat", status)
        for task_id in answer.get("cancelling", ()):
            self._stop_job(task_id)

    def _stop_job(self, task_id: str) -> None:
        if task_id in self._jobs:
            job, task = self._jobs[task_id]
            job.cancelled.set()
            task.cancel()

    async def _claim_forever(self) -> None:
        while not self._draining.is_set():
            free = self._concurrency - len(self._jobs)
            if free <= 0:
                self._slot.clear()
                await self._slot.wait()
                continue
            for task in await self._until_drained(self._claimed(min(free, self._batch, 100))) or ():
                self._start(task)

    async def _claimed(self, most: int) -> Sequence[Mapping[str, Any]]:
        """One claim id until it is answered: an answer that was lost is given again."""
        body = {
            "agent_id": self.agent_id,
            "max_tasks": most,
            "claim_id": f"claim-{uuid.uuid4().hex}",
            "block_ms": BLOCK_MS,
        }

        async def claim() -> Any:
            return await self._client.request("POST", "/tasks/claim", body, timeout_s=BLOCK_MS / 1000 + 10)

        while True:
            try:
                answer = await self._patiently(claim)
                return list(answer.get("tasks") or ())
            except NotFound:
                await self._patiently(self._register)

    # --- jobs ----------------------------------------------------------------------------------------------------

    def _start(self, task: Mapping[str, Any]) -> None:
        if task["id"] in self._jobs:
            return
        job = Job(
            id=task["id"],
            task_type=task["task_type"],
            payload=task["payload"],
            metadata=task["metadata"],
            attempt=task["attempt"],
            timeout_s=task["timeout_seconds"],
            lease_token=task["lease_token"],
        )
        running = asyncio.create_task(self._run(job))
        self._jobs[job.id] = (job, running)
        running.add_done_callback(functools.partial(self._done, job.id))

    def _done(self, task_id: str, _: asyncio.Task[None]) -> None:
        self._jobs.pop(task_id, None)
        self._slot.set()

    async def _run(self, job: Job) -> None:
        outcome: dict[str, Any]
        try:
            outcome = self._outcome(await self._handle(job))
        except asyncio.CancelledError:
            reason = "cancelled" if job.cancelled.is_set() else STOPPED
            outcome = {"error": reason, "requeue": not job.cancelled.is_set()}
        except Reject as error:
            outcome = {"error": shown_text(str(error), MAX_ERROR_CHARS) or "rejected", "requeue": False}
        except Exception as error:
            _logger.warning("task %s failed", job.id, exc_info=error)
            outcome = {"error": shown_error(error, MAX_ERROR_CHARS), "requeue": True}
        await self._report(job, outcome)

    def _outcome(self, result: Any) -> dict[str, Any]:
        """Looked at before it meets the reports of other jobs: what cannot be sent would take them with it."""
        try:
            write_json(result, "The result")
        except InvalidRequest as odd:
            error = f"Agent {self.agent_id}: {odd.message}"
            return {"error": error, "requeue": True, "error_class": ErrorClass.MALFORMED.value}
        return {"result": result}

    async def _handle(self, job: Job) -> Any:
        handler = self._handlers.get(job.task_type) or self._handlers.get(None)
        if handler is None:
            raise LookupError(f"this worker has no handler for {job.task_type}")
        if inspect.iscoroutinefunction(handler):
            return await handler(job)
        result = await asyncio.get_running_loop().run_in_executor(self._threads, handler, job)
        return await result if inspect.isawaitable(result) else result

    async def _report(self, job: Job, outcome: Mapping[str, Any]) -> None:
        report = {"task_id": job.id, "agent_id": self.agent_id, "lease_token": job.lease_token, **outcome}
        try:
            async with asyncio.timeout(REPORT_S):
                taken = await self._reports.put(report)
        except (TimeoutError, ControlPlaneError) as error:
            _logger.warning("the report of task %s was given up: %s", job.id, error)
            return
        if not taken["ok"]:
            _logger.warning("the report of task %s was refused: %s", job.id, taken.get("error"))

    async def _send_reports(self, reports: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        async def send() -> Any:
            return await self._client.post("/tasks/complete", {"reports": list(reports)})

        return list((await self._patiently(send))["results"])

    async def _finish(self) -> None:
        """Lets jobs end; what does not in time goes back to the queue."""
        with contextlib.suppress(ControlPlaneError, TimeoutError):
            await asyncio.wait_for(self._patiently(self._beat), SAY_SO_S)
        running = [task for _, task in self._jobs.values()]
        if running:
            _, late = await asyncio.wait(running, timeout=self._drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._reports.drain()
