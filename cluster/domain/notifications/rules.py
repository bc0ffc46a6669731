"""Rules: which events go to which channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow
from cluster.domain.base.nearest import hint
from cluster.domain.notifications.delivery import Queued
from cluster.domain.notifications.digest import as_digest, joined
from cluster.domain.notifications.events import EVENT_TYPES, EventType, Severity, event_of
from cluster.domain.notifications.quiet import QuietHours

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
    ``digest_s``: for so long events are gathered, and told as one; 0: each at once. In ``quiet`` hours they are gathered until
    the hours end.

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
    digest_s: float = 0.0
    quiet: QuietHours | None = None

    def chooses(self, event: EventType) -> bool:
        if event.severity.rank < self.least.rank:
            return False
        return any(pattern in ("*", event.name, f"{event.name.partition('.')[0]}.*") for pattern in self.events)

    def gathers_until(self, event: EventType, now: float) -> float | None:
        """Until when (epoch seconds) an event of ``now`` is gathered; None if it is told at once."""
        quiet = self.quiet
        if quiet is not None and event.severity.rank < quiet.unless.rank:
            quiet_end = quiet.until(now)
            if quiet_end is not None:
                return quiet_end
        if not self.digest_s:
            return None
        end = now + self.digest_s
        return end if quiet is None else quiet.until(end) or end


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
    due_at = rule.gathers_until(event, now)
    queued = Queued(
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
        due_at=now if due_at is None else due_at,
        repeat_key=_digest(*about) if rule.repeat_after_s > 0 else None,
        repeat_after_s=rule.repeat_after_s,
    )
    # Repeats of one thing are counted by the digest, so they are no repeats besides.
    return queued if due_at is None else as_digest(replace(queued, repeat_key=_digest(rule.name, "digest")))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def notifications_of(rules: Mapping[str, Sequence[Rule]], rows: Sequence[LogRow], now: float) -> list[Queued]:
    """What rows become, in their order. ``rules`` by workspace."""
    found: list[Queued] = []
    for row in rows:
        event = event_of(row.kind, row.data)
        if event is not None:
            found += routed(rules.get(row.workspace, ()), row, event, now)
    return joined(found)
