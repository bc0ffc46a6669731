"""One deliberation in a worker, from when it was taken until it ends, waits for a person, or is lost to another worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from actors.deliberation.inbox import Inbox
from actors.deliberation.panel import PanelChooser
from actors.deliberation.people import People
from cluster.domain.base.errors import TryLater
from cluster.domain.deliberation.calls import Call, call_of, outstanding
from cluster.domain.deliberation.events import Broken, Event, Tick
from cluster.domain.deliberation.log_entries import ended_row, log_rows
from cluster.domain.deliberation.machine import step
from cluster.domain.deliberation.panel_choice import is_complete, taken_until
from cluster.domain.deliberation.person import agents_time
from cluster.domain.deliberation.plan import Record
from cluster.domain.deliberation.state import Phase, State, TurnKey
from cluster.domain.deliberation.stored import Deliberation, JournalAppend, JournalEvent
from cluster.domain.deliberation.timing import next_alarm
from cluster.ports.clock import Clock
from cluster.process.loops import ended

_logger = logging.getLogger("actors.deliberation.worker")

#: Until a deliberation is tried again after a store failed, and until an incomplete panel is chosen again.
LOOK_AGAIN_S = 1.0


class Lost(Exception):
    """Another worker has taken this deliberation."""


class Waits(Exception):
    """It waits for a person, and so for longer than a run is kept in memory."""


class OfWorker(Protocol):
    """What a run needs of its worker."""

    @property
    def clock(self) -> Clock: ...

    @property
    def panels(self) -> PanelChooser: ...

    @property
    def people(self) -> People: ...

    async def answered(self, record: Deliberation, state: State) -> Event | None:
        """What has come of the question to a person; None while it is open. Raises: ``TryLater`` if it cannot be read now."""

    async def write(self, append: JournalAppend) -> None:
        """Journals events. Raises: `Lost` if another worker took the deliberation."""

    async def ask(self, record: Deliberation, call: Call, deadline: float) -> Event:
        """Calls an agent, and returns what came of it."""


class Run:
    """One deliberation in this worker, from when it was taken until it ends, is lost to another worker, or fails."""

    def __init__(self, worker: OfWorker, record: Deliberation, state: State, inbox: Inbox) -> None:
        # Gives it the clock, panels, calls to agents, and the commit queue.
        self._worker = worker
        # The record as it was taken: ids, cause, and the fence under which this run writes. Its state and result are of
        # that moment and are not read.
        self._record = record
        # The fold of what is journalled. It is replaced only after the new events are durable, so a failed write leaves
        # it as the journal says.
        self._state = state
        # Where calls put their answers, and the worker its events.
        self._inbox = inbox
        # Calls in flight, by turn and attempt. ``_call`` starts what the state lists as outstanding, and cancels and
        # removes what the state no longer waits for. A call that has answered stays until its answer is journalled.
        self._calls: dict[tuple[TurnKey, int], asyncio.Task[None]] = {}

    async def to_the_end(self) -> None:
        """Takes events until the deliberation has ended. An unexpected error, our own kinds included, ends it as failed,
        because a retry would meet it again. Raises: ``TryLater`` if a store fails, ``Lost`` if another worker took the
        deliberation, ``Waits`` if it waits for a person."""
        try:
            while self._state.phase is not Phase.ENDED:
                await self._take_events(await self._next())
        except (TryLater, Lost, Waits, asyncio.CancelledError):
            raise
        except Exception as error:
            _logger.exception("deliberation %s is broken", self._record.request_id)
            await self._take_events([Broken(detail=f"internal error: {type(error).__name__}")])

    async def close(self) -> None:
        self._inbox.close()
        await ended(*self._calls.values())

    async def _next(self) -> list[Event]:
        """All events since the last call; waits for the first, which may be an answer, a cancellation, a panel or time."""
        state = self._state
        if self._inbox.empty() and state.phase is Phase.SCHEDULED:
            return await self._panel()
        if self._inbox.empty() and state.phase is Phase.INPUT_REQUIRED:
            answered = await self._worker.answered(self._record, state)
            if answered is None:
                raise Waits
            return [answered]
        alarm = next_alarm(state)
        if self._inbox.empty():
            await self._inbox.wait(alarm)
        return self._inbox.take_all() or [Tick()]

    async def _panel(self) -> list[Event]:
        """A panel, once it is complete or its share of the time is over. Until then other events, or a tick, after which a
        panel is chosen again."""
        state, clock = self._state, self._worker.clock
        contract = state.contract
        chosen = await self._worker.panels.choose(self._record.workspace, contract)
        give_up = taken_until(state)
        if is_complete(contract, chosen) or clock.now() >= give_up:
            return [chosen]
        alarm = min(next_alarm(state), give_up, clock.now() + LOOK_AGAIN_S)
        await self._inbox.wait(alarm)
        return self._inbox.take_all() or [Tick()]

    async def _take_events(self, events: Sequence[Event]) -> None:
        """Journals what follows from the events, then makes the calls that it announces."""
        now = self._worker.clock.now()
        records, state = step(self._state, events, now)
        if self._state.phase is Phase.INPUT_REQUIRED and state.terminal is not None and state.answered is None:
            # Before the end is journalled: whoever takes over after a kill in between finds what has asked for this end.
            await self._worker.people.withdraw(self._record, self._state)
        if records:
            await self._worker.write(self._append(records, state, now))
        self._state = state
        self._call()

    def _append(self, records: Sequence[Record], state: State, now: float) -> JournalAppend:
        events, log = [], []
        for index, (kind, data) in enumerate(records):
            events.append(JournalEvent(n=self._state.events + 1 + index, at=now, kind=kind, data=data))
            row = (
                ended_row(
                    data,
                    now - self._record.admitted_at,
                    state.contract.timeout_s,
                    agents_time(data["outcome"], self._record.admitted_at, now),
                )
                if kind == "ended"
                else log_rows(kind, data, state)
            )
            if row is not None:
                log.append((index, *row))
        ended = state.terminal is not None
        return JournalAppend(
            request_id=self._record.request_id,
            workspace=self._record.workspace,
            fence=self._record.fence,
            events=tuple(events),
            log=tuple(log),
            state=state.terminal.value if state.terminal is not None else state.phase.value,
            terminal=state.terminal.value if state.terminal is not None else None,
            result=records[-1][1]["outcome"] if ended else None,
            completed_at=now if ended else None,
            cause=self._record.cause,
        )

    def _call(self) -> None:
        """Starts every outstanding call that is not in flight here, and cancels calls that the state no longer waits for."""
        turns = self._state.turns
        for name, task in list(self._calls.items()):
            key, attempt = name
            if not turns[key].running or turns[key].attempt != attempt:
                task.cancel()
                del self._calls[name]
        for key in outstanding(self._state):
            name = (key, turns[key].attempt)
            if name not in self._calls:
                call = call_of(self._state, key)
                self._calls[name] = asyncio.create_task(self._ask(call))

    async def _ask(self, call: Call) -> None:
        self._inbox.put(await self._worker.ask(self._record, call, self._state.deadline))
