"""A deliberation worker: runs the protocol machine of many deliberations, journal first, calls afterwards.

It may be killed at any moment and is rebuilt from the journals. Calls whose answers are journalled are not made again;
calls that were announced and not answered are made again under the same keys. The fence of a deliberation keeps a
predecessor that is still alive from writing.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.agents.traced_calls import deliberation_span
from actors.deliberation.inbox import Inbox
from actors.deliberation.panel import PanelChooser
from actors.deliberation.people import AskShard, People
from actors.deliberation.run import LOOK_AGAIN_S, Lost, Run, Waits
from cluster.domain.access.workspaces import StateChange, WorkspaceState
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.base.errors import ControlPlaneError, PeerError, TryLater
from cluster.domain.base.log import LogRow, Origin, record_for
from cluster.domain.deliberation.calls import Call
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.events import Answered, CancelAsked, Event, Faulted, Taken
from cluster.domain.deliberation.fold import fold
from cluster.domain.deliberation.state import State
from cluster.domain.deliberation.stored import Deliberation, JournalAppend, TakenDeliberation
from cluster.domain.tasks.task import TaskStatus
from cluster.domain.workflows.stored import is_of_run
from cluster.log.follower import LogFollower
from cluster.ports.access import WorkspaceStates
from cluster.ports.agents import AgentStore
from cluster.ports.clock import Clock
from cluster.ports.deliberations import DeliberationStore
from cluster.ports.log import Log, LogFilter
from cluster.ports.outcomes import WeightSource
from cluster.ports.tasks import TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process import spans
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal, ended, unwatched
from cluster.process.traces import traced

_logger = logging.getLogger(__name__)

#: Deliberations that run at a time. The others wait, each as a task that holds nothing yet. One that waits for a person does not
#: run: it is taken again when it is answered.
AT_ONCE = 4096
#: Between two reads of the log, so that admissions of a busy moment are taken together.
APART_S = 0.01
#: What a worker reads of the log. Its own rows, some thirty times as many, would be read for nothing.
_FOLLOWS = ("deliberation.admitted", "deliberation.cancel_requested", "access.workspace_changed")
#: A call may last this much longer than the deliberation, so that the deadline ends it and not the call's timeout.
CALL_GRACE_S = 0.5

#: Hands a call to the host that owns the agent. Raises: ``PeerError`` if the agent fails, ``TryLater`` if it cannot be asked now.
CallAgent = Callable[[AgentCall], Awaitable[Reply]]


class DeliberationWorker:
    """Worker ``index`` of ``workers``: a deliberation belongs to the worker that its id hashes to."""

    def __init__(
        self,
        *,
        name: str,
        index: int,
        workers: int,
        store: DeliberationStore,
        agents: AgentStore,
        tasks: TaskStore,
        workspaces: WorkspaceStates,
        weights: WeightSource,
        log: Log,
        doorbell: Doorbell,
        clock: Clock,
        call_agent: CallAgent,
        shard: AskShard,
        region: str,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        # Names this process as the owner of what it takes.
        self._name = name
        # Its share: ids whose hash modulo ``_workers`` is ``_index``. A restart keeps the share, another number of workers
        # changes it; the fence settles who writes in between.
        self._index = index
        self._workers = workers
        # The truth: records and journals.
        self._store = store
        # Where it learns of admissions and cancellations; the doorbell makes that quick.
        self._log = log
        self._doorbell = doorbell
        # Reaches an agent through the host that owns it.
        self._call_agent = call_agent
        # Journal entries of all runs on their way to the store. A run waits for its own before it calls anybody.
        self._commit_queue: GroupCommit[JournalAppend, bool] = GroupCommit(self._append)
        # Ids to take. Each take raises a fence, and those of one moment go into one transaction.
        self._takes: GroupCommit[str, TakenDeliberation | None] = GroupCommit(self._take)
        # One task per deliberation, by request id, from ``_begin`` to its end, also while it waits for the gate. An id that
        # is in here is not begun again, so no deliberation has two runs in this process.
        self._runs: dict[str, asyncio.Task[None]] = {}
        # By request id, while a run tries. An inbox is there before the record is taken, so that a cancellation that the
        # record does not show yet finds it.
        self._inboxes: dict[str, Inbox] = {}
        # Workspaces that are suspended or deleted, as the log has it. ``start`` reads them, ``_apply`` keeps them.
        self._states = workspaces
        self._closed: dict[str, StateChange] = {}
        # Set, and replaced by a new event, whenever ``_closed`` changes: it wakes the calls that wait for it.
        self._opened = asyncio.Event()
        # By request id, while a run tries: the record as it was taken.
        self._records: dict[str, Deliberation] = {}
        # Bounds the deliberations that run at a time.
        self._gate = asyncio.Semaphore(AT_ONCE)
        # The log follower. If it fails, ``on_fatal`` gives the process up.
        self._loops = Loops(on_fatal)
        # The time of every journal event, and what chooses panels: the runs use both.
        self.clock = clock
        self.panels = PanelChooser(agents, weights)
        # Asks people, and learns of their answers.
        self.people = People(tasks=tasks, doorbell=doorbell, clock=clock, shard=shard, region=region)

    async def start(self) -> None:
        # The cursor is read before the open deliberations are, so that none is admitted unseen between the two.
        head = await self._log.head()
        follower = LogFollower(
            self._log,
            self._doorbell,
            self.clock,
            after=head,
            apply=self._apply,
            only=LogFilter(kinds=_FOLLOWS),
            topics=(WakeTopic.DELIBERATIONS, WakeTopic.ACCESS),
            apart_s=APART_S,
        )
        self._closed = dict(await self._states.closed())
        for request_id, _ in await self._store.open():
            self._begin(request_id)
        self._loops.start(follower.run())
        self._loops.start(self.people.run())

    async def stop(self) -> None:
        await self._loops.stop()
        await ended(*self._runs.values())

    async def status(self) -> dict[str, Any]:
        return {"running": len(self._runs)}

    async def _append(self, items: Sequence[JournalAppend]) -> Sequence[bool]:
        done = await self._store.append(items)
        ends_step = any(item.terminal is not None and is_of_run(item.request_id) for item in items)
        await self._doorbell.notify(WakeTopic.DELIBERATIONS, *((WakeTopic.WORKFLOWS,) if ends_step else ()))
        return done

    async def _take(self, request_ids: Sequence[str]) -> Sequence[TakenDeliberation | None]:
        return await self._store.take(request_ids, self._name)

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        for row in rows:
            if row.kind == "deliberation.admitted":
                self._begin(row.entity)
            elif row.kind == "deliberation.cancel_requested" and row.entity in self._inboxes:
                self._inboxes[row.entity].put(CancelAsked())
            elif row.kind == "access.workspace_changed":
                await self._state_changed(row)

    async def _state_changed(self, row: LogRow) -> None:
        """Lets the calls of a workspace go on that was resumed, and cancels the deliberations of one that was deleted."""
        change = self._closed[row.entity] = StateChange.of(row)
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()
        if change.state is WorkspaceState.DELETED:
            for record in [each for each in self._records.values() if each.workspace == row.entity]:
                await self._cancel(record, change)

    async def _cancel(self, record: Deliberation, deletion: StateChange) -> None:
        """Cancels a deliberation of a deleted workspace. Its run learns of it from the row that this writes.

        Raises: `StoreUnavailable`."""
        origin = Origin(workspace=record.workspace, principal=deletion.principal, cause=deletion.cause)
        row = record_for(origin, self.clock.now(), "deliberation.cancel_requested", record.request_id)
        await self._store.cancel(record.workspace, record.request_id, row)
        await self._doorbell.notify(WakeTopic.DELIBERATIONS)

    def _state_of(self, workspace: str) -> WorkspaceState:
        change = self._closed.get(workspace)
        return WorkspaceState.ACTIVE if change is None else change.state

    async def _resumed(self, workspace: str) -> None:
        """Returns when a workspace is not suspended."""
        while self._state_of(workspace) is WorkspaceState.SUSPENDED:
            await self._opened.wait()

    def _begin(self, request_id: str) -> None:
        if zlib.crc32(request_id.encode()) % self._workers != self._index or request_id in self._runs:
            return
        task = asyncio.create_task(self._run(request_id))
        self._runs[request_id] = task
        task.add_done_callback(lambda _: self._runs.pop(request_id, None))

    async def _run(self, request_id: str) -> None:
        """Runs a deliberation to its end. If a store fails, it is taken again: the state is read back and tried again. So it is
        when a person, for whom it waited, has answered."""
        while True:
            try:
                async with self._gate:
                    waits = await self._take_and_run(request_id)
                if not waits:
                    return
                inbox = self._inboxes[request_id]
                async with self.people.awaited(self._records[request_id], inbox.wake):
                    await inbox.woken()
            except Lost:
                return
            except TryLater as error:
                _logger.warning("deliberation %s will be tried again: %s", request_id, error)
                await self.clock.sleep(LOOK_AGAIN_S)
            finally:
                self._inboxes.pop(request_id, None)
                self._records.pop(request_id, None)

    async def _take_and_run(self, request_id: str) -> bool:
        """Returns whether it waits for a person. Raises: `TryLater`, ``Lost``."""
        inbox = Inbox(self.clock)
        self._inboxes[request_id] = inbox
        taken = await self._takes.put(request_id)
        if taken is None:
            return False
        record = self._records[request_id] = taken.deliberation
        try:
            contract = Contract.from_json(record.contract)
            state = fold(request_id, contract, record.admitted_at, taken.journal, record.contract_digest)
        except Exception:
            # It is left as it is: what this version cannot read, another one may. An end would be for good.
            _logger.exception("deliberation %s cannot be read", request_id)
            return False
        inbox.put(Taken(again=state.events > 0))
        if record.cancel_requested:
            inbox.put(CancelAsked())
        elif self._state_of(record.workspace) is WorkspaceState.DELETED:
            await self._cancel(record, self._closed[record.workspace])
        run = Run(self, record, state, inbox)
        with traced(record.cause) if spans.tracer is None else deliberation_span(request_id, record.cause):
            _logger.info("deliberation %s is run %s", request_id, "again" if state.events else "from its beginning")
            try:
                await run.to_the_end()
                _logger.info("deliberation %s has ended", request_id)
            except Waits:
                _logger.info("deliberation %s waits for a person", request_id)
                return True
            finally:
                await run.close()
        return False

    async def answered(self, record: Deliberation, state: State) -> Event | None:
        """What has come of the question to a person; None while it is open. With a workspace its questions are cancelled, which
        is no answer.

        Raises: `TryLater` if it cannot be read now."""
        given = await self.people.answer(record, state)
        if given is not None and given.detail == TaskStatus.CANCELLED:
            change = (await self._states.closed()).get(record.workspace)
            if change is not None and change.state is WorkspaceState.DELETED:
                return CancelAsked()
        return given

    async def write(self, append: JournalAppend) -> None:
        """Journals events and returns when they are durable. Raises: ``Lost`` if another worker took the deliberation."""
        if not await self._commit_queue.put(append):
            raise Lost

    async def ask(self, record: Deliberation, call: Call, deadline: float) -> Event:
        """Calls an agent, as soon as the workspace is not suspended, and returns what came of it. A failure is an event too, so
        nothing is raised."""
        await self._resumed(record.workspace)
        where: dict[str, Any] = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        where["round"] = call.round
        started = self.clock.now()
        try:
            reply = await self._call_agent(
                AgentCall(
                    workspace=record.workspace,
                    agent_id=call.agent_id,
                    messages=call.messages,
                    schema=call.schema,
                    max_tokens=call.max_tokens,
                    timeout_s=max(0.1, deadline - started) + CALL_GRACE_S,
                    key=call.key,
                    cause=record.cause,
                )
            )
        except PeerError as error:
            return Faulted(**where, fault=error.fault, detail=error.message)
        except ControlPlaneError as error:
            return Faulted(**where, fault="http", detail=error.message)
        except Exception as error:
            _logger.exception("calling agent %s failed", call.agent_id)
            return Faulted(**where, fault="http", detail=f"internal error: {type(error).__name__}")
        return Answered(
            **where,
            text=reply.text,
            tokens=reply.tokens,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            estimated=reply.estimated,
            seconds=self.clock.now() - started,
        )
