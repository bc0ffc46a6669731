"""Which channels get the next attempts at their notifications.

A channel is told of some notifications at a time, and of the next ones when those attempts have ended: so one that hangs holds a
few places, and all that hang together hold half of them. However many channels fail, the others have places left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

Key = tuple[str, str]
"""(workspace, channel)"""

#: Attempts at once: in all, of those that begin at once, and of all channels whose last attempt failed.
MOST_AT_ONCE: Final = 32
MOST_BEGUN: Final = 8
MOST_OF_FAILING: Final = 16


class ChannelState(StrEnum):
    """Whether a channel has taken what it was sent last."""

    TAKING = "taking"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Look:
    """What is due may be sent."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt at a notification of a channel is under way."""

    channel: Key


@dataclass(frozen=True, slots=True)
class Taken:
    """The channel has taken a notification."""

    channel: Key


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel has not taken a notification."""

    channel: Key


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over, with whatever outcome, and settled if that was possible."""

    channel: Key


Event = Look | Begun | Taken | Refused | Ended


@dataclass(frozen=True, slots=True)
class Begin:
    """Attempts may begin at the oldest notifications that are due: ``room`` at most, and none of the ``busy`` channels."""

    room: int
    busy: frozenset[Key]


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A channel may have its next attempts, so there may be something to begin at once."""


Effect = Begin | LookAgain

#: (state of a channel, event) → its next state. What is not here leaves it as it is.
TRANSITIONS: Final[Mapping[tuple[ChannelState, type[Event]], ChannelState]] = {
    (ChannelState.TAKING, Refused): ChannelState.FAILING,
    (ChannelState.FAILING, Taken): ChannelState.TAKING,
}


@dataclass(frozen=True, slots=True)
class Attempts:
    """``under_way``: channel → its attempts, of those alone that have any. ``failing``: those that fail; all others take."""

    under_way: Mapping[Key, int] = field(default_factory=dict)
    failing: frozenset[Key] = frozenset()

    def state(self, channel: Key) -> ChannelState:
        return ChannelState.FAILING if channel in self.failing else ChannelState.TAKING


_After = tuple[Attempts, tuple[Effect, ...]]


def step(attempts: Attempts, event: Event, now: float) -> _After:
    """The attempts after an event, and what is to be done. Time changes nothing by itself.

    Raises: `KeyError` if an attempt ends of a channel that has none."""
    return _ON[type(event)](attempts, event)


def _look(attempts: Attempts, event: Look) -> _After:
    room = min(MOST_BEGUN, MOST_AT_ONCE - sum(attempts.under_way.values()))
    if room <= 0:
        return attempts, ()
    busy = frozenset(attempts.under_way)
    of_failing = MOST_OF_FAILING - sum(n for key, n in attempts.under_way.items() if key in attempts.failing)
    if of_failing <= 0:
        return attempts, (Begin(room=room, busy=busy | attempts.failing),)
    return attempts, (Begin(room=min(room, of_failing), busy=busy),)


def _begun(attempts: Attempts, event: Begun) -> _After:
    under_way = {**attempts.under_way, event.channel: attempts.under_way.get(event.channel, 0) + 1}
    return replace(attempts, under_way=under_way), ()


def _outcome(attempts: Attempts, event: Taken | Refused) -> _After:
    before = attempts.state(event.channel)
    after = TRANSITIONS.get((before, type(event)), before)
    if after is before:
        return attempts, ()
    one = {event.channel}
    return replace(
        attempts, failing=attempts.failing | one if after is ChannelState.FAILING else attempts.failing - one
    ), ()


def _ended(attempts: Attempts, event: Ended) -> _After:
    under_way = {**attempts.under_way, event.channel: attempts.under_way[event.channel] - 1}
    if under_way[event.channel]:
        return replace(attempts, under_way=under_way), ()
    del under_way[event.channel]
    return replace(attempts, under_way=under_way), (LookAgain(),)


_ON: Final[Mapping[type[Event], Callable[[Attempts, Any], _After]]] = {
    Look: _look,
    Begun: _begun,
    Taken: _outcome,
    Refused: _outcome,
    Ended: _ended,
}
