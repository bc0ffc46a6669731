"""Digests: several events of a rule for one channel, told as one notification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cluster.domain.notifications.delivery import Queued
from cluster.domain.notifications.events import DIGEST, TITLES

#: Of so many events a digest tells one by one, of the others how many there were.
MOST_TOLD: Final = 100


def as_digest(queued: Queued) -> Queued:
    """The digest of one event."""
    told = {
        "event": queued.event,
        "severity": queued.severity.value,
        "title": TITLES[queued.event].format(queued.entity),
        "entity": queued.entity,
        "seq": queued.seq,
        "at": queued.at,
        "details": dict(queued.data),
    }
    data = {"counts": {queued.event: 1}, "from": queued.at, "until": queued.at, "events": [told]}
    return replace(queued, event=DIGEST, entity=queued.rule or "", data=data)


def joined(digests: Iterable[Queued]) -> list[Queued]:
    """The notifications in their order, with digests of one rule and channel as one: each would be a change of the same row."""
    found: list[Queued] = []
    begun: dict[tuple[str, str, str | None], int] = {}
    for queued in digests:
        key = (queued.workspace, queued.channel, queued.repeat_key)
        if queued.event == DIGEST and key in begun:
            found[begun[key]] = _joined(found[begun[key]], queued)
            continue
        if queued.event == DIGEST:
            begun[key] = len(found)
        found.append(queued)
    return found


def _joined(first: Queued, second: Queued) -> Queued:
    counts = dict(first.data["counts"])
    for event, count in second.data["counts"].items():
        counts[event] = counts.get(event, 0) + count
    data = {
        "counts": counts,
        "from": first.data["from"],
        "until": second.data["until"],
        "events": [*first.data["events"], *second.data["events"]][:MOST_TOLD],
    }
    graver = max(first.severity, second.severity, key=lambda severity: severity.rank)
    return replace(first, data=data, severity=graver, seq=second.seq)


def digest_title(rule: str | None, data: Mapping[str, Any]) -> str:
    """How many events, and of what."""
    counts: Sequence[tuple[str, int]] = sorted(data["counts"].items(), key=lambda item: (-item[1], item[0]))
    total = sum(count for _, count in counts)
    what = ", ".join(f"{count} {event}" for event, count in counts[:3]) + (" and others" if len(counts) > 3 else "")
    return f"{total} event{'' if total == 1 else 's'} of rule {rule}: {what}"


def left_out(data: Mapping[str, Any]) -> int:
    """Of how many events it only has the number."""
    return int(sum(data["counts"].values())) - len(data["events"])
