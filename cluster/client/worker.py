"""A worker: a process that is an agent. It registers, claims tasks, runs handlers, reports, and drains when it is told to.

    from cluster.client.worker import Job, Worker

    worker = Worker("adder", capabilities=["add"], concurrency=4)

    @worker.handles("add")
    async def add(job: Job) -> int:
        return sum(job.payload["terms"])

    worker.run_forever()

A claim keeps its id until it is answered, and a report names its lease, so both can be repeated safely after a lost answer
or a restart of the control plane. So the worker repeats every call until the control plane itself takes or refuses it, and
keeps results until then. A worker ends by a signal, or if the control plane refuses its key or its registration: then it
can never work. A handler may be a plain function: it runs in a thread, and ``job.cancelled`` tells it to stop. A handler
that is a coroutine function is cancelled. What a handler raises fails the attempt; ``Reject`` fails the task for good.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cluster.client.api import ApiError, ControlPlaneClient, OutcomeUnknown, Patience, RetryDelays
from cluster.client.reports import ReportQueue
from cluster.domain.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_json, shown_error, shown_words
from cluster.domain.tasks.retries import ErrorClass
from cluster.process.loops import ended
from cluster.settings import load_settings

_logger = logging.getLogger(__name__)

BLOCK_MS = 20_000
HEARTBEAT_S = 10.0
DRAIN_S = 30.0
#: How long a draining worker tries to announce that it drains, and then to learn what its last claim was granted.
ANNOUNCE_S = 5.0
#: How long a draining worker still repeats reports after the time that its jobs had.
LAST_REPORTS_S = 10.0
#: A heartbeat that hangs must leave time for others before the leases are over (30 s).
HEARTBEAT_TIMEOUT_S = 10.0
INTERRUPTED = "the worker was stopped before it was done"
PATIENCE = Patience()
#: Members that each task in the answer to a claim must have; if one is missing, the answer is not the control plane's.
_TASK: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "task_type": str,
    "metadata": dict,
    "attempt": int,
    "timeout_seconds": (int, float),
    "lease_token": str,
}


class Reject(Exception):
    """Raised by a handler: this task can never succeed, so it is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed task. If ``cancelled`` is set, the job should stop, because nobody waits for its result any more."""

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
    """Runs up to ``concurrency`` jobs at once and claims up to ``batch`` of them at a time. ``description`` has the other members
    of the agent's registration (``model``, ``provider``, ``tags``, ...). ``base_url`` and ``api_key`` default to
    ARAGORA_API_URL and ARAGORA_API_KEY. ``patience`` says how long to wait between repeats of a call."""

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
        patience: Patience = PATIENCE,
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
        self._patience = patience
        self._description = {
            "agent_id": self.agent_id,
            "capabilities": list(capabilities),
            "max_concurrency": concurrency,
            **description,
        }
        #: Task type → its handler; None for every other type.
        self._handlers: dict[str | None, Handler] = {}
        #: Jobs at hand by lease token, with the task that runs each until its report has an outcome. Not by task id: a task
        #: may come again in another attempt while the report of the last one is still on its way.
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._draining = asyncio.Event()
        #: Set when a job ends: the claim loop waits for it while all slots are taken.
        self._slot = asyncio.Event()
        #: The body of the claim that has no answer yet; None between claims. If draining interrupts the claim, it is made
        #: once more with the same id, to learn what it was granted.
        self._unanswered: Mapping[str, Any] | None = None
        #: Lease tokens of the plain functions that run in a thread now.
        self._in_threads: set[str] = set()
        self._client: ControlPlaneClient
        self._reports = ReportQueue(self._send_reports, patience)
        #: Why the control plane refused this worker; `run` raises it in the end.
        self._refusal: CallerError | None = None

    def handles(self, *task_types: str) -> Callable[[Handler], Handler]:
        """Registers the handler of task types. Without a type: the handler of every type that has no other."""

        def register(handler: Handler) -> Handler:
            for task_type in task_types or (None,):
                self._handlers[task_type] = handler
            return handler

        return register

    def run_forever(self) -> None:
        """Runs until SIGTERM or SIGINT drains the worker. Raises: as `run`."""
        asyncio.run(self.run(signals=True))

    def drain(self) -> None:
        """Stops claiming. ``run`` returns when the jobs at hand are done, or after ``drain_s`` and the last reports."""
        self._draining.set()
        self._slot.set()

    async def run(self, *, signals: bool = False) -> None:
        """Runs until it is drained. Raises: the `CallerError` by which the control plane refused this worker, if it did."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
            loop.add_signal_handler(number, self.drain)
        async with ControlPlaneClient(self._base_url, self._api_key) as self._client:
            heart = asyncio.create_task(self._heartbeats())
            try:
                await self._until_drained(self._work())
                await self._finish()
            finally:
                await ended(heart)
                self._threads.shutdown(wait=False, cancel_futures=True)
                for number in (signal.SIGTERM, signal.SIGINT) if signals else ():
                    loop.remove_signal_handler(number)
        if self._refusal is not None:
            raise self._refusal

    # --- the control plane ---------------------------------------------------------------------------------------

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeats a call until the control plane has taken or refused it."""
        delays = RetryDelays(self._patience)
        while True:
            try:
                return await call()
            except CallerError:
                raise
            except Exception as error:
                await self._rest(delays, error)

    async def _rest(self, delays: RetryDelays, error: Exception) -> None:
        if isinstance(error, ControlPlaneError):
            _logger.info("the control plane is away, will try again: %s", error)
        else:
            _logger.error("a call failed unexpectedly, will try again", exc_info=error)
        await asyncio.sleep(delays.next_s(error))

    async def _until_drained(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work until it ends or the worker drains."""
        task = asyncio.ensure_future(work)
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await ended(task, draining)

    def _end_with(self, refusal: CallerError) -> None:
        """Drains the worker, because it can never work; ``run`` then raises the refusal."""
        if self._refusal is None:
            _logger.error("the control plane refuses this worker: %s", refusal)
            self._refusal = refusal
        self.drain()

    async def _call(self, path: str, body: Any = None, **options: Any) -> Any:
        try:
            return await self._client.request("POST", path, body, **options)
        except ApiError as error:
            if error.status in (401, 403):
                self._end_with(error)
            raise

    async def _work(self) -> None:
        if await self._registered():
            await self._claim_forever()

    async def _registered(self) -> bool:
        """Repeats the registration until it is taken. If it is refused, ends the worker and returns False."""
        try:
            await self._patiently(self._register)
        except CallerError as error:
            self._end_with(error)
            return False
        _logger.info("agent %s is registered", self.agent_id)
        return True

    async def _register(self) -> None:
        answer = await self._call("/agents", self._description, has={"agent_id": str})
        if answer["agent_id"] != self.agent_id:
            raise OutcomeUnknown("What answered the registration is not the control plane.")
        if notice := answer.get("notice"):
            _logger.warning("%s", notice)

    async def _heartbeats(self) -> None:
        """Sends heartbeats, which renew every lease and tell which jobs to stop. Ends only with the worker."""
        delays = RetryDelays(self._patience)
        pause_s = self._heartbeat_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self._heartbeat()
                delays.reset()
                pause_s = self._heartbeat_s
            except Exception as error:
                if isinstance(error, NotFound):
                    await self._registered()
                _logger.info("a heartbeat was not taken: %s", error)
                # Never longer than usual, even if the server asks for it: leases end meanwhile.
                pause_s = min(self._heartbeat_s, delays.next_s(error))

    async def _heartbeat(self) -> None:
        """Sends a heartbeat, always with the status: else `draining` of an earlier process of the same id would stay."""
        status = self._status()
        answer = await self._call(
            f"/agents/{self.agent_id}/heartbeat",
            {"status": status},
            timeout_s=HEARTBEAT_TIMEOUT_S,
            has={"acknowledged": bool, "cancelling": list},
        )
        for task_id in answer["cancelling"]:
            self._cancel_job(str(task_id))
        if self._status() != status:
            await self._heartbeat()  # the server may have taken this one after one with the newer status

    def _status(self) -> str:
        return "draining" if self._draining.is_set() else "ready"

    def _cancel_job(self, task_id: str) -> None:
        for job, running in list(self._jobs.values()):
            if job.id == task_id:
                job.cancelled.set()
                running.cancel()

    async def _claim_forever(self) -> None:
        delays = RetryDelays(self._patience)
        while not self._draining.is_set():
            free = self._concurrency - len(self._jobs)
            if free <= 0:
                self._slot.clear()
                await self._slot.wait()
                continue
            self._unanswered = {
                "agent_id": self.agent_id,
                "max_tasks": min(free, self._batch, 100),
                "claim_id": f"claim-{uuid.uuid4().hex}",
                "block_ms": BLOCK_MS,
            }
            self._start_all(await self._claimed(self._unanswered, delays))

    def _start_all(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Starts the tasks of a claim. Only then does the claim count as answered: draining may cancel this worker's loop
        while it has the answer in hand."""
        for task in tasks:
            self._start(task)
        self._unanswered = None

    async def _claim_last(self) -> None:
        """Repeats the claim that draining interrupted, since nobody would work on its leases until they end."""
        if self._unanswered is not None:
            last = {**self._unanswered, "block_ms": 0}
            self._start_all(await self._claim(last))

    async def _claimed(self, body: Mapping[str, Any], delays: RetryDelays) -> Sequence[Mapping[str, Any]]:
        """Repeats a claim under one id until it is answered: if the answer was lost, it is given again."""
        while True:
            try:
                tasks = await self._claim(body)
                delays.reset()
                return tasks
            except NotFound as error:
                if not await self._registered():
                    return ()
                await self._rest(delays, error)
            except CallerError as error:
                await self._rest(delays, error)
                return ()  # another claim may be taken
            except Exception as error:
                await self._rest(delays, error)

    async def _claim(self, body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        answer = await self._call("/tasks/claim", body, timeout_s=BLOCK_MS / 1000 + 10, has={"tasks": list})
        tasks: list[Mapping[str, Any]] = answer["tasks"]
        if not all(_is_task(task) for task in tasks):
            raise OutcomeUnknown("What answered the claim is not the control plane.")
        return tasks

    # --- jobs ----------------------------------------------------------------------------------------------------

    def _start(self, task: Mapping[str, Any]) -> None:
        if task["lease_token"] in self._jobs:
            return
        self._cancel_job(task["id"])  # an earlier attempt of the task has lost its lease
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
        self._jobs[job.lease_token] = (job, running)
        running.add_done_callback(functools.partial(self._done, job.lease_token))

    def _done(self, lease_token: str, _: asyncio.Task[None]) -> None:
        self._jobs.pop(lease_token, None)
        self._slot.set()

    async def _run(self, job: Job) -> None:
        outcome: dict[str, Any]
        try:
            outcome = self._outcome(await self._handle(job))
        except Reject as error:
            outcome = {"error": shown_words(error, MAX_ERROR_CHARS) or "rejected", "requeue": False}
        except BaseException as error:  # a handler that exits has failed, the worker has not
            outcome = self._failure(job, error)
        await self._report(job, outcome)

    def _failure(self, job: Job, error: BaseException) -> dict[str, Any]:
        task = asyncio.current_task()
        # A CancelledError without a cancellation comes from something that the handler has cancelled itself.
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            reason = "cancelled" if job.cancelled.is_set() else INTERRUPTED
            return {"error": reason, "requeue": not job.cancelled.is_set()}
        _logger.warning("task %s failed", job.id, exc_info=error)
        return {"error": shown_error(error, MAX_ERROR_CHARS), "requeue": True}

    def _outcome(self, result: Any) -> dict[str, Any]:
        """Checks a result before it is reported: one that cannot be sent would fail the whole batch of reports."""
        try:
            check_json(result, "The result")
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
        result = await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, handler, job)
        return await result if inspect.isawaitable(result) else result

    def _in_thread(self, handler: Handler, job: Job) -> Any:
        self._in_threads.add(job.lease_token)
        try:
            return handler(job)
        except StopIteration as error:  # asyncio's futures cannot hold it: the job would never end
            raise RuntimeError(f"the handler let {type(error).__name__} out") from error
        finally:
            self._in_threads.discard(job.lease_token)

    @property
    def has_threads(self) -> bool:
        """Whether a plain function still runs. The interpreter waits for it before it exits, even after ``run``."""
        return bool(self._in_threads)

    async def _report(self, job: Job, outcome: Mapping[str, Any]) -> None:
        report = {"task_id": job.id, "agent_id": self.agent_id, "lease_token": job.lease_token, **outcome}
        taken = await self._reports.put(report)
        if not taken["ok"]:
            _logger.warning("the report of task %s was refused: %s", job.id, taken.get("error"))

    async def _send_reports(self, reports: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        body = b'{"reports":[' + b",".join(reports) + b"]}"
        answer = await self._call("/tasks/complete", body, has={"results": list})
        results: list[Mapping[str, Any]] = answer["results"]
        if not all(isinstance(result, dict) and isinstance(result.get("ok"), bool) for result in results):
            raise OutcomeUnknown("What answered the reports is not the control plane.")
        return results

    async def _finish(self) -> None:
        """Waits for the jobs. Those that do not end in time are cancelled, and their tasks go back to the queue. Reports are
        repeated a little longer."""
        for last in (self._heartbeat, self._claim_last):
            task = asyncio.create_task(self._patiently(last))
            await asyncio.wait({task}, timeout=ANNOUNCE_S)
            await ended(task)
        running = [task for _, task in self._jobs.values()]
        last_s = asyncio.get_running_loop().time() + self._drain_s + LAST_REPORTS_S
        if running:
            _, late = await asyncio.wait(running, timeout=self._drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=LAST_REPORTS_S)
        for task_id in await self._reports.drain(last_s - asyncio.get_running_loop().time()):
            _logger.error("task %s: the worker ends, and the control plane has not taken its outcome", task_id)


def _is_task(value: object) -> bool:
    return (
        isinstance(value, dict)
        and "payload" in value
        and all(isinstance(value.get(name), kind) for name, kind in _TASK.items())
    )
