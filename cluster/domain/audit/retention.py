"""Retention: for how long what has ended is kept, and what is left of it.

A task, a deliberation or a run of a workflow that is removed leaves a stub (its id, how and when it ended), so its id has an
answer for good, and whoever depends on it learns how it ended. The rows of the log stay and lose their words, as with an erasure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from cluster.domain.base.errors import Removed
from cluster.domain.base.log import IDENTITY, LogRecord, LogTexts, Origin, record_for

PRINCIPAL: Final = "system:retention"
DAY_S: Final = 86_400.0
#: Keys are forgotten a while after their window is over; what they name stays until then.
SLACK_S: Final = 3600.0
#: A hundred years.
MOST_DAYS: Final = 36_500.0
MOST_COUNT: Final = 10**12

TASKS_REMOVED: Final = "retention.tasks_removed"
DELIBERATIONS_REMOVED: Final = "retention.deliberations_removed"
RUNS_REMOVED: Final = "retention.runs_removed"
RULE_SET: Final = "retention.rule_set"
RUN_REQUESTED: Final = "retention.run_requested"
#: Rows of these kinds → the field that lists the ids of what is removed.
LISTS: Final[Mapping[str, str]] = {
    TASKS_REMOVED: "task_ids",
    DELIBERATIONS_REMOVED: "request_ids",
    RUNS_REMOVED: "run_ids",
}

LOG_TEXTS: LogTexts = dict.fromkeys(LISTS.values(), IDENTITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What of a kind may go: what ended before ``recent`` (epoch seconds) and also before ``ended_before`` or is not among the
    ``newest``. None: no bound of this sort."""

    recent: float
    ended_before: float | None
    newest: int | None

    @property
    def all_stay(self) -> bool:
        return self.ended_before is None and self.newest is None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """What a workspace keeps: what ended less than so many days ago, and no more than the newest so many by their submit. 0 is
    no bound. ``spending_days``: what days have cost; ``violation_days``: violations of policies;
    ``policy_version_days``: versions that were replaced or deleted."""

    task_days: float
    task_count: int
    deliberation_days: float
    deliberation_count: int
    workflow_run_days: float = 0.0
    workflow_run_count: int = 0
    spending_days: float = 0.0
    violation_days: float = 0.0
    policy_version_days: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def changed(self, values: Mapping[str, Any]) -> RetentionRule:
        """The rule with some fields replaced. A name that this version does not know is left out."""
        known = self.to_json()
        return RetentionRule(**(known | {name: value for name, value in values.items() if name in known}))

    def bounds(self, now: float, window_s: float) -> Mapping[str, Bounds]:
        """By the kind of the row that removes. ``window_s``: for how long a repeat of a submit finds its key, which has to name
        something then; so long everything is kept, whatever the rule."""
        recent = now - window_s - SLACK_S

        def of(days: float, count: int) -> Bounds:
            before = now - days * DAY_S if days > 0 else None
            return Bounds(recent=recent, ended_before=before, newest=count if count > 0 else None)

        return {
            TASKS_REMOVED: of(self.task_days, self.task_count),
            DELIBERATIONS_REMOVED: of(self.deliberation_days, self.deliberation_count),
            RUNS_REMOVED: of(self.workflow_run_days, self.workflow_run_count),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """What is left of a task, a deliberation or a run. Times are epoch seconds."""

    id: str
    status: str
    created_at: float
    completed_at: float
    removed_at: float

    def error(self, what: str) -> Removed:
        """What whoever asks for it is told. ``what``: task, deliberation or run."""
        return Removed(
            f"The {what} {self.id} ended as {self.status} on {_day(self.completed_at)} and was removed on "
            f"{_day(self.removed_at)}, as the retention of its workspace says; what it held is not kept any more.",
            f"{what}_removed",
        )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def removal(workspace: str, kind: str, ids: Sequence[str], now: float, cause: str) -> LogRecord:
    """The row of a commit that removes some tasks, deliberations or runs."""
    origin = Origin(workspace=workspace, principal=PRINCIPAL, cause=cause)
    return record_for(origin, now, kind, workspace, {LISTS[kind]: sorted(ids)})
