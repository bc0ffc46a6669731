"""A circuit breaker as a value: ``admit`` before a call, ``step`` with its outcome. No clock; every time is epoch seconds.

closed     calls pass; ``threshold`` failures in a row open it
open       calls are refused for ``reset_s`` seconds
half open  up to ``TRIALS`` calls may be in flight; ``SUCCESSES_TO_CLOSE`` successes in a row close it, one failure
           opens it again

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
    open. A trial ends by its outcome or, if the caller died, after ``reset_s``."""

    name: str
    threshold: int = THRESHOLD
    reset_s: float = RESET_S
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    successes: int = 0
    last_failure: float | None = None
    changed_at: float = 0.0
    trials: tuple[float, ...] = ()

    def state_at(self, now: float) -> BreakerState:
        """The state now: an open breaker is half open after ``reset_s``."""
        if self.state is BreakerState.OPEN and now >= self.changed_at + self.reset_s:
            return BreakerState.HALF_OPEN
        return self.state


def admit(breaker: Breaker, now: float) -> tuple[Breaker, bool]:
    """The breaker after the question whether a call may be made now, and the answer. Call ``step`` with the outcome of every
    admitted call."""
    state = breaker.state_at(now)
    if state is BreakerState.CLOSED:
        return breaker, True
    if state is BreakerState.OPEN:
        return breaker, False
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
