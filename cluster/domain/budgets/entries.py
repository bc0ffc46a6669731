"""What one attempt costs: reserved when it starts, settled when it ends. One row of the store holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.domain.base.log import SYSTEM, LogRecord, Origin, record_for

#: A row of this kind lists tasks whose entries were added to their days.
FOLDED: Final = "budget.folded"
#: A row of this kind lists days of which it is not kept any more what they have cost.
DAYS_REMOVED: Final = "budget.days_removed"
#: A row of this kind lists budgets of which it is not kept any more which levels they reached in old periods.
LEVELS_REMOVED: Final = "budget.levels_removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An amount that is set aside for an attempt, in the commit that starts it. ``budgets`` are the ids of those that count it,
    for good: a budget that is made later does not. ``at`` is when it started (epoch seconds), which decides on the period."""

    task_id: str
    attempt: int
    workspace: str
    agent_id: str
    task_type: str
    budgets: tuple[str, ...]
    nanos: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt has cost, in the commit that ends it. ``is_known``: its holder said so; else the reserved amount counts as
    spent."""

    task_id: str
    attempt: int
    nanos: int
    is_known: bool


Entry = Reservation | Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledEntry:
    """Whose entry may be added to its ``day`` (``YYYY-MM-DD``, UTC)."""

    workspace: str
    task_id: str
    attempt: int
    day: str


def folding(workspace: str, entries: Sequence[SettledEntry], now: float) -> LogRecord:
    """The row of a commit that adds entries of a workspace to their days."""
    data = {"task_ids": sorted({each.task_id for each in entries}), "days": sorted({each.day for each in entries})}
    return record_for(Origin(workspace=workspace, principal=SYSTEM), now, FOLDED, workspace, data)


def forgetting(workspace: str, days: Sequence[str], now: float) -> LogRecord:
    """The row of a commit that deletes what days have cost."""
    origin = Origin(workspace=workspace, principal=SYSTEM)
    return record_for(origin, now, DAYS_REMOVED, workspace, {"days": sorted(days)})


def forgetting_levels(workspace: str, budgets: Sequence[str], now: float) -> LogRecord:
    """The row of a commit that deletes which levels budgets reached in old periods."""
    origin = Origin(workspace=workspace, principal=SYSTEM)
    return record_for(origin, now, LEVELS_REMOVED, workspace, {"budget_ids": sorted(budgets)})
