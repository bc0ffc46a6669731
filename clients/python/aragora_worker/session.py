"""A worker's session: all its calls to the control plane, on a loop of their own, which no handler can hold up.

It registers the agent, sends heartbeats, claims while there is room for jobs, watches the handlers' loop, and drains in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.errors import CallerError, NotFound
from aragora_worker.base.ids import path_segment
from aragora_worker.calls import ANNOUNCE_S, CLAIM, HEARTBEAT, PROCESS, WorkerCalls
from aragora_worker.claims import Claims
from aragora_worker.jobs import Handler, LoopWatch
from aragora_worker.jobs_at_hand import JobsAtHand
from aragora_worker.registration import Registration
from aragora_worker.repeating import Patience, RetryDelays
from aragora_worker.reports import Report
from aragora_worker.tasks import ended

_logger = logging.getLogger(__name__)

#: A heartbeat that hangs must leave time for others before the leases are over (30 s).
HEARTBEAT_TIMEOUT_S = 10.0
#: How often the loop of the handlers is asked whether it answers, and after how long without an answer it counts as blocked.
WATCH_S = 1.0
BLOCKED_S = 5.0
#: The most tasks of one claim.
_CLAIM_TASKS = 100


class Session:
    """``description`` is the agent's registration. All methods but `drain` run on the session's loop."""

    def __init__(
        self,
        description: dict[str, Any],
        *,
        handlers: Mapping[str | None, Handler],
        concurrency: int,
        batch: int,
        heartbeat_s: float,
        drain_s: float,
        patience: Patience,
        narrowed: Mapping[str, Any],
    ) -> None:
        self._handlers = handlers
        self._batch = batch
        self._heartbeat_s = heartbeat_s
        self._drain_s = drain_s
        #: Members of each claim.
        self._always_narrowed = narrowed
        self._calls = WorkerCalls(patience, self._end_with)
        self.registration = Registration(description, self._calls)
        self.jobs = JobsAtHand(self.registration.agent_id, concurrency, handlers, self._calls)
        self._claims = Claims(self._calls, self.registration, self._narrowed, self.jobs.start_all)
        self.draining = asyncio.Event()
        #: Cleared while the handlers' loop is blocked, for then nothing is claimed.
        self._unblocked = asyncio.Event()
        self._unblocked.set()
        #: The loop and the main task, while it runs.
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        #: Set by `drain` in any thread; and whether it was a signal.
        self._asked_to_drain = False
        self._signalled = False
        #: Why the control plane refused this worker; `run` raises it in the end.
        self._refusal: CallerError | None = None
        #: Reports that give back the tasks whose code could not be ended.
        self.left_running: Sequence[Report] = ()

    def drain(self, *, signalled: bool = False) -> None:
        """Makes `run` end when the jobs at hand are done, or their time is over. May be called in any thread."""
        self._signalled = self._signalled or signalled
        self._asked_to_drain = True
        if self._running is not None:
            with contextlib.suppress(RuntimeError):  # the session has just ended
                self._running[0].call_soon_threadsafe(self._drain)

    def cancel(self) -> None:
        """Ends `run` at once. May be called in any thread."""
        if self._running is not None:
            with contextlib.suppress(RuntimeError):  # the session has just ended
                self._running[0].call_soon_threadsafe(self._running[1].cancel)

    async def run(self, client: ControlPlaneClient, handlers_loop: asyncio.AbstractEventLoop) -> None:
        """Works until it is drained. Raises: the `CallerError` by which the control plane refused this worker, if it did."""
        main = asyncio.current_task()
        assert main is not None
        self._running = (asyncio.get_running_loop(), main)
        self.jobs.handlers_loop = handlers_loop
        if self._asked_to_drain:
            self._drain()
        async with client as self._calls.client:
            loops = [asyncio.create_task(work) for work in (self._heartbeats(), self._watch(handlers_loop))]
            all_reported = False
            try:
                await self._until_drained(self._work())
                all_reported = await self._finish()
            finally:
                await ended(*loops)
                self.left_running = self.jobs.abandon()
            if all_reported and self._signalled and not self.left_running:
                await self.registration.leave()
        if self._refusal is not None:
            raise self._refusal

    def _drain(self) -> None:
        self.draining.set()

    def _end_with(self, refusal: CallerError) -> None:
        """Drains the worker, because it can never work; `run` then raises the refusal."""
        if self._refusal is None:
            _logger.error("the control plane refuses this worker: %s", refusal)
            self._refusal = refusal
        self._drain()

    async def _until_drained(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work until it ends or the worker drains."""
        task = asyncio.ensure_future(work)
        draining = asyncio.ensure_future(self.draining.wait())
        try:
            await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await ended(task, draining)

    async def _work(self) -> None:
        if not await self.registration.registered():
            return
        while not self.draining.is_set():
            await self._unblocked.wait()
            if self.jobs.free > 0:
                await self._claims.claim(min(self.jobs.free, self._batch, _CLAIM_TASKS))
            else:
                await self.jobs.job_ended()

    def _narrowed(self) -> Mapping[str, Any]:
        """The task types that have handlers, unless one is for every type (or there is none yet), and the queues and the version.
        A server that does not know a field ignores it."""
        types = [task_type for task_type in self._handlers if task_type is not None]
        named: dict[str, Any] = {"task_types": sorted(types)} if types and None not in self._handlers else {}
        return {**named, **self._always_narrowed}

    async def _finish(self) -> bool:
        """Announces that it drains, and works to the end. Returns whether the control plane has taken all reports."""
        for kind, last in ((HEARTBEAT, self._heartbeat), (CLAIM, self._claims.claim_last)):
            task = asyncio.create_task(self._calls.patiently(kind, last))
            await asyncio.wait({task}, timeout=ANNOUNCE_S)
            await ended(task)
        return await self.jobs.finish(self._drain_s)

    async def _heartbeats(self) -> None:
        """Sends heartbeats, which renew every lease and tell which jobs to stop. Ends only with the worker."""
        delays = RetryDelays(self._calls.patience)
        outage = self._calls.outage
        pause_s = self._heartbeat_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self._heartbeat()
                outage.answered(HEARTBEAT)
                delays.reset()
                pause_s = self._heartbeat_s
            except Exception as error:  # noqa: BLE001 - heartbeats go on whatever one of them met
                if isinstance(error, NotFound):  # the control plane is there, and has forgotten the agent
                    outage.answered(HEARTBEAT)
                    await self.registration.registered()
                else:
                    outage.failed(HEARTBEAT, error)
                # Never longer than usual, even if the server asks for it: leases end meanwhile.
                pause_s = min(self._heartbeat_s, delays.next_s(error))

    async def _heartbeat(self) -> None:
        """Sends a heartbeat, always with the status: else `draining` of an earlier process of the same id would stay."""
        status = self._status()
        answer = await self._calls.post(
            f"/agents/{path_segment(self.registration.agent_id)}/heartbeat",
            {"status": status, PROCESS: self.registration.process},
            timeout_s=HEARTBEAT_TIMEOUT_S,
            has={"acknowledged": bool, "cancelling": list},
        )
        for task_id in answer["cancelling"]:
            self.jobs.cancel(str(task_id))
        if self._status() != status:
            await self._heartbeat()  # the server may have taken this one after one with the newer status

    def _status(self) -> str:
        return "draining" if self.draining.is_set() else "ready"

    async def _watch(self, handlers_loop: asyncio.AbstractEventLoop) -> None:
        """Says once that the loop of the handlers is blocked, and that it answers again."""
        watch = LoopWatch(handlers_loop)
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
                    ", ".join(self.jobs.task_ids),
                )
            elif blocked_s == 0 and not self._unblocked.is_set():
                self._unblocked.set()
                _logger.warning("the event loop of the jobs answers again")
