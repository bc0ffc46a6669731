"""Compares what clients were told with what is there: what is missing, and what is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``missing``: ids that were acknowledged and are not there. ``doubled``: by key, the ids of a task that is there, or was
    answered, more than once. ``unacknowledged``: ids that are there although nobody was told, which is no fault."""

    acknowledged: int
    there: int
    missing: tuple[str, ...]
    doubled: Mapping[str, tuple[str, ...]]
    unacknowledged: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that was acknowledged is there once."""
        return not self.missing and not self.doubled


def judge(acknowledged: Mapping[str, Set[str]], there: Iterable[tuple[str, str]]) -> Judgement:
    """``acknowledged``: the ids that were answered, by idempotency key. ``there``: (id, key) of each task."""
    rows = list(there)
    told = set().union(*acknowledged.values())
    ids = {task_id for task_id, _ in rows}
    shown = Counter(task_id for task_id, _ in rows)
    by_key: dict[str, set[str]] = {key: set(answered) for key, answered in acknowledged.items()}
    for task_id, key in rows:
        by_key.setdefault(key, set()).add(task_id)
    doubled = {
        key: tuple(sorted(found))
        for key, found in sorted(by_key.items())
        if len(found) > 1 or any(shown[task_id] > 1 for task_id in found)
    }
    return Judgement(
        acknowledged=len(told),
        there=len(ids),
        missing=tuple(sorted(told - ids)),
        doubled=doubled,
        unacknowledged=tuple(sorted(ids - told)),
    )
