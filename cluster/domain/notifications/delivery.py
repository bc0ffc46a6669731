"""Delivery: a notification is tried until its channel takes it, or until it has been tried often enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from cluster.domain.notifications.events import Severity

#: Attempts at a notification, and seconds between the first two; each wait is three times as long as the one before, up to an
#: hour. The last attempt is some six hours after the first.
MOST_ATTEMPTS: Final = 12
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
#: By so much of it a wait is longer or shorter, by chance.
JITTER: Final = 0.2
#: Notifications that have ended are kept for so long.
KEPT_S: Final = 30 * 86_400.0


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    #: It was given up; somebody may replay it.
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How far somebody has been told. ``attempts``: made or under way. ``error``: why the last attempt failed, in our words.
    Times in epoch seconds."""

    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    next_at: float | None = None
    ended_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification(Delivery):
    """One event for one channel. ``repeats``: how many others it stands for. ``at`` is the time of the event."""

    id: str
    workspace: str
    channel: str
    rule: str | None
    event: str
    severity: Severity
    entity: str
    seq: int
    at: float
    data: Mapping[str, Any]
    created_at: float
    repeats: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A notification that is to be stored: one event for one channel. ``id`` is the same whenever it is made of the same row.

    ``repeat_key``: what repeats of it share; None if each is told. ``due_at``: from when on it is sent (epoch seconds)."""

    id: str
    workspace: str
    channel: str
    rule: str | None
    event: str
    severity: Severity
    entity: str
    seq: int
    at: float
    data: Mapping[str, Any]
    created_at: float
    due_at: float
    repeat_key: str | None = None
    repeat_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The channel has taken it."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """``is_final``: no other attempt would end otherwise. ``retry_after_s``: for how long the receiver wants to be left alone."""

    error: str
    is_final: bool = False
    retry_after_s: float | None = None


Outcome = Taken | NotTaken


D = TypeVar("D", bound=Delivery)


def settled(delivery: D, outcome: Outcome, now: float, chance: float) -> D:
    """The delivery after an attempt. ``chance`` is from 0 to 1."""
    if isinstance(outcome, Taken):
        return replace(delivery, status=DeliveryStatus.DELIVERED, next_at=None, ended_at=now, error=None)
    if outcome.is_final or delivery.attempts >= MOST_ATTEMPTS:
        return replace(delivery, status=DeliveryStatus.DEAD, next_at=None, ended_at=now, error=outcome.error)
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 3.0 ** (delivery.attempts - 1))
    wait_s *= 1.0 + JITTER * (2.0 * chance - 1.0)
    if outcome.retry_after_s is not None:
        wait_s = max(wait_s, min(LONGEST_WAIT_S, outcome.retry_after_s))
    return replace(delivery, next_at=now + wait_s, error=outcome.error)
