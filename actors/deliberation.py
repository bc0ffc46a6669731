"""A deliberation worker: runs the protocol machine of many deliberations, journal first, calls afterwards.

Killed at any moment it is rebuilt from the journals: what is journalled is never asked again, what was announced and not
answered is asked again under the same key. The worker's fence keeps a predecessor that is still alive from writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.messages import AgentCall, AgentReply
from cluster.domain.agents import Agent, TransportKind
from cluster.domain.deliberation import machine
from cluster.domain.deliberation.contract import DEFAULT_CAPABILITIES, PANEL_CAPABILITIES, Contract
from cluster.domain.deliberation.machine import (
    Answered,
    Call,
    CancelAsked,
    DeadlineReached,
    Faulted,
    Happening,
    Member,
    PanelChosen,
    Phase,
    State,
)
from cluster.domain.deliberation.wire import ended_row, log_rows
from cluster.domain.deliberations import Deliberation, JournalAppend, JournalEvent
from cluster.domain.errors import ControlPlaneError, Fenced, PeerError, TryLater
from cluster.domain.log import LogRow
from cluster.follower import LogFollower
from cluster.group_commit import GroupCommit
from cluster.ports import AgentStore, Clock, DeliberationStore, Doorbell, Log, LogFilter

_logger = logging.getLogger(__name__)

AT_ONCE = 1000
LOOK_AGAIN_S = 1.0
#: Time that is kept back for writing the end.
RESERVE_S = 0.5

#: Hands a call to the host that carries the agent; raises PeerError or TryLater.
CallAgent = Callable[[AgentCall], Awaitable[AgentReply]]


class _Lost(Exception):
    """Another worker has taken this deliberation."""


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
        log: Log,
        doorbell: Doorbell,
        clock: Clock,
        call_agent: CallAgent,
    ) -> None:
        self._name = name
        self._index = index
        self._workers = workers
        self._store = store
        self._agents = agents
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._call_agent = call_agent
        self._lane: GroupCommit[JournalAppend, bool] = GroupCommit(self._append)
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._inboxes: dict[str, asyncio.Queue[Happening]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        head = await self._log.head()
        follower = LogFollower(
            self._log,
            self._doorbell,
            self._clock,
            after=head,
            apply=self._apply,
            only=LogFilter(kind_prefix="deliberation."),
        )
        for request_id, _ in await self._store.open():
            self._begin(request_id)
        self._loops = [asyncio.create_task(follower.run())]

    async def stop(self) -> None:
        tasks = [*self._loops, *self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def status(self) -> dict[str, Any]:
        return {"running": len(self._runs)}

    async def _append(self, items: Sequence[JournalAppend]) -> Sequence[bool]:
        done = await self._store.append(items)
        await self._doorbell.ring()
        return done

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        for row in rows:
            if row.kind == "deliberation.admitted":
                self._begin(row.entity)
            elif row.kind == "deliberation.cancel_requested" and row.entity in self._inboxes:
                self._inboxes[row.entity].put_nowait(CancelAsked())

    def _begin(self, request_id: str) -> None:
        if zlib.crc32(request_id.encode()) % self._workers != self._index or request_id in self._runs:
            return
        task = asyncio.create_task(self._run(request_id))
        self._runs[request_id] = task
        task.add_done_callback(lambda _: self._runs.pop(request_id, None))

    async def _run(self, request_id: str) -> None:
        """To the end, over restarts of the stores: what could not be written is read and tried again."""
        async with self._gate:
            while True:
                try:
                    await self._take_and_run(request_id)
                    return
                except _Lost:
                    return
                except (TryLater, Fenced) as error:
                    _logger.warning("deliberation %s has to wait: %s", request_id, error)
                    await self._clock.sleep(LOOK_AGAIN_S)
                except ControlPlaneError as error:
                    _logger.error("deliberation %s cannot be run: %s", request_id, error)
                    return
                finally:
                    self._inboxes.pop(request_id, None)

    async def _take_and_run(self, request_id: str) -> None:
        inbox: asyncio.Queue[Happening] = asyncio.Queue()
        self._inboxes[request_id] = inbox
        fence = await self._store.take(request_id, self._name)
        one = await self._store.get_any(request_id)
        if fence is None or one is None:
            return
        journal = await self._store.journal(request_id)
        state = machine.fold(request_id, Contract.from_json(one.contract), one.admitted_at, journal)
        if one.cancel_requested:
            inbox.put_nowait(CancelAsked())
        run = _Run(self, one, fence, state, inbox)
        try:
            await run.to_the_end()
        finally:
            await run.close()

    async def write(self, append: JournalAppend) -> None:
        """Raises _Lost when another worker holds the deliberation now."""
        if not await self._lane.put(append):
            raise _Lost

    async def choose_panel(self, workspace: str, contract: Contract) -> PanelChosen:
        """Ready agents that can be called: the named ones, else all with what is required, least loaded first."""
        agents = await self._agents.list(workspace)
        able = [agent for agent in agents if agent.transport is not TransportKind.PULL and agent.takes_work]
        if contract.agents:
            chosen = [agent for agent in able if agent.agent_id in contract.agents]
            absent = sorted(set(contract.agents) - {agent.agent_id for agent in chosen})
            missing = f"agents not available: {', '.join(absent)}" if absent else ""
        else:
            chosen = [agent for agent in able if _suits(agent, contract.required_capabilities)]
            missing = f"agents with {', '.join(contract.required_capabilities) or 'any capability'}"
        chosen.sort(key=lambda agent: (len(agent.running_task_ids), agent.agent_id))
        members = tuple(_member(agent) for agent in chosen[: contract.max_agents])
        return PanelChosen(members=members, missing=missing)

    async def ask(self, workspace: str, call: Call, deadline: float) -> Happening:
        where: dict[str, Any] = {"agent_id": call.agent_id, "phase": call.phase, "attempt": call.attempt}
        try:
            reply = await self._call_agent(
                AgentCall(
                    workspace=workspace,
                    agent_id=call.agent_id,
                    messages=call.messages,
                    schema=call.schema,
                    max_tokens=call.max_tokens,
                    timeout_s=max(0.1, deadline - self._clock.now()),
                    key=call.key,
                )
            )
        except PeerError as error:
            return Faulted(**where, fault=error.fault, detail=error.message)
        except TryLater as error:
            return Faulted(**where, fault="http", detail=error.message)
        return Answered(**where, text=reply.text, tokens=reply.tokens)

    @property
    def clock(self) -> Clock:
        return self._clock


class _Run:
    """One deliberation in this worker."""

    def __init__(
        self, worker: DeliberationWorker, one: Deliberation, fence: int, state: State, inbox: asyncio.Queue[Happening]
    ) -> None:
        self._worker = worker
        self._one = one
        self._fence = fence
        self._state = state
        self._inbox = inbox
        self._calls: dict[str, asyncio.Task[None]] = {}

    async def to_the_end(self) -> None:
        self._call()
        while self._state.phase is not Phase.ENDED:
            await self._happened(await self._next())

    async def close(self) -> None:
        for task in self._calls.values():
            task.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    async def _next(self) -> Happening:
        """What comes next: an answer, a cancel, a chosen panel, the deadline."""
        clock, state = self._worker.clock, self._state
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        if clock.now() >= state.deadline - RESERVE_S:
            return DeadlineReached()
        if state.phase is Phase.ADMITTED:
            chosen = await self._worker.choose_panel(self._one.workspace, state.contract)
            wanted = len(state.contract.agents) or state.contract.min_votes
            if len(chosen.members) >= wanted or clock.now() >= state.phase_deadline():
                return chosen
        limit = LOOK_AGAIN_S if state.phase is Phase.ADMITTED else state.deadline - RESERVE_S - clock.now()
        return await self._inbox_or(limit)

    async def _inbox_or(self, limit_s: float) -> Happening:
        getter = asyncio.ensure_future(self._inbox.get())
        sleeper = asyncio.ensure_future(self._worker.clock.sleep(limit_s))
        try:
            await asyncio.wait({getter, sleeper}, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                return getter.result()
        finally:
            for task in (getter, sleeper):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return await self._next()

    async def _happened(self, happening: Happening) -> None:
        records, state = machine.plan(self._state, happening)
        if records:
            await self._worker.write(self._append(records, state))
        self._state = state
        self._call()

    def _append(self, records: Sequence[machine.Record], state: State) -> JournalAppend:
        now = self._worker.clock.now()
        events, log = [], []
        for place, (kind, data) in enumerate(records):
            events.append(JournalEvent(n=self._state.events + 1 + place, at=now, kind=kind, data=data))
            row = (
                ended_row(data, now - self._one.admitted_at, state.contract.timeout_s)
                if kind == "ended"
                else log_rows(kind, data)
            )
            if row is not None:
                log.append((place, *row))
        ended = state.terminal is not None
        return JournalAppend(
            request_id=self._one.request_id,
            workspace=self._one.workspace,
            fence=self._fence,
            events=tuple(events),
            log=tuple(log),
            state=state.terminal.value if state.terminal is not None else state.phase.value,
            terminal=state.terminal.value if state.terminal is not None else None,
            result=records[-1][1]["outcome"] if ended else None,
            completed_at=now if ended else None,
        )

    def _call(self) -> None:
        """Starts every announced call that is not under way in this process."""
        if self._state.phase is Phase.ENDED:
            return
        deadline = min(self._state.phase_deadline(), self._state.deadline - RESERVE_S)
        for call in machine.outstanding(self._state):
            if call.key not in self._calls:
                self._calls[call.key] = asyncio.create_task(self._ask(call, deadline))

    async def _ask(self, call: Call, deadline: float) -> None:
        self._inbox.put_nowait(await self._worker.ask(self._one.workspace, call, deadline))


def _suits(agent: Agent, required: Sequence[str]) -> bool:
    """The released client's default asks for ``deliberation``; an agent for debates will do as well."""
    if tuple(required) == DEFAULT_CAPABILITIES:
        return bool(PANEL_CAPABILITIES & set(agent.capabilities))
    return set(required) <= set(agent.capabilities)


def _member(agent: Agent) -> Member:
    persona = agent.metadata.get("persona")
    return Member(
        agent_id=agent.agent_id,
        model=agent.model,
        provider=agent.provider,
        persona=persona if isinstance(persona, str) else "",
    )
