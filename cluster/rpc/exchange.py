"""The exchange: a multiplexed long poll between a process and an actor.

A remote call costs about a millisecond of CPU, however much it carries. So the callers inside a process share a few
calls: requests that arrive while calls are in flight are sent together, and answers return together on whichever call
is parked at the actor. A request that has to wait (a claim with a long poll) waits in a table of the actor. As a call of
its own it would occupy the actor's mailbox for as long as it waits.

Every request must be repeatable: if the actor dies, the client sends all unanswered requests again to its successor.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError, Overloaded, TryLater
from cluster.ports.clock import Clock
from cluster.process import spans
from cluster.process.traces import untraced

_logger = logging.getLogger(__name__)

#: Calls of one caller that may be in flight. When this many are parked, the actor returns the oldest of them, so that
#: the caller can always start one for new requests.
CALLS_IN_FLIGHT = 3
#: How long a call stays parked at the actor when there is no answer for it.
PARK_S = 3.0
#: How long requests are held while the actor is away. It restarts sooner, even on a slow and crowded machine.
HOLD_S = 10.0
#: How long it is believed that an actor is away if no call fails any more.
STALE_S = 1.0
#: How much longer than it is held for a request waits for its answer.
ANSWER_S = 10.0
#: How long `close` waits at most for the actor to confirm withdrawals, and in how many steps.
CLOSE_S = 1.0
CLOSE_TRIES = 50


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeCall:
    """``requests`` are pairs of a correlation number and a request; ``withdrawn`` are numbers whose asker gave up.

    ``session`` is the one that the caller knows; None if it knows none."""

    caller: str
    requests: tuple[tuple[int, Any], ...] = ()
    withdrawn: tuple[int, ...] = ()
    session: int | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCall:
    """A call whose requests have spans: ``headers`` are pairs of a correlation number and the ``traceparent`` of its asker.

    A message of its own, so that a call without spans is as it always was, whichever version takes it."""

    call: ExchangeCall
    headers: tuple[tuple[int, str], ...]


#: What an exchange sends to its actor.
SentCall = ExchangeCall | TracedCall


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeReply:
    """Answers by correlation number; an answer that is a ControlPlaneError is raised at its asker. ``session`` changes
    if the actor had forgotten the caller, or another process plays it now: the caller's earlier requests are then unknown
    to it."""

    answers: tuple[tuple[int, Any], ...] = ()
    session: int = 0


@dataclass(slots=True)
class _Caller:
    """What the actor knows of one caller, from its first call until it is forgotten."""

    #: The number of this acquaintance. A caller that was forgotten gets another one, and so learns that it was.
    session: int
    #: (number, answer) pairs that no call has taken yet. `answer` adds them; the next call that returns takes them all.
    outbox: list[tuple[int, Any]] = field(default_factory=list)
    #: Calls that wait for an answer, the oldest first, fewer than CALLS_IN_FLIGHT. `_park` adds a call, and its future,
    #: once resolved, ends it. It is removed when it is woken, at the latest when it returns.
    parked: deque[asyncio.Future[None]] = field(default_factory=deque)
    #: When a call of the caller last arrived, was woken or returned. Decides nothing while a call is parked.
    last_seen: float = 0.0
    #: Whether `_wake` is already scheduled: once is enough for all the answers of one commit.
    wake_scheduled: bool = False


class ExchangeServer:
    """The actor's side. ``handle(caller, requests)`` starts requests; ``answer`` ends each of them, in any order.

    ``withdraw(caller, number)`` must lead to an answer too (an empty one, or the one that is already on its way), because
    the client keeps asking until it has one. ``undeliverable`` receives the answers to a caller that was forgotten.
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
        #: Callers by name. `call` adds one at its first call; `expired` removes those that fell silent.
        self._callers: dict[str, _Caller] = {}
        #: Numbers of sessions. None is used twice, by another process neither: a caller always notices that it was forgotten,
        #: or that its calls reach a successor while the predecessor, which has its requests, still answers some.
        self._sessions = itertools.count(int.from_bytes(os.urandom(7), "big"))
        #: The spans of requests that have no answer yet, by (caller, number). `_handle_traced` adds one, `answer` ends it.
        self._spans: dict[tuple[str, int], spans.Span] = {}

    async def call(self, call: SentCall) -> ExchangeReply:
        """Takes a caller's requests and withdrawals, and returns all of its answers that are ready.

        If none is ready, the call is parked: it then returns after ``PARK_S`` at the latest, perhaps without an answer. It is not
        parked if the caller expects another session, so that it sends again at once what this one does not know."""
        headers: tuple[tuple[int, str], ...] = ()
        if isinstance(call, TracedCall):
            headers, call = call.headers, call.call
        caller = self._callers.get(call.caller)
        if caller is None:
            caller = self._callers[call.caller] = _Caller(next(self._sessions))
        caller.last_seen = self._clock.now()
        for number in call.withdrawn:
            self._withdraw(call.caller, number)
        if call.requests and headers and spans.tracer is not None:
            self._handle_traced(call, dict(headers), spans.tracer)
        elif call.requests:
            self._handle(call.caller, call.requests)
        if not caller.outbox and call.session in (None, caller.session):
            await self._park(caller)
        caller.last_seen = self._clock.now()
        answers, caller.outbox = caller.outbox, []
        return ExchangeReply(answers=tuple(answers), session=caller.session)

    def _handle_traced(self, call: ExchangeCall, headers: dict[int, str], tracer: spans.Tracer) -> None:
        """Starts requests one by one, each within a span of its own. One that is sent again replaces its span."""
        for number, request in call.requests:
            header = headers.get(number, "")
            if not header:
                self._handle(call.caller, ((number, request),))
                continue
            self._end_span(call.caller, number, "sent_again")
            name = type(request).__name__
            span = tracer.start(
                name, spans.Kind.SERVER, {"rpc.system.name": "aragora", "rpc.method": name}, parent=header
            )
            self._spans[call.caller, number] = span
            with spans.within(span.header):
                self._handle(call.caller, ((number, request),))

    def _end_span(self, caller: str, number: int, error: str) -> None:
        span = self._spans.pop((caller, number), None)
        if span is not None:
            span.end(error)

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
        """Ends a request. The answer leaves with the caller's next call that returns."""
        if self._spans:
            self._end_span(caller_id, number, answer.code if isinstance(answer, ControlPlaneError) else "")
        caller = self._callers.get(caller_id)
        if caller is None:
            self._undeliverable(answer)
            return
        caller.outbox.append((number, answer))
        if not caller.wake_scheduled:
            # In the next iteration of the event loop, so that all answers of one commit leave together.
            caller.wake_scheduled = True
            asyncio.get_running_loop().call_soon(self._wake, caller)

    def _wake(self, caller: _Caller) -> None:
        caller.wake_scheduled = False
        caller.last_seen = self._clock.now()  # the call goes on later, and is not parked until then
        while caller.parked:
            future = caller.parked.popleft()
            if not future.done():
                future.set_result(None)
                return

    def expired(self, silent_s: float) -> list[str]:
        """Forgets the callers that have had no parked call for ``silent_s``, and returns their names.

        The owner has to withdraw their requests."""
        limit = self._clock.now() - silent_s
        expired = [name for name, caller in self._callers.items() if not caller.parked and caller.last_seen < limit]
        for name in expired:
            for _, answer in self._callers.pop(name).outbox:
                self._undeliverable(answer)
        return expired


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _unavailable(error: Exception, callee: str) -> TryLater:
    """What kept a call from the actor: its own words if trying later helps (the actor's name is looked up in the database, which
    may be away too). Anything else is a bug, is logged, and loses no request either."""
    if isinstance(error, TryLater):
        return error
    _logger.error("a call to an actor failed", exc_info=error)
    return ActorUnavailable(f"{callee} cannot be called; try again in a moment.")


def _move(waiting: _Asked) -> None:
    """Lets a request wait for the successor of an actor that died. One that has timed out is past moving."""
    if not waiting.long_poll and not waiting.future.done() and not waiting.bound.expired():
        waiting.bound.reschedule(waiting.latest)


@dataclass(slots=True)
class _Asked:
    """A request that waits for its answer."""

    request: Any
    future: asyncio.Future[Any]
    #: Ends the wait, but for a long poll. It is moved once, if the actor is found dead meanwhile.
    bound: asyncio.Timeout
    #: The latest moment to which the bound is moved, by the clock of the event loop.
    latest: float
    #: The ``traceparent`` of the asker's span; empty if it has none.
    header: str = ""

    @property
    def long_poll(self) -> bool:
        return self.bound.when() is None


class ExchangeClient:
    """The caller's side. ``call`` raises `TryLater` while the actor cannot be reached; requests are then held and sent again.

    ``hold_s`` bounds how long requests are held for a successor of an actor that died, and ``answer_s`` how much longer they
    wait for its answer. An actor that runs, and is late or has lost its state, has ``running_s`` (by default as long in all):
    what it waits for may be away for long. While the actor is away, a new request is refused if ``max_held`` others without a
    long poll wait already. ``late_reply(answer)`` receives an answer whose asker gave up or was answered before.
    ``callee`` is what errors call the actor.
    """

    def __init__(
        self,
        caller: str,
        call: Callable[[SentCall], Awaitable[ExchangeReply]],
        *,
        clock: Clock,
        hold_s: float = HOLD_S,
        answer_s: float = ANSWER_S,
        running_s: float | None = None,
        max_waiting: int = 20_000,
        max_held: int = 1000,
        max_batch: int = 1000,
        late_reply: Callable[[Any], None] = lambda answer: None,
        callee: str = "The scheduler",
    ) -> None:
        self._caller = caller
        self._call = call
        self._clock = clock
        self._hold_s = hold_s
        self._answer_s = answer_s
        self._running_s = running_s
        self._max_waiting = max_waiting
        self._max_held = max_held
        self._max_batch = max_batch
        self._late_reply = late_reply
        self._callee = callee
        #: How many requests without a long poll have an asker that waits now. Only `request` counts them up and down.
        self._bounded = 0
        #: The session of the last reply; None before the first one and after a call that failed. Another value in a reply
        #: means that the actor had forgotten this caller.
        self._session: int | None = None
        #: Calls under way, at most CALLS_IN_FLIGHT, each with the numbers of the requests that it took along. `_pump` adds
        #: one, and `_call_ended` removes it.
        self._in_flight: dict[asyncio.Task[None], Sequence[int]] = {}
        #: Correlation numbers. They rise, so sorting by number restores the order of the requests.
        self._numbers = itertools.count(1)
        #: Unanswered requests by number. `request` adds one. An answer removes it, and so does an asker that gives up or that
        #: was held for too long.
        self._waiting: dict[int, _Asked] = {}
        #: Requests that were sent and whose asker gave up: never in ``_waiting`` too. `_give_up` adds a number, its answer
        #: removes it. A call that fails empties the set, since an actor that died answers none of them.
        self._given_up: set[int] = set()
        #: Requests that have to be sent, in order. `request` adds them, `_pump` takes them, and `_give_up` removes one in
        #: between. What a lost or restarted actor no longer knows is put back.
        self._unsent: deque[int] = deque()
        #: Numbers that the next call withdraws. `_give_up` adds them, `_pump` takes them all, a call that fails puts its
        #: own back.
        self._withdrawn: list[int] = []
        #: When the actor was first found to be away; None as soon as a call is answered by an actor that has its state, or
        #: when nobody has tried for so long that the actor may well be back.
        self._away_since: float | None = None
        #: When the actor was last found to be away. While a request waits, a call tries at least every 0.5 s.
        self._away_at = 0.0
        #: Whether the actor was found dead since it is away. Means nothing while ``_away_since`` is None.
        self._dead = False
        #: Set by `close`, for good: no request is accepted and no call is started any more.
        self._closed = False

    async def request(self, request: Any, *, long_poll: bool = False) -> Any:
        """Returns the actor's answer. A ``long_poll`` request waits for as long as its asker does.

        Raises: the ControlPlaneError that the actor answered; `Overloaded` if too many requests wait, or if this client
        is closed; `ActorUnavailable` if the actor stays away, or does not answer in time.
        """
        if self._closed or len(self._waiting) >= self._max_waiting:
            raise Overloaded("Too many requests are waiting; try again in a moment.")
        if not long_poll and self._holds_no_more():
            self._pump()
            raise ActorUnavailable(f"{self._callee} is restarting; try again in a moment.")
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        # Not asyncio.wait_for: it makes another future and a callback for each of perhaps thousands of requests a second.
        latest = loop.time() + self._hold_s + self._answer_s
        bound = asyncio.timeout(None if long_poll else self.patience_s)
        waiting = self._waiting[number] = _Asked(request, future, bound, latest)
        if spans.tracer is not None:
            waiting.header = spans.header()
        self._unsent.append(number)
        self._pump()
        self._bounded += not long_poll
        try:
            async with bound:
                answer = await future
        except TimeoutError:
            self._give_up(number, future)
            raise self.late() from None
        except asyncio.CancelledError:
            self._give_up(number, future)
            raise
        finally:
            self._bounded -= not long_poll
        if isinstance(answer, ControlPlaneError):
            raise answer
        return answer

    @property
    def away(self) -> bool:
        """Whether the last call found the actor away. It may then not know the unanswered requests."""
        return self._away_since is not None

    @property
    def patience_s(self) -> float:
        """How long a request without a long poll waits for its answer, as things stand."""
        if self._running_s is None or self._is_dead():
            return self._hold_s + self._answer_s
        return self._running_s

    def late(self) -> ActorUnavailable:
        """What is raised at an asker whose patience has ended."""
        return ActorUnavailable(f"{self._callee} did not answer in time; try again.")

    def _is_dead(self) -> bool:
        """Whether the actor is away because it died: its successor is on its way, whatever else hangs."""
        return self._away_since is not None and self._dead

    def _held_too_long(self) -> bool:
        hold_s = self._hold_s if self._dead or self._running_s is None else min(self._hold_s, self._running_s)
        return self._away_since is not None and self._clock.now() - self._away_since > hold_s

    def _holds_no_more(self) -> bool:
        """Whether a new request is refused: the actor has been away for too long, or too many wait for it already.

        A request is only refused while a call finds out whether the actor is back. Otherwise nobody would ever find out, if
        the last call failed when no request was left: one that was answered by another call, or whose asker gave up. A call
        that has been in flight for long has arrived: one to a dead actor fails at once."""
        if self._away_since is not None and self._clock.now() - self._away_at > STALE_S:
            self._away_since = None
        if self._away_since is None or not self._in_flight:
            return False
        return self._bounded >= self._max_held or self._held_too_long()

    def _give_up(self, number: int, future: asyncio.Future[Any]) -> None:
        """Withdraws a request whose asker has gone. An answer that came in the same moment is a late reply too."""
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
        """Keeps a call in flight while a request is unanswered, and starts another for what has not been sent yet.

        Requests whose asker gave up count as unanswered: the answer may be a lease, which has to be released. While the
        actor is away, one call at a time is enough to find out that it is back."""
        if self._closed or (self._away_since is not None and self._in_flight):
            return
        unanswered = bool(self._waiting or self._given_up)
        needs_call = bool(self._unsent or self._withdrawn) or (unanswered and not self._in_flight)
        if needs_call and len(self._in_flight) < CALLS_IN_FLIGHT:
            batch = [self._unsent.popleft() for _ in range(min(len(self._unsent), self._max_batch))]
            withdrawn, self._withdrawn = self._withdrawn, []
            task = asyncio.get_running_loop().create_task(self._one_call(batch, withdrawn), context=untraced())
            self._in_flight[task] = batch
            task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if not task.cancelled():  # only `close` cancels calls, and it starts no others
            self._pump()

    async def _one_call(self, batch: list[int], withdrawn: list[int]) -> None:
        requests = tuple((n, self._waiting[n].request) for n in batch if n in self._waiting)
        try:
            call = ExchangeCall(
                caller=self._caller, requests=requests, withdrawn=tuple(withdrawn), session=self._session
            )
            sent: SentCall = call
            if spans.tracer is not None:
                asked = ((n, self._waiting[n].header) for n, _ in requests)
                headers = tuple((n, header) for n, header in asked if header)
                sent = TracedCall(call=call, headers=headers) if headers else call
            reply = await self._call(sent)
        except Exception as error:  # noqa: BLE001 - no request is lost, whatever failed; bugs are logged by _unavailable
            # If only the connection was lost, the actor still has the requests that this call withdrew: withdraw again.
            self._withdrawn += withdrawn
            self._given_up.clear()
            self._session = None
            away_for = _unavailable(error, self._callee)
            await self._actor_away(away_for, list(self._waiting), dead=isinstance(away_for, ActorUnavailable))
            return
        away = {number: answer for number, answer in reply.answers if isinstance(answer, ActorUnavailable)}
        for number, answer in reply.answers:
            if number not in away:
                self._deliver(number, answer)
        self._notice(reply.session)
        if away:  # the actor runs, but has lost its state
            await self._actor_away(next(iter(away.values())), [number for number in away if number in self._waiting])
        else:
            self._away_since = None

    def _notice(self, session: int) -> None:
        """Sends requests again if the actor had forgotten this caller, which it takes for dead after a long silence.

        Those of calls in flight are left out: the actor takes them when the call arrives."""
        before, self._session = self._session, session
        if before is not None and before != session:
            known = {number for batch in self._in_flight.values() for number in batch}
            lost = (number for number in self._waiting if number not in known)
            self._unsent = deque(sorted({*self._unsent, *lost}))

    def _deliver(self, number: int, answer: Any) -> None:
        self._given_up.discard(number)
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)
        else:
            self._late_reply(answer)

    async def _actor_away(self, error: TryLater, numbers: Sequence[int], *, dead: bool = False) -> None:
        """Queues the requests again that the actor will not answer; if they were held for too long, fails them instead.

        Long polls do not fail: only their askers bound them."""
        now = self._away_at = self._clock.now()
        if self._away_since is None:
            self._away_since, self._dead = now, False
        if dead and not self._dead:
            self._dead = True
            for waiting in self._waiting.values():
                _move(waiting)
        held_too_long = self._held_too_long()
        await self._clock.sleep(0.05 if not held_too_long else 0.5)
        if held_too_long:
            self._fail_bounded(error)
        self._unsent = deque(sorted({*self._unsent, *(n for n in numbers if n in self._waiting)}))

    def _fail_bounded(self, error: TryLater) -> None:
        for number, waiting in list(self._waiting.items()):
            if not waiting.long_poll and not waiting.future.done():
                del self._waiting[number]
                waiting.future.set_exception(error)

    async def close(self) -> None:
        """Ends all calls, after the withdrawn requests have been withdrawn at the actor, which would else grant leases to
        nobody. A lease in a late reply is released, by a request that is waited for too. Gives up after ``CLOSE_S``."""
        for _ in range(CLOSE_TRIES):
            if not self._given_up:
                await asyncio.sleep(0)  # whoever got a late reply makes its request in the next iteration
                if not self._bounded:
                    break
            await asyncio.sleep(CLOSE_S / CLOSE_TRIES)
        self._closed = True
        calls = list(self._in_flight)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for waiting in self._waiting.values():
            waiting.future.cancel()
