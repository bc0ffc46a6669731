"""A worker: a process that is an agent. It registers, claims tasks, runs handlers, reports, and drains when it is told to.

    from cluster.client.worker import Job, Worker

    worker = Worker("adder", capabilities=["add"], concurrency=4)

    @worker.handles("add")
    async def add(job: Job) -> int:
        return sum(job.payload["terms"])

    worker.run_forever()

A claim keeps its id until it is answered, and a report names its lease, so both can be repeated safely after a lost answer
or a restart of the control plane. So the worker repeats every call until the control plane itself takes or refuses it, and
keeps results until then.
A worker ends by a signal, or if the control plane refuses its key, its registration or what its claims say: then it can
never work. A handler may be a plain function: it runs in a thread, and ``job.cancelled`` tells it to stop. A handler that
is a coroutine function is cancelled. What a handler raises fails the attempt; ``Reject`` fails the task for good.

Handlers that are coroutine functions run on the loop of ``run`` or ``run_forever``. All calls to the control plane are made
on another loop, in a thread of its own (the *session*), so that no handler can hold them up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from cluster.client.api import (
    INVALID_BODY,
    ApiError,
    ControlPlaneClient,
    OutcomeUnknown,
    Patience,
    RetryDelays,
    Unavailable,
)
from cluster.client.emitting import Emitter
from cluster.client.job_progress import JobProgress
from cluster.client.jobs import Handler, HelperThreads, Job, LoopWatch, Reject, RunningJob, Stop, run_again_until
from cluster.client.options import check_handler, check_options
from cluster.client.outage import PASSING, Outage
from cluster.client.release import Left, release_later
from cluster.client.reports import LOST, Report, ReportQueue
from cluster.client.signals import signals_call
from cluster.client.tls import ClientTls, client_tls, default_pin, default_url
from cluster.domain.base.errors import CallerError, ControlPlaneError, NotFound
from cluster.domain.base.ids import claim_id_of, path_segment
from cluster.domain.base.urls import without_userinfo
from cluster.domain.tasks.progress import Progress
from cluster.process.loops import ended
from cluster.settings import load_settings

__all__ = ["Job", "Reject", "Worker"]

_logger = logging.getLogger(__name__)

BLOCK_MS = 20_000
HEARTBEAT_S = 10.0
DRAIN_S = 30.0
#: How long a draining worker tries to announce that it drains, and then to learn what its last claim was granted.
ANNOUNCE_S = 5.0
#: How long a draining worker still repeats reports after the time that its jobs had.
LAST_REPORTS_S = 10.0
#: How long the report of a failure waits for the job's progress to be acknowledged, which the API may hold for a second each.
LAST_PROGRESS_S = 5.0
#: A heartbeat that hangs must leave time for others before the leases are over (30 s).
HEARTBEAT_TIMEOUT_S = 10.0
#: How often the loop of the handlers is asked whether it answers, and after how long without an answer it counts as blocked.
WATCH_S = 1.0
BLOCKED_S = 5.0
#: How long an ending process waits for its loop, and for its logs and streams, which a job may hold up.
EXIT_S = 2.0
PATIENCE = Patience()
#: Kinds of calls (`cluster.client.outage`).
REGISTRATION, HEARTBEAT, CLAIM = "a registration", "a heartbeat", "a claim"
#: The member of a worker's metadata and of its heartbeats that tells the processes of one agent id apart.
PROCESS = "worker_process"
#: HTTP statuses that say that what was sent is wrong, so that it is refused whenever it is sent.
_WRONG = frozenset({400, 413, 422})
#: Members that each task in the answer to a claim must have; if one is missing, the answer is not the control plane's.
_TASK: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "task_type": str,
    "metadata": dict,
    "attempt": int,
    "timeout_seconds": (int, float),
    "lease_token": str,
}


class Worker:
    """Runs up to ``concurrency`` jobs at once and claims up to ``batch`` of them at a time. ``description`` has the other members
    of the agent's registration (``model``, ``provider``, ``tags``, ...). ``base_url``, ``api_key``, ``tls`` and
    ``workspace`` default to ARAGORA_API_URL, ARAGORA_API_KEY, ARAGORA_CLIENT_CA_FILE, _CERT_FILE and _KEY_FILE, and _WORKSPACE.
    ``patience`` says how long to wait between repeats of a call.

    Raises: `InvalidRequest` if the id or a number is none that a worker can have."""

    def __init__(
        self,
        agent_id: str | None = None,
        *,
        capabilities: Sequence[str] = (),
        concurrency: int = 10,
        batch: int = 50,
        base_url: str | None = None,
        api_key: str | None = None,
        tls: ClientTls | None = None,
        workspace: str | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        drain_s: float = DRAIN_S,
        patience: Patience = PATIENCE,
        queues: Sequence[str] = (),
        version: str | None = None,
        **description: Any,
    ) -> None:
        self.agent_id = agent_id or f"{socket.gethostname()}-{os.getpid()}"
        check_options(
            agent_id=self.agent_id, concurrency=concurrency, batch=batch, heartbeat_s=heartbeat_s, drain_s=drain_s
        )
        #: Registered with the agent, so that each process sees whether another one has registered after it. Claims and heartbeats
        #: name it too, so that this process does not renew the leases of one that was killed.
        self._process = uuid.uuid4().hex
        self._concurrency = concurrency
        self._batch = batch
        settings = load_settings()
        own_key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        self._base_url = base_url or settings.api_url or default_url(settings)
        # The API of these settings is called by its address, which need not be in its certificate.
        self._tls = tls or client_tls(
            settings, default_pin(settings) if self._base_url == default_url(settings) else None
        )
        self._api_key = api_key or own_key
        self._workspace = workspace or settings.client_workspace
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
        #: In the registration, and in each claim: while a release rolls, processes of two versions may have one id.
        self._version = {} if version is None else {"version": version}
        self._description |= self._version
        self._queues = sorted(set(queues))
        #: Task type → its handler; None for every other type.
        self._handlers: dict[str | None, Handler] = {}
        #: Jobs at hand by lease token, with the session's task that waits until the job is over and its report has an outcome.
        #: Not by task id: a task may come again in another attempt while the report of the last one is still on its way.
        self._jobs: dict[str, tuple[RunningJob, asyncio.Task[None]]] = {}
        self._draining = asyncio.Event()
        #: Set when a job ends: the claim loop waits for it while all slots are taken.
        self._slot = asyncio.Event()
        #: The body of the claim that has no answer yet; None between claims. If draining interrupts the claim, it is made
        #: once more with the same id, to learn what it was granted.
        self._unanswered: Mapping[str, Any] | None = None
        #: The loop of the handlers; cleared while it is blocked, for then nothing is claimed.
        self._handlers_loop: asyncio.AbstractEventLoop
        self._unblocked = asyncio.Event()
        self._unblocked.set()
        #: The session's loop and its main task, while it runs.
        self._session: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        #: Set by `drain` in any thread; and whether it was a signal.
        self._asked_to_drain = False
        self._signalled = False
        #: False once another process may have this agent's id: then this one does not deregister it.
        self._alone = True
        #: Reports that give back the tasks whose code could not be ended. They must not be sent while it runs.
        self._left_running: Sequence[Report] = ()
        self._client: ControlPlaneClient
        self._outage = Outage()
        self._reports = ReportQueue(self._send_reports, patience, self._outage)
        #: Why the control plane refused this worker; `run` raises it in the end.
        self._refusal: CallerError | None = None

    def handles(self, *task_types: str) -> Callable[[Handler], Handler]:
        """Registers the handler of task types. Without a type: the handler of every type that has no other.

        What it returns raises `InvalidRequest` if the handler cannot be called: it could only fail its tasks."""

        def register(handler: Handler) -> Handler:
            check_handler(handler)
            for task_type in task_types or (None,):
                self._handlers[task_type] = handler
            return handler

        return register

    def run_forever(self) -> None:
        """Runs until SIGTERM or SIGINT drains the worker. Ends the process if the code of a job still runs then: the job's task
        is not given back before nothing can work on it. Raises: as `run`."""
        _log_somewhere()
        # A job may close the stream of the log. A line that cannot be written would raise wherever it is logged.
        logging.raiseExceptions = False
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        helpers = HelperThreads()
        loop.set_default_executor(helpers)
        over, returned = threading.Event(), threading.Event()

        def stop(session: Future[None]) -> None:
            over.set()
            with contextlib.suppress(RuntimeError):  # a job has stopped the loop, and it is closed by now
                loop.call_soon_threadsafe(loop.stop)
            if self._left_running or not returned.wait(EXIT_S):
                if self._left_running:
                    release_later(
                        Left(self._base_url, self._api_key, self._left_running, asdict(self._tls), self._workspace)
                    )
                _end_process(1 if session.exception() else 0)

        try:
            with signals_call(self._drain_by_signal, f"signals-{self.agent_id}"):
                session = self._begin(loop, stop)
                run_again_until(over, loop)
                returned.set()
        finally:
            helpers.shutdown(wait=False, cancel_futures=True)
            _close(loop)
        session.result()

    def drain(self) -> None:
        """Stops claiming. ``run`` returns when the jobs at hand are done, or after ``drain_s`` and the last reports. May be
        called in any thread."""
        self._asked_to_drain = True
        if self._session is not None:
            with contextlib.suppress(RuntimeError):  # the session has just ended
                self._session[0].call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining.set()
        self._slot.set()

    async def run(self) -> None:
        """Runs until it is drained. A coroutine or a plain function that does not stop when it is told to may still run
        afterwards: then end the process, as `run_forever` does. Raises: the `CallerError` by which the control plane refused
        this worker, if it did."""
        session = asyncio.wrap_future(self._begin(asyncio.get_running_loop()))
        try:
            await asyncio.shield(session)
        except asyncio.CancelledError:
            while not session.done():
                if self._session is not None:
                    self._session[0].call_soon_threadsafe(self._session[1].cancel)
                await asyncio.wait({session}, timeout=0.2)
            session.exception()  # it was asked for, so asyncio does not log it as lost
            raise

    # --- the session ---------------------------------------------------------------------------------------------

    def _begin(
        self, handlers_loop: asyncio.AbstractEventLoop, ended: Callable[[Future[None]], None] | None = None
    ) -> Future[None]:
        """Starts the session, whose outcome is the result. Calls ``ended`` in its thread."""
        self._handlers_loop = handlers_loop
        session: Future[None] = Future()

        def live() -> None:
            _logger.info(
                "worker %s starts for the control plane at %s", self.agent_id, without_userinfo(self._base_url)
            )
            try:
                asyncio.run(self._live())
            except BaseException as error:
                session.set_exception(error)
            else:
                session.set_result(None)
            _logger.info("worker %s has ended", self.agent_id)
            if ended is not None:
                ended(session)

        threading.Thread(target=live, name=f"worker-{self.agent_id}", daemon=True).start()
        return session

    async def _live(self) -> None:
        main = asyncio.current_task()
        assert main is not None
        self._session = (asyncio.get_running_loop(), main)
        if self._asked_to_drain:
            self._drain()
        async with ControlPlaneClient(
            self._base_url, self._api_key, tls=self._tls, workspace=self._workspace
        ) as self._client:
            loops = [asyncio.create_task(work) for work in (self._heartbeats(), self._watch())]
            all_reported = False
            try:
                await self._until_drained(self._work())
                all_reported = await self._finish()
            finally:
                await ended(*loops)
                for running, _ in self._jobs.values():
                    running.stop(Stop.DRAINED)
                self._left_running = [
                    running.last_report() for running, _ in self._jobs.values() if not running.over.done()
                ]
                self._threads.shutdown(wait=False, cancel_futures=True)
            for report in self._left_running:
                _logger.error("task %s does not stop: it goes back to the queue after this process", report["task_id"])
            if all_reported and self._signalled and not self._left_running:
                await self._leave()
        if self._refusal is not None:
            raise self._refusal

    def _drain_by_signal(self) -> None:
        self._signalled = True
        self.drain()

    async def _watch(self) -> None:
        """Says once that the loop of the handlers is blocked, and that it answers again."""
        watch = LoopWatch(self._handlers_loop)
        while True:
            await asyncio.sleep(WATCH_S)
            blocked_s = watch.ask()
            if blocked_s >= BLOCKED_S and self._unblocked.is_set():
                self._unblocked.clear()
                at_work = watch.task_at_work()
                _logger.warning(
                    "the event loop of the jobs is blocked since %.0f s%s; running tasks: %s; nothing is claimed meanwhile. "
                    "A handler that blocks should be a plain function, which runs in a thread",
                    blocked_s,
                    f" by task {at_work}" if at_work else "",
                    ", ".join(running.job.id for running, _ in list(self._jobs.values())),
                )
            elif blocked_s == 0 and not self._unblocked.is_set():
                self._unblocked.set()
                _logger.warning("the event loop of the jobs answers again")

    # --- the control plane ---------------------------------------------------------------------------------------

    async def _patiently(self, kind: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeats a call until the control plane has taken or refused it."""
        delays = RetryDelays(self._patience)
        while True:
            try:
                answer = await call()
                self._outage.answered(kind)
                return answer
            except CallerError:
                self._outage.answered(kind)
                raise
            except Exception as error:
                await self._rest(kind, delays, error)

    async def _rest(self, kind: str, delays: RetryDelays, error: Exception) -> None:
        self._outage.failed(kind, error)
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
        self._drain()

    async def _call(self, path: str, body: Any = None, **options: Any) -> Any:
        try:
            return await self._client.request("POST", path, body, **options)
        except ApiError as error:
            if error.code in PASSING:
                raise Unavailable(str(error), error.code) from error
            if error.status in (401, 403):
                self._end_with(error)
            raise

    async def _work(self) -> None:
        if await self._registered():
            await self._claim_forever()

    async def _registered(self) -> bool:
        """Repeats the registration until it is taken. If it is refused, ends the worker and returns False."""
        try:
            await self._patiently(REGISTRATION, self._register)
        except CallerError as error:
            self._end_with(error)
            return False
        _logger.info("agent %s is registered", self.agent_id)
        return True

    async def _register(self) -> None:
        self._alone = self._alone and await self._is_free()
        answer = await self._call("/agents", self._registration(), has={"agent_id": str})
        if answer["agent_id"] != self.agent_id:
            raise OutcomeUnknown("What answered the registration is not the control plane.")
        if notice := answer.get("notice"):
            _logger.warning("%s", notice)

    def _registration(self) -> Mapping[str, Any]:
        metadata = self._description.get("metadata") or {}
        if not isinstance(metadata, dict):
            return self._description  # the API refuses it, with its own sentence
        return {**self._description, "metadata": {**metadata, PROCESS: self._process}}

    async def _seen(self) -> Mapping[str, Any]:
        """The agent as the control plane has it. Raises: what the client raises."""
        agent: Mapping[str, Any] = await self._client.request(
            "GET", f"/agents/{path_segment(self.agent_id)}", timeout_s=ANNOUNCE_S, has={"metadata": dict}
        )
        return agent

    async def _is_free(self) -> bool:
        """Whether no other process is alive under this agent's id, as far as the control plane shows."""
        try:
            agent = await self._seen()
        except NotFound:
            return True
        except ControlPlaneError:
            return False
        return agent.get("liveness") == "offline" or agent["metadata"].get(PROCESS) == self._process

    async def _leave(self) -> None:
        """Deregisters the agent, unless another process may have its id (it would lose its tasks), or an operator paused it
        (a new registration would end that)."""
        with contextlib.suppress(ControlPlaneError):
            agent = await self._seen()
            mine = self._alone and agent["metadata"].get(PROCESS) == self._process
            if mine and agent.get("intent_by") != "operator":
                await self._client.request("DELETE", f"/agents/{path_segment(self.agent_id)}", timeout_s=ANNOUNCE_S)
                _logger.info("agent %s is deregistered", self.agent_id)

    async def _heartbeats(self) -> None:
        """Sends heartbeats, which renew every lease and tell which jobs to stop. Ends only with the worker."""
        delays = RetryDelays(self._patience)
        pause_s = self._heartbeat_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self._heartbeat()
                self._outage.answered(HEARTBEAT)
                delays.reset()
                pause_s = self._heartbeat_s
            except Exception as error:
                if isinstance(error, NotFound):  # the control plane is there, and has forgotten the agent
                    self._outage.answered(HEARTBEAT)
                    await self._registered()
                else:
                    self._outage.failed(HEARTBEAT, error)
                # Never longer than usual, even if the server asks for it: leases end meanwhile.
                pause_s = min(self._heartbeat_s, delays.next_s(error))

    async def _heartbeat(self) -> None:
        """Sends a heartbeat, always with the status: else `draining` of an earlier process of the same id would stay."""
        status = self._status()
        answer = await self._call(
            f"/agents/{path_segment(self.agent_id)}/heartbeat",
            {"status": status, PROCESS: self._process},
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
        for running, _ in list(self._jobs.values()):
            if running.job.id == task_id:
                running.stop(Stop.CANCELLED)

    async def _claim_forever(self) -> None:
        delays = RetryDelays(self._patience)
        while not self._draining.is_set():
            await self._unblocked.wait()
            free = self._concurrency - len(self._jobs)
            if free <= 0:
                self._slot.clear()
                await self._slot.wait()
                continue
            self._unanswered = {
                "agent_id": self.agent_id,
                "max_tasks": min(free, self._batch, 100),
                "claim_id": claim_id_of(self._process, uuid.uuid4().hex),
                "block_ms": BLOCK_MS,
                **self._filter(),
            }
            self._start_all(await self._claimed(self._unanswered, delays))

    def _filter(self) -> Mapping[str, Any]:
        """The task types that have handlers, unless one is for every type (or there is none yet), and the queues and the version.
        A server that does not know a field ignores it."""
        types = [task_type for task_type in self._handlers if task_type is not None]
        named: dict[str, Any] = {"task_types": sorted(types)} if types and None not in self._handlers else {}
        return named | self._version | ({"queues": self._queues} if self._queues else {})

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
                self._outage.answered(CLAIM)
                delays.reset()
                return tasks
            except NotFound as error:  # the control plane is there, and has forgotten the agent
                self._outage.answered(CLAIM)
                if not await self._registered():
                    return ()
                await asyncio.sleep(delays.next_s(error))
            except CallerError as error:
                if _is_wrong_for_good(error):
                    self._end_with(error)
                else:
                    await self._rest(CLAIM, delays, error)
                return ()  # another claim may be taken
            except Exception as error:
                await self._rest(CLAIM, delays, error)
                body = {**body, "block_ms": 0}  # so that its answer says at once that the control plane is back

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
        progress = JobProgress(functools.partial(self._send_progress, task["id"], task["lease_token"]), self._patience)
        job = Job(
            id=task["id"],
            task_type=task["task_type"],
            payload=task["payload"],
            metadata=task["metadata"],
            attempt=task["attempt"],
            timeout_s=task["timeout_seconds"],
            lease_token=task["lease_token"],
            checkpoint=task.get("checkpoint"),
            reports=progress.put,
            emitter=Emitter(task["id"], functools.partial(self._send_chunks, task), self._patience),
        )
        running = RunningJob(job, self.agent_id)
        due = time.monotonic() + job.timeout_s
        reported = asyncio.create_task(self._until_reported(running, progress, due))
        self._jobs[job.lease_token] = (running, reported)
        reported.add_done_callback(functools.partial(self._done, job.lease_token))
        handler = self._handlers.get(job.task_type) or self._handlers.get(None)
        if handler is None:
            running.fail(LookupError(f"this worker has no handler for {job.task_type}"))
        elif inspect.iscoroutinefunction(handler):
            running.start_coroutine(functools.partial(handler, job), self._handlers_loop)
        else:
            running.start_plain(handler, self._threads, self._handlers_loop)

    def _done(self, lease_token: str, _: asyncio.Task[None]) -> None:
        self._jobs.pop(lease_token, None)
        self._slot.set()

    async def _until_reported(self, running: RunningJob, progress: JobProgress, due: float) -> None:
        """Ends when the job's report has an outcome and its code has ended. (Shielded: the futures are not ours to cancel.)"""
        report = await asyncio.shield(asyncio.wrap_future(running.report))
        if "error" in report[0]:  # the next attempt goes on from the last checkpoint
            await progress.settle(LAST_PROGRESS_S)
        await progress.close()
        if running.job.emitter is not None:
            await running.job.emitter.flush()  # after the report the lease is over
        taken = await self._reports.put(report, due)
        if not taken["ok"]:
            _logger.warning("the report of task %s was refused: %s", running.job.id, taken.get("error"))
        await asyncio.shield(asyncio.wrap_future(running.over))

    async def _send_progress(self, task_id: str, lease_token: str, progress: Progress) -> None:
        """Renews a job's lease with its progress. A job that holds the lease no more is told to stop."""
        checkpoint = None if progress.checkpoint_json is None else json.loads(progress.checkpoint_json)
        body = {
            "lease_token": lease_token,
            "percent": progress.percent,
            "message": progress.message,
            "checkpoint": checkpoint,
        }
        try:
            await self._call(f"/tasks/{path_segment(task_id)}/extend", body, has={"extended": bool})
        except CallerError as refused:
            if refused.code in LOST and lease_token in self._jobs:
                self._jobs[lease_token][0].stop(Stop.CANCELLED)
            raise

    async def _send_chunks(self, task: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        path = f"/tasks/{path_segment(task['id'])}/chunks"
        await self._call(path, {**body, "lease_token": task["lease_token"]}, has={"next": int})

    async def _send_reports(self, reports: Sequence[bytes]) -> Sequence[Mapping[str, Any]]:
        body = b'{"reports":[' + b",".join(reports) + b"]}"
        answer = await self._call("/tasks/complete", body, has={"results": list})
        results: list[Mapping[str, Any]] = answer["results"]
        if not all(isinstance(result, dict) and isinstance(result.get("ok"), bool) for result in results):
            raise OutcomeUnknown("What answered the reports is not the control plane.")
        return results

    async def _finish(self) -> bool:
        """Waits for the jobs. Those that do not end in time are told to stop; the tasks of those that do go back to the queue.
        Reports are repeated a little longer. Returns whether the control plane has taken all."""
        for kind, last in ((HEARTBEAT, self._heartbeat), (CLAIM, self._claim_last)):
            task = asyncio.create_task(self._patiently(kind, last))
            await asyncio.wait({task}, timeout=ANNOUNCE_S)
            await ended(task)
        jobs = dict(self._jobs)
        last_s = asyncio.get_running_loop().time() + self._drain_s + LAST_REPORTS_S
        if jobs:
            await asyncio.wait([reported for _, reported in jobs.values()], timeout=self._drain_s)
            late = [(running, reported) for running, reported in jobs.values() if not reported.done()]
            for running, _ in late:
                running.stop(Stop.DRAINED)
            if late:
                await asyncio.wait([reported for _, reported in late], timeout=LAST_REPORTS_S)
        left = await self._reports.drain(last_s - asyncio.get_running_loop().time())
        for task_id in left:
            _logger.error("task %s: the worker ends, and the control plane has not taken its outcome", task_id)
        return not left


def _is_wrong_for_good(error: CallerError) -> bool:
    """Whether a claim was refused for what is in it: every later one has the same task types and agent, so none can be taken. Not
    by the class of the error: 409 passes, and so may what the client itself finds wrong with files that are being replaced."""
    return error.code == INVALID_BODY or (isinstance(error, ApiError) and error.status in _WRONG)


def _is_task(value: object) -> bool:
    return (
        isinstance(value, dict)
        and "payload" in value
        and all(isinstance(value.get(name), kind) for name, kind in _TASK.items())
    )


def _log_somewhere() -> None:
    """Lets the lines of a worker be seen in a program that has not configured its logs: else a worker that waits for a control
    plane, or for tasks, looks like one that hangs. Other libraries' lines stay as they are."""
    ours = logging.getLogger("cluster")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels what jobs have left on the loop, and closes it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(BaseException):  # tasks are somebody else's code
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=EXIT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def _end_process(code: int) -> None:
    """Ends the process while code of jobs runs. The interpreter would wait for their threads. (Daemon threads were rejected: no
    thread pool of the standard library has them.) A job may hold the lock of a stream or of a log."""

    def flush() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # the reader has left; there is no stream
                stream.flush()

    last = threading.Thread(target=flush, daemon=True)
    last.start()
    last.join(EXIT_S)
    os._exit(code)
