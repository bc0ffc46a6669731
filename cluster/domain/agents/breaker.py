"""A circuit breaker as a value: ``admit`` before a call, ``step`` with its outcome. No clock; every time is epoch seconds.

closed     calls pass; ``threshold`` failures in a row open it
open       calls are refused for ``reset_s`` seconds
half open  up to ``TRIALS`` calls may be in flight; ``SUCCESSES_TO_CLOSE`` successes in a row close it, one failure
           opens it again

An agent that says when it wants to be called again gets no call before, in any state (``retry_at``).

An open breaker becomes half open by time alone (``state_at``). So no timer is needed, and a stored breaker that is read after
a restart is still in the right state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from cluster.domain.base.log import IDENTITY, LogTexts

TRIALS = 3
SUCCESSES_TO_CLOSE = 2
THRESHOLD = 3
RESET_S = 60.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


LOG_TEXTS: LogTexts = {"agent_id": IDENTITY, "name": IDENTITY, "state": frozenset(BreakerState)}


class CallOutcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    #: Its caller gave it up. This says nothing about whoever was called, and frees the trial.
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """``failures`` and ``successes`` count outcomes in a row. ``trials`` holds the times at which calls were admitted while half
    open. A trial ends by its outcome or, if the caller died, after ``reset_s``. ``retry_at`` is when the agent wants to be called
    again (Retry-After); in any state no call is made before."""

    name: str
    threshold: int = THRESHOLD
    reset_s: float = RESET_S
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    successes: int = 0
    last_failure: float | None = None
    changed_at: float = 0.0
    trials: tuple[float, ...] = ()
    retry_at: float | None = None

    def state_at(self, now: float) -> BreakerState:
        """The state now: an open breaker is half open after ``reset_s``."""
        if self.state is BreakerState.OPEN and now >= self.changed_at + self.reset_s:
            return BreakerState.HALF_OPEN
        return self.state

    def may_call_at(self, now: float) -> float:
        """When a call may be made again; not after ``now`` if neither an open state nor the agent's own wish prevents one."""
        opens_at = self.changed_at + self.reset_s if self.state_at(now) is BreakerState.OPEN else 0.0
        return max(opens_at, self.retry_at or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many calls an agent may have at once by its breaker: ``most``, None for any number, of which ``under_way`` are made.
    ``since`` is when it became half open: work that was taken on since then is a trial, or about to be one. ``until`` is when
    the room changes by time alone."""

    most: int | None = None
    under_way: int = 0
    since: float = 0.0
    until: float | None = None

    def left(self, taken_on: int) -> int | None:
        """How much more work may be taken on, if ``taken_on`` was since the breaker became half open. None: any amount."""
        return None if self.most is None else max(0, self.most - max(self.under_way, taken_on))


def room(breaker: Breaker, now: float) -> Room:
    """The room for calls, without admitting one: whoever takes on work for the agent asks before it does."""
    state, may_at = breaker.state_at(now), breaker.may_call_at(now)
    half_open_at = breaker.changed_at + (breaker.reset_s if breaker.state is BreakerState.OPEN else 0.0)
    if may_at > now:
        return Room(most=0, since=half_open_at, until=may_at)
    if state is BreakerState.CLOSED:
        return Room()
    ends = [at + breaker.reset_s for at in breaker.trials if at > now - breaker.reset_s]
    return Room(most=TRIALS, under_way=len(ends), since=half_open_at, until=min(ends, default=None))


def postponed(breaker: Breaker, until: float) -> Breaker:
    """The breaker of an agent that does not want to be called before ``until``. An earlier time than one that it gave before
    changes nothing, because answers may overtake each other."""
    return breaker if until <= (breaker.retry_at or 0.0) else replace(breaker, retry_at=until)


def admit(breaker: Breaker, now: float) -> tuple[Breaker, bool]:
    """The breaker after the question whether a call may be made now, and the answer. Call ``step`` with the outcome of every
    admitted call."""
    if breaker.may_call_at(now) > now:
        return breaker, False
    if breaker.state_at(now) is BreakerState.CLOSED:
        return breaker, True
    half = _half_open(breaker, now)
    under_way = tuple(at for at in half.trials if at > now - half.reset_s)
    if len(under_way) >= TRIALS:
        return replace(half, trials=under_way), False
    return replace(half, trials=(*under_way, now)), True


def step(breaker: Breaker, outcome: CallOutcome, now: float) -> Breaker:
    """The breaker after a call's outcome. A late success of a call from before the breaker opened does not close it."""
    state = breaker.state_at(now)
    if outcome is CallOutcome.WITHDRAWN:
        return replace(breaker, trials=breaker.trials[1:]) if breaker.trials else breaker
    if outcome is CallOutcome.FAILURE:
        return _failed(breaker, state, now)
    if state is BreakerState.OPEN:
        return breaker
    if state is BreakerState.CLOSED:
        return replace(breaker, failures=0, successes=breaker.successes + 1)
    half = _half_open(breaker, now)
    successes = half.successes + 1
    if successes < SUCCESSES_TO_CLOSE:
        return replace(half, successes=successes, trials=half.trials[1:])
    return replace(half, state=BreakerState.CLOSED, failures=0, successes=successes, changed_at=now, trials=())


def _half_open(breaker: Breaker, now: float) -> Breaker:
    if breaker.state is BreakerState.HALF_OPEN:
        return breaker
    return replace(breaker, state=BreakerState.HALF_OPEN, successes=0, changed_at=now, trials=())


def _failed(breaker: Breaker, state: BreakerState, now: float) -> Breaker:
    counted = replace(breaker, failures=breaker.failures + 1, successes=0, last_failure=now)
    opens = state is BreakerState.HALF_OPEN or (state is BreakerState.CLOSED and counted.failures >= counted.threshold)
    return replace(counted, state=BreakerState.OPEN, changed_at=now, trials=()) if opens else counted


def agent_breaker(agent_id: str) -> str:
    """The name of an agent's breaker on the wire."""
    return f"health_{agent_id}"
