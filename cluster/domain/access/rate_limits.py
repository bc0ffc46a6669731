"""How often a principal may call: the generic cell rate algorithm (GCRA).

Of each principal one number is kept, the time up to which its calls are used up. A call moves it on by the rate's interval, and
is refused if that would lead further ahead than the burst. A window with a counter was rejected: it admits twice its limit
around its border, and says nothing about when to call again. The script of ``cluster/redis/rate_limits.py`` computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

#: No caller is told to wait longer, because the released client does not try again after a longer wait.
MAX_RETRY_AFTER_S: Final = 60
#: A principal may use up so many seconds of its rate at once.
BURST_S: Final = 10.0
#: The limits of this many callers are kept; those that are nearest to being forgotten anyhow go first.
MAX_KEPT: Final = 20_000


class CallKind(StrEnum):
    """Each kind of call has a limit of its own, so that an agent that submits too much still counts as alive and works."""

    HEARTBEATS = "heartbeats"
    CLAIMS = "claims"
    OTHERS = "others"


def kind_of_call(path: str) -> CallKind:
    """The kind of a route's calls, by its path."""
    last = path.rpartition("/")[2]
    if last in ("heartbeat", "heartbeats"):
        return CallKind.HEARTBEATS
    return CallKind.CLAIMS if last == "claim" else CallKind.OTHERS


@dataclass(frozen=True, slots=True)
class Rate:
    """One call per ``interval_s``, and ``burst`` at once."""

    interval_s: float
    burst: int

    @classmethod
    def per_minute(cls, calls: float, burst_s: float = BURST_S) -> Rate:
        return cls(interval_s=60 / calls, burst=max(1, int(calls / 60 * burst_s)))

    def shared_by(self, sharers: int) -> Rate:
        """The part of one of so many replicas."""
        return Rate(interval_s=self.interval_s * sharers, burst=max(1, self.burst // sharers))


class Grant(NamedTuple):
    """``granted`` of the calls may be made; the next may after ``retry_after_s``. ``sharers``: replicas that use this limit.

    No dataclass: one is made for every failed login, and a named tuple costs half."""

    granted: int
    retry_after_s: float
    sharers: int = 1


def take(used_up_to: float, now: float, rate: Rate, calls: int, least: int = 1) -> tuple[float, Grant]:
    """As many of ``calls`` as there is room for, but none if that is less than ``least``, and up to when the calls are used up
    then. ``retry_after_s`` is how long it takes until there is room for ``least``."""
    # Nothing is used up further ahead than a whole burst, unless the clock was set back or the rate was another one.
    begins = min(max(used_up_to, now), now + rate.burst * rate.interval_s)
    # What is left of the burst. The division may end a hair below a whole number, which would take a call away.
    room = math.floor(rate.burst - (begins - now) / rate.interval_s + 1e-6)
    granted = min(calls, room)
    if granted < least:
        granted = 0
    ends = begins + granted * rate.interval_s
    return ends, Grant(granted, max(0.0, ends + least * rate.interval_s - now - rate.burst * rate.interval_s))


def whole_seconds(retry_after_s: float) -> int:
    """What is sent as Retry-After."""
    return max(1, min(MAX_RETRY_AFTER_S, math.ceil(retry_after_s)))


class RateTable:
    """The limits of many callers in memory, bounded however many there are."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._used_up_to: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._used_up_to)

    def take(self, caller: str, rate: Rate, calls: int, now: float, least: int = 1) -> Grant:
        """As many of ``calls`` as the caller has room for, but none if that is less than ``least``."""
        ends, grant = take(self._used_up_to.get(caller, now), now, rate, calls, least)
        if grant.granted:
            if len(self._used_up_to) >= self._max_kept and caller not in self._used_up_to:
                self._used_up_to = _newest(self._used_up_to, now, self._max_kept // 2)
            self._used_up_to[caller] = ends
        return grant


def _newest(used_up_to: Mapping[str, float], now: float, most: int) -> dict[str, float]:
    """Without the callers that have their whole burst again. If more than ``most`` are left, those go that would be next: to sort
    all at once, and then not for a long time, is cheaper than to find one for each new caller."""
    kept = [(caller, at) for caller, at in used_up_to.items() if at > now]
    return dict(sorted(kept, key=lambda entry: entry[1])[-most:] if len(kept) > most else kept)
