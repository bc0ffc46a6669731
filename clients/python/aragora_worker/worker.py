"""A worker: a process that is an agent. It registers, claims tasks, runs handlers, reports, and drains when it is told to.

    from aragora_worker import Job, Worker

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
on another loop, in a thread of its own (`aragora_worker.session`), so that no handler can hold them up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.urls import without_userinfo
from aragora_worker.jobs import Handler, HelperThreads, Job, Reject, run_again_until
from aragora_worker.options import check_handler, check_options
from aragora_worker.process import EXIT_S, close_loop, end_process, log_somewhere
from aragora_worker.release import Left, release_later
from aragora_worker.repeating import Patience
from aragora_worker.session import Session
from aragora_worker.settings import load_client_settings
from aragora_worker.signals import signals_call
from aragora_worker.tls import ClientTls, client_tls, default_pin, default_url

__all__ = ["Job", "Reject", "Worker"]

_logger = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
DRAIN_S = 30.0
PATIENCE = Patience()


class Worker:
    """Runs up to ``concurrency`` jobs at once and claims up to ``batch`` of them at a time. ``description`` has the other members
    of the agent's registration (``model``, ``provider``, ``tags``, ...). ``base_url``, ``api_key``, ``tls`` and
    ``workspace`` default to ARAGORA_API_URL, ARAGORA_API_KEY, ARAGORA_CLIENT_CA_FILE, _CERT_FILE and _KEY_FILE, and _WORKSPACE;
    ``other_urls``, where the other regions answer, to ARAGORA_API_URLS.
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
        other_urls: Sequence[str] | None = None,
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
        settings = load_client_settings()
        self._base_url = base_url or settings.api_url or default_url(settings)
        # The API of these settings is called by its address, which need not be in its certificate.
        self._tls = tls or client_tls(
            settings, default_pin(settings) if self._base_url == default_url(settings) else None
        )
        self._api_key = api_key or settings.api_key
        self._workspace = workspace or settings.client_workspace
        self._other_urls = tuple(settings.api_urls if other_urls is None else other_urls)
        #: Task type → its handler; None for every other type.
        self._handlers: dict[str | None, Handler] = {}
        #: In the registration, and in each claim: while a release rolls, processes of two versions may have one id.
        announced = {} if version is None else {"version": version}
        registration = {
            "agent_id": self.agent_id,
            "capabilities": list(capabilities),
            "max_concurrency": concurrency,
            **description,
            **announced,
        }
        self._session = Session(
            registration,
            handlers=self._handlers,
            concurrency=concurrency,
            batch=batch,
            heartbeat_s=heartbeat_s,
            drain_s=drain_s,
            patience=patience,
            narrowed=announced | ({"queues": sorted(set(queues))} if queues else {}),
        )

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
        log_somewhere()
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
            left = self._session.left_running
            if left or not returned.wait(EXIT_S):
                if left:
                    whom = asdict(self._tls), self._workspace, self._other_urls
                    release_later(Left(self._base_url, self._api_key, left, *whom))
                end_process(1 if session.exception() else 0)

        try:
            with signals_call(lambda: self._session.drain(signalled=True), f"signals-{self.agent_id}"):
                session = self._begin(loop, stop)
                run_again_until(over, loop)
                returned.set()
        finally:
            helpers.shutdown(wait=False, cancel_futures=True)
            close_loop(loop)
        session.result()

    def drain(self) -> None:
        """Stops claiming. ``run`` returns when the jobs at hand are done, or after ``drain_s`` and the last reports. May be
        called in any thread."""
        self._session.drain()

    async def run(self) -> None:
        """Runs until it is drained. A coroutine or a plain function that does not stop when it is told to may still run
        afterwards: then end the process, as `run_forever` does. Raises: the `CallerError` by which the control plane refused
        this worker, if it did."""
        session = asyncio.wrap_future(self._begin(asyncio.get_running_loop()))
        try:
            await asyncio.shield(session)
        except asyncio.CancelledError:
            while not session.done():
                self._session.cancel()
                await asyncio.wait({session}, timeout=0.2)
            session.exception()  # it was asked for, so asyncio does not log it as lost
            raise

    def _begin(
        self, handlers_loop: asyncio.AbstractEventLoop, ended: Callable[[Future[None]], None] | None = None
    ) -> Future[None]:
        """Starts the session, whose outcome is the result. Calls ``ended`` in its thread."""
        outcome: Future[None] = Future()

        async def session() -> None:
            client = ControlPlaneClient(
                self._base_url, self._api_key, tls=self._tls, workspace=self._workspace, other_urls=self._other_urls
            )
            await self._session.run(client, handlers_loop)

        def live() -> None:
            _logger.info(
                "worker %s starts for the control plane at %s", self.agent_id, without_userinfo(self._base_url)
            )
            try:
                asyncio.run(session())
            except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is awaited
                outcome.set_exception(error)
            else:
                outcome.set_result(None)
            _logger.info("worker %s has ended", self.agent_id)
            if ended is not None:
                ended(outcome)

        threading.Thread(target=live, name=f"worker-{self.agent_id}", daemon=True).start()
        return outcome
