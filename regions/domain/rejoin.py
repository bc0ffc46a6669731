"""How a member comes back whose log may go on past the **fork**, the last row that it shares with the primary's log, or that was
away for so long that the primary does not keep the rows any more which follow its last one.

A log's history is, per epoch, its last row: (epoch, seq), in order. One primary writes in one epoch, so two logs that share a
pair (epoch, seq) share everything before it. Rows past the fork are its **surplus**: some member of the set had not confirmed
them, so nobody was answered. They are kept in a file, and the member is rebuilt from a snapshot; outside the in-sync set, because
a member that is being rebuilt lacks rows that were answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

LogHistory = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPoint:
    """``seq`` is the last shared row; ``surplus`` the number of own rows past it."""

    epoch: int
    seq: int
    surplus: int


def extended(history: LogHistory, epoch: int, seq: int) -> LogHistory:
    """The history of a log after a row."""
    if history and history[-1][0] == epoch:
        return (*history[:-1], (epoch, seq))
    return (*history, (epoch, seq))


def fork_point(mine: LogHistory, theirs: LogHistory) -> ForkPoint:
    """Where my log leaves theirs. Without surplus it is a beginning of theirs."""
    shared = ForkPoint(epoch=0, seq=0, surplus=0)
    for (my_epoch, my_last), (their_epoch, their_last) in zip(mine, theirs, strict=False):
        if my_epoch != their_epoch:
            break
        shared = replace(shared, epoch=my_epoch, seq=min(my_last, their_last))
        if my_last != their_last:
            break
    head = mine[-1][1] if mine else 0
    return replace(shared, surplus=head - shared.seq)


class RejoinPhase(StrEnum):
    #: Its log is a beginning of the primary's, or not compared yet: it takes rows.
    STREAMING = "streaming"
    #: It has a surplus or lacks rows that are kept no more, and is in the in-sync set, which it has to leave first.
    LEAVING = "leaving"
    #: The surplus is being written to a file.
    SAVING = "saving"
    #: The database is being replaced by a snapshot of the primary's.
    REBUILDING = "rebuilding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoining:
    phase: RejoinPhase = RejoinPhase.STREAMING
    fork: ForkPoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoriesCompared:
    """Rows came from a primary, or were refused by it. ``epoch`` is its epoch, and ``in_sync`` whether it counts the member in
    the set: only the primary can add one, while what the member itself has read of the group may be older than that. ``theirs``
    is empty while the primary does not say it. ``is_lost``: the primary does not keep the row after the member's last one any
    more, so the member cannot take rows even if it has no surplus."""

    mine: LogHistory
    theirs: LogHistory
    epoch: int
    in_sync: bool
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class SurplusSaved:
    """The surplus is in a file, on disk."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The database is the primary's snapshot."""


RejoinEvent = HistoriesCompared | SurplusSaved | Rebuilt


@dataclass(frozen=True, slots=True)
class AskToLeave:
    """Tell the primary that this member has to leave the set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveSurplus:
    """Write the rows after ``after`` to a file."""

    after: int


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Replace the database by a snapshot of the primary's, then take the rows after it."""


RejoinEffect = AskToLeave | SaveSurplus | Rebuild


def step(state: Rejoining, event: RejoinEvent) -> tuple[Rejoining, tuple[RejoinEffect, ...]]:
    """Applies the rule of ``REJOIN`` for ``event``; an event without a rule changes nothing."""
    rule = REJOIN.get((state.phase, type(event)))
    return (state, ()) if rule is None else rule(state, event)


def _compared(state: Rejoining, event: HistoriesCompared) -> tuple[Rejoining, tuple[RejoinEffect, ...]]:
    fork = fork_point(event.mine, event.theirs)
    # A log that already ends under the primary's epoch has its rows; the message that says less was overtaken.
    if not event.is_lost and (fork.surplus == 0 or event.mine[-1][0] == event.epoch):
        return Rejoining(), ()
    if event.in_sync:
        return Rejoining(phase=RejoinPhase.LEAVING, fork=fork), (AskToLeave(),)
    if fork.surplus == 0:
        return Rejoining(phase=RejoinPhase.REBUILDING, fork=fork), (Rebuild(),)
    return Rejoining(phase=RejoinPhase.SAVING, fork=fork), (SaveSurplus(after=fork.seq),)


def _saved(state: Rejoining, event: SurplusSaved) -> tuple[Rejoining, tuple[RejoinEffect, ...]]:
    return replace(state, phase=RejoinPhase.REBUILDING), (Rebuild(),)


def _rebuilt(state: Rejoining, event: Rebuilt) -> tuple[Rejoining, tuple[RejoinEffect, ...]]:
    return Rejoining(), ()


REJOIN: dict[
    tuple[RejoinPhase, type[RejoinEvent]], Callable[[Rejoining, Any], tuple[Rejoining, tuple[RejoinEffect, ...]]]
] = {
    (RejoinPhase.STREAMING, HistoriesCompared): _compared,
    (RejoinPhase.LEAVING, HistoriesCompared): _compared,
    (RejoinPhase.SAVING, SurplusSaved): _saved,
    (RejoinPhase.REBUILDING, Rebuilt): _rebuilt,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorLost:
    """410: a client's cursor is past a fork, or before the first row that is kept; it resumes after ``resume_after``."""

    resume_after: int
    message: str


def cursor_lost(history: LogHistory, first_kept: int, epoch: int, seq: int) -> CursorLost | None:
    """Whether a cursor (epoch, seq) that a client holds is none of this log any more; None if it is one."""
    if seq < first_kept - 1:
        return CursorLost(
            resume_after=first_kept - 1,
            message=f"The rows after {seq} are not kept any more; resume after {first_kept - 1} and read the state anew.",
        )
    fork = fork_point(_up_to(history, epoch, seq), history)
    if fork.surplus == 0:
        return None
    return CursorLost(
        resume_after=fork.seq,
        message=f"The rows after {fork.seq} that this cursor has passed were never acknowledged, and a failover dropped them; "
        f"resume after {fork.seq} and forget what came later.",
    )


def _up_to(history: LogHistory, epoch: int, seq: int) -> LogHistory:
    """The history of a log whose last row is (epoch, seq), as far as this log knows it."""
    before = tuple((at, min(last, seq)) for at, last in history if at < epoch)
    return (*before, (epoch, seq))
