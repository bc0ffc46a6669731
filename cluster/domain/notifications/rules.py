"""Rules: which events go to which channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow
from cluster.domain.base.nearest import hint
from cluster.domain.notifications.events import EVENT_TYPES, EventType, Severity, event_of

MOST_RULES: Final = 100
MOST_EVENTS: Final = 50
_NAMES: Final = tuple(event.name for event in EVENT_TYPES)
_GROUPS: Final = tuple(sorted({name.partition(".")[0] for name in _NAMES}))


class RepeatBy(StrEnum):
    """What makes an event a repeat of another one: the same event about the same thing, or about anything."""

    ENTITY = "entity"
    EVENT = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``events``: names, ``group.*`` or ``*``. Within ``repeat_after_s`` after an event was told, repeats are only counted.

    ``since``: the row of the log that made the rule; it tells nothing of what was before."""

    workspace: str
    name: str
    events: tuple[str, ...]
    least: Severity
    channels: tuple[str, ...]
    principal: str
    changed_at: float
    repeat_after_s: float = 0.0
    repeat_by: RepeatBy = RepeatBy.ENTITY
    since: int = 0

    def chooses(self, event: EventType) -> bool:
        if event.severity.rank < self.least.rank:
            return False
        return any(pattern in ("*", event.name, f"{event.name.partition('.')[0]}.*") for pattern in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A notification that is to be stored: one event for one channel. ``id`` is the same whenever it is made of the same row.

    ``repeat_key``: what repeats of it share; None if each is told."""

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
    repeat_key: str | None = None
    repeat_after_s: float = 0.0


def check_events(patterns: Sequence[str]) -> None:
    """Returns if each pattern can choose an event.

    Raises: `InvalidRequest` if one cannot."""
    for pattern in patterns:
        group = pattern.removesuffix(".*")
        if pattern == "*" or pattern in _NAMES or (group != pattern and group in _GROUPS):
            continue
        raise InvalidRequest(f"There is no event {pattern}; {hint(pattern, _NAMES)}", "unknown_event")


def routed(rules: Sequence[Rule], row: LogRow, event: EventType, now: float) -> Iterator[Queued]:
    """The notifications that an event becomes: one for each channel, by the first rule (by name) that chooses it."""
    told: set[str] = set()
    for rule in sorted(rules, key=lambda rule: rule.name):
        if row.seq <= rule.since or not rule.chooses(event):
            continue
        for channel in rule.channels:
            if channel not in told:
                told.add(channel)
                yield _queued(rule, channel, row, event, now)


def _queued(rule: Rule, channel: str, row: LogRow, event: EventType, now: float) -> Queued:
    about = [rule.name, event.name, *([row.entity] if rule.repeat_by is RepeatBy.ENTITY else [])]
    return Queued(
        id=f"ntf_{_digest(row.digest.hex(), str(row.seq), row.workspace, channel)[:32]}",
        workspace=row.workspace,
        channel=channel,
        rule=rule.name,
        event=event.name,
        severity=event.severity,
        entity=row.entity,
        seq=row.seq,
        at=row.at,
        data=row.open_data(),
        created_at=now,
        repeat_key=_digest(*about) if rule.repeat_after_s > 0 else None,
        repeat_after_s=rule.repeat_after_s,
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def notifications_of(rules: Mapping[str, Sequence[Rule]], rows: Sequence[LogRow], now: float) -> list[Queued]:
    """What rows become, in their order. ``rules`` by workspace."""
    found: list[Queued] = []
    for row in rows:
        event = event_of(row.kind, row.data)
        if event is not None:
            found += routed(rules.get(row.workspace, ()), row, event, now)
    return found
