"""One standing, batched conversation between a process and an actor.

A remote call costs about a millisecond of CPU whatever it carries, so callers inside a process share a few calls:
requests that arrive while calls are in flight go out together, and answers come back together over whichever call is
parked at the actor. A request that has to wait (a claim with a long poll) waits here, in a table of the actor, and
not as a call of its own in its mailbox.

Every request must be repeatable: when the actor dies, the client sends what is unanswered again to its successor.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError, Overloaded
from cluster.ports.clock import Clock

#: Calls of one caller that may be in flight; the actor releases the oldest when this many have arrived.
CALLS_IN_FLIGHT = 3
PARK_S = 3.0
#: An actor that starts again does so within this time also on a slow and crowded machine.
HOLD_S = 10.0
#: How long an actor that is there may take over an answer, beyond what its absence is waited for.
ANSWER_S = 10.0
CLOSE_S = 1.0
CLOSE_TRIES = 50


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeCall:
    """``requests`` pairs a correlation number with a request; ``withdrawn`` are numbers nobody waits for any more."""

    caller: str
    requests: tuple[tuple[int, Any], ...] = ()
    withdrawn: tuple[int, ...] = ()


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeReply:
    """Answers by correlation number; an answer that is a ControlPlaneError is raised at the caller. ``session`` changes
    when the actor had forgotten the caller: what it had been asked before is then unknown to it."""

    answers: tuple[tuple[int, Any], ...] = ()
    session: int = 0


@dataclass(slots=True)
class _Caller:
    session: int
    outbox: list[tuple[int, Any]] = field(default_factory=list)
    parked: deque[asyncio.Future[None]] = field(default_factory=deque)
    last_seen: float = 0.0
    wake_scheduled: bool = False


class ExchangeServer:
    """The actor's half. ``handle(caller, requests)`` starts requests, ``answer`` ends each, in any order.

    ``withdraw(caller, number)`` must lead to an answer too (an empty one, or the one already on its way).
    ``undeliverable`` gets the answers that a caller never took, because it was forgotten.
    """

    def __init__(
        self,
        handle: Callable[[str, Sequence[tuple[int, Any]]], None],
        withdraw: Callable[[str, int], None],
        clock: Clock,
        undeliverable: Callable[[Any], None] = lambda answer: None,
    ) -> None:
        self._handle = handle
        self._withdraw = withdraw
        self._clock = clock
        self._undeliverable = undeliverable
        self._callers: dict[str, _Caller] = {}
        self._sessions = itertools.count(1)

    async def call(self, call: ExchangeCall) -> ExchangeReply:
        caller = self._callers.get(call.caller)
        if caller is None:
            caller = self._callers[call.caller] = _Caller(next(self._sessions))
        caller.last_seen = self._clock.now()
        for number in call.withdrawn:
            self._withdraw(call.caller, number)
        if call.requests:
            self._handle(call.caller, call.requests)
        if not caller.outbox:
            await self._park(caller)
        caller.last_seen = self._clock.now()
        answers, caller.outbox = caller.outbox, []
        return ExchangeReply(answers=tuple(answers), session=caller.session)

    async def _park(self, caller: _Caller) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller.parked.append(future)
        if len(caller.parked) >= CALLS_IN_FLIGHT:
            _release(caller.parked.popleft())
        timer = asyncio.get_running_loop().call_later(PARK_S, _release, future)
        try:
            await future
        finally:
            timer.cancel()
            caller.last_seen = self._clock.now()
            if future in caller.parked:
                caller.parked.remove(future)

    def answer(self, caller_id: str, number: int, answer: Any) -> None:
        caller = self._callers.get(caller_id)
        if caller is None:
            self._undeliverable(answer)
            return
        caller.outbox.append((number, answer))
        if not caller.wake_scheduled:
            # Next turn of the loop: the answers of one commit leave together.
            caller.wake_scheduled = True
            asyncio.get_running_loop().call_soon(self._wake, caller)

    def _wake(self, caller: _Caller) -> None:
        caller.wake_scheduled = False
        caller.last_seen = self._clock.now()  # its call has not gone on yet
        while caller.parked:
            future = caller.parked.popleft()
            if not future.done():
                future.set_result(None)
                return

    def expired(self, silent_s: float) -> list[str]:
        """Callers without a parked call for ``silent_s``: forgotten; the owner withdraws what they waited for."""
        limit = self._clock.now() - silent_s
        expired = [name for name, caller in self._callers.items() if not caller.parked and caller.last_seen < limit]
        for name in expired:
            for _, answer in self._callers.pop(name).outbox:
                self._undeliverable(answer)
        return expired


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class ExchangeClient:
    """The caller's half. ``call`` raises ActorUnavailable while the actor is away; requests are then held and repeated.

    ``hold_s`` bounds how long a request outlives the actor, ``max_held`` how many new ones are held while it is away;
    ``late_reply(answer)`` gets an answer that no asker will see: it had gone, or had an answer already.
    """

    def __init__(
        self,
        caller: str,
        call: Callable[[ExchangeCall], Awaitable[ExchangeReply]],
        *,
        clock: Clock,
        hold_s: float = HOLD_S,
        max_waiting: int = 20_000,
        max_held: int = 1000,
        max_batch: int = 1000,
        late_reply: Callable[[Any], None] = lambda answer: None,
    ) -> None:
        self._caller = caller
        self._call = call
        self._clock = clock
        self._hold_s = hold_s
        self._max_waiting = max_waiting
        self._max_held = max_held
        self._impatient = 0
        self._session: int | None = None
        self._in_flight: dict[asyncio.Task[None], Sequence[int]] = {}
        self._max_batch = max_batch
        self._late_reply = late_reply
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Any, asyncio.Future[Any], bool]] = {}
        self._given_up: set[int] = set()
        self._unsent: deque[int] = deque()
        self._withdrawn: list[int] = []
        self._away_since: float | None = None
        self._closed = False

    async def request(self, request: Any, *, long_poll: bool = False) -> Any:
        """The actor's answer. ``long_poll`` requests (long polls) are bounded by their asker, not by ``hold_s``."""
        if self._closed or len(self._waiting) >= self._max_waiting:
            raise Overloaded("Too many requests are waiting; try again in a moment.")
        if not long_poll and self._holds_no_more():
            self._pump()
            raise ActorUnavailable("The actor behind this call is restarting; try again in a moment.")
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (request, future, long_poll)
        self._unsent.append(number)
        self._pump()
        self._impatient += not long_poll
        try:
            # Not wait_for, which makes a second future and a callback for each of what may be thousands a second.
            async with asyncio.timeout(None if long_poll else self._hold_s + ANSWER_S):
                answer = await future
        except TimeoutError:
            self._give_up(number, future)
            raise ActorUnavailable("The actor behind this call did not answer in time; try again.") from None
        except asyncio.CancelledError:
            self._give_up(number, future)
            raise
        finally:
            self._impatient -= not long_poll
        if isinstance(answer, ControlPlaneError):
            raise answer
        return answer

    @property
    def away(self) -> bool:
        """The last that was heard is that the actor is away: what has not been answered may not be known to it."""
        return self._away_since is not None

    def _holds_no_more(self) -> bool:
        """The actor has been away for too long, or too many wait for it already."""
        if self._away_since is None:
            return False
        return self._impatient >= self._max_held or self._clock.now() - self._away_since > self._hold_s

    def _give_up(self, number: int, future: asyncio.Future[Any]) -> None:
        """An answer that came in the very moment in which its asker went is an orphan like one that comes later."""
        if future.done() and not future.cancelled() and future.exception() is None:
            self._late_reply(future.result())
        if self._waiting.pop(number, None) is None or self._closed:
            return
        if number in self._unsent:
            self._unsent.remove(number)
            return
        self._given_up.add(number)
        self._withdrawn.append(number)
        self._pump()

    def _pump(self) -> None:
        """Keeps a call in flight while anything is unanswered, also what nobody waits for any more: a lease may be on its
        way. And one more for what has not been sent yet."""
        if self._closed or (self._away_since is not None and self._in_flight):
            return
        unanswered = bool(self._waiting or self._given_up)
        needs_call = bool(self._unsent or self._withdrawn) or (unanswered and not self._in_flight)
        if needs_call and len(self._in_flight) < CALLS_IN_FLIGHT:
            batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), self._max_batch))]
            withdrawn, self._withdrawn = self._withdrawn, []
            task = asyncio.get_running_loop().create_task(self._one_call(batch, withdrawn))
            self._in_flight[task] = batch
            task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if not task.cancelled():  # who cancels it ends this client too
            self._pump()

    async def _one_call(self, batch: list[int], withdrawn: list[int]) -> None:
        requests = tuple((n, self._waiting[n][0]) for n in batch if n in self._waiting)
        try:
            reply = await self._call(ExchangeCall(caller=self._caller, requests=requests, withdrawn=tuple(withdrawn)))
        except ActorUnavailable as error:
            # It may be the connection that was lost and not the actor, which then still has what was withdrawn here.
            self._withdrawn += withdrawn
            self._given_up.clear()
            self._session = None
            await self._actor_away(error, list(self._waiting))
            return
        away = {number: answer for number, answer in reply.answers if isinstance(answer, ActorUnavailable)}
        for number, answer in reply.answers:
            if number not in away:
                self._deliver(number, answer)
        self._notice(reply.session)
        if away:  # the actor is there, but has lost its state
            await self._actor_away(next(iter(away.values())), [number for number in away if number in self._waiting])
        else:
            self._away_since = None

    def _notice(self, session: int) -> None:
        """An actor that had forgotten this caller (it seemed dead) is asked again what it no longer knows of."""
        before, self._session = self._session, session
        if before is not None and before != session:
            known = {number for batch in self._in_flight.values() for number in batch}
            lost = (number for number in self._waiting if number not in known)
            self._unsent = deque(sorted({*self._unsent, *lost}))

    def _deliver(self, number: int, answer: Any) -> None:
        self._given_up.discard(number)
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(answer)
        else:
            self._late_reply(answer)

    async def _actor_away(self, error: ActorUnavailable, numbers: Sequence[int]) -> None:
        """What it will not answer any more goes out again; what has been held too long fails."""
        now = self._clock.now()
        if self._away_since is None:
            self._away_since = now
        held_too_long = now - self._away_since > self._hold_s
        await self._clock.sleep(0.05 if not held_too_long else 0.5)
        if held_too_long:
            self._fail_impatient(error)
        self._unsent = deque(sorted({*self._unsent, *(n for n in numbers if n in self._waiting)}))

    def _fail_impatient(self, error: ActorUnavailable) -> None:
        for number, (_, future, long_poll) in list(self._waiting.items()):
            if not long_poll and not future.done():
                del self._waiting[number]
                future.set_exception(error)

    async def close(self) -> None:
        """What has been withdrawn is withdrawn at the actor too, which would else grant it to nobody; and what came all
        the same is given back: a request of its own, which the orphan's keeper makes a turn later."""
        for _ in range(CLOSE_TRIES):
            if not self._given_up:
                await asyncio.sleep(0)
                if not self._impatient:
                    break
            await asyncio.sleep(CLOSE_S / CLOSE_TRIES)
        self._closed = True
        calls = list(self._in_flight)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for _, future, _ in self._waiting.values():
            future.cancel()
