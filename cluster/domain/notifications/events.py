"""The events that notifications tell of: a table of rows of the log. Docs and tests read it.

Rows about access and logins are left out: whoever may make rules need not be somebody who may read those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cluster.domain.agents.agent import Health, Liveness
from cluster.domain.agents.breaker import BreakerState


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A graver one has a higher rank."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """``kind``: of the rows that are this event; of those, the ones whose ``field`` of ``data`` has the ``value``. ``title`` has
    the entity of the row."""

    name: str
    severity: Severity
    title: str
    kind: str
    field: str | None = None
    value: str | int | None = None

    def matches(self, kind: str, data: Mapping[str, Any]) -> bool:
        return kind == self.kind and (self.field is None or data.get(self.field) == self.value)


def _plain(kind: str, severity: Severity, title: str) -> EventType:
    return EventType(name=kind, severity=severity, title=title, kind=kind)


def _chosen(name: str, severity: Severity, title: str, kind: str, field: str, value: str | int) -> EventType:
    return EventType(name=name, severity=severity, title=title, kind=kind, field=field, value=value)


_STATUS: Final = ("agent.status_changed", "new_status")
_RUN: Final = ("workflow.run_ended", "status")
_LEVEL: Final = ("budget.level_reached", "level")
_BREAKER: Final = ("breaker.changed", "state")

EVENT_TYPES: Final[tuple[EventType, ...]] = (
    _plain("task.submitted", Severity.INFO, "Task {} was submitted"),
    _plain("task.completed", Severity.INFO, "Task {} is completed"),
    _plain("task.cancelled", Severity.INFO, "Task {} was cancelled"),
    _plain("task.retried", Severity.WARNING, "An attempt at task {} failed, and it is tried again"),
    _plain("task.failed", Severity.ERROR, "Task {} failed"),
    _plain("task.timeout", Severity.ERROR, "Task {} ran out of time"),
    _plain("task.dead_lettered", Severity.ERROR, "Task {} failed for good and is in the dead letter"),
    _plain("deliberation.completed", Severity.INFO, "Deliberation {} has a decision"),
    _plain("deliberation.input_required", Severity.WARNING, "Deliberation {} asks a person"),
    _plain("deliberation.cancelled", Severity.INFO, "Deliberation {} was cancelled"),
    _plain("deliberation.failed", Severity.ERROR, "Deliberation {} failed"),
    _plain("deliberation.sla_warning", Severity.WARNING, "Deliberation {} has used 80 % of its time"),
    _plain("deliberation.sla_critical", Severity.ERROR, "Deliberation {} has used 95 % of its time"),
    _plain("deliberation.sla_violated", Severity.CRITICAL, "Deliberation {} has used more than its time"),
    _plain("agent.registered", Severity.INFO, "Agent {} was registered"),
    _plain("agent.unregistered", Severity.INFO, "Agent {} was deregistered"),
    _chosen("agent.alive", Severity.INFO, "Agent {} is alive", *_STATUS, Liveness.ALIVE),
    _chosen("agent.suspect", Severity.WARNING, "Agent {} has fallen silent", *_STATUS, Liveness.SUSPECT),
    _chosen("agent.offline", Severity.ERROR, "Agent {} is offline", *_STATUS, Liveness.OFFLINE),
    _chosen("agent.healthy", Severity.INFO, "Agent {} is healthy", *_STATUS, Health.HEALTHY),
    _chosen("agent.degraded", Severity.WARNING, "Agent {} is degraded", *_STATUS, Health.DEGRADED),
    _chosen("agent.failed", Severity.ERROR, "Agent {} has failed its probes", *_STATUS, Health.FAILED),
    _chosen("breaker.opened", Severity.ERROR, "The breaker of {} has opened", *_BREAKER, BreakerState.OPEN),
    _chosen("breaker.closed", Severity.INFO, "The breaker of {} has closed", *_BREAKER, BreakerState.CLOSED),
    _chosen("workflow.completed", Severity.INFO, "Run {} of a workflow is completed", *_RUN, "completed"),
    _chosen("workflow.cancelled", Severity.INFO, "Run {} of a workflow was cancelled", *_RUN, "cancelled"),
    _chosen("workflow.failed", Severity.ERROR, "Run {} of a workflow failed", *_RUN, "failed"),
    _plain("schedule.fired", Severity.INFO, "Schedule {} has started a run"),
    _plain("schedule.skipped", Severity.WARNING, "Schedule {} has skipped runs"),
    _chosen("budget.half_used", Severity.INFO, "Half of budget {} is used", *_LEVEL, 50),
    _chosen("budget.mostly_used", Severity.WARNING, "Three quarters of budget {} are used", *_LEVEL, 75),
    _chosen("budget.nearly_used", Severity.ERROR, "Nine tenths of budget {} are used", *_LEVEL, 90),
    _chosen("budget.used", Severity.CRITICAL, "Budget {} is used up", *_LEVEL, 100),
    _plain("control.paused", Severity.WARNING, "{} was paused"),
    _plain("control.resumed", Severity.INFO, "{} was resumed"),
)

#: What a test of a channel is told as. No rule chooses it.
TEST: Final = "notification.test"
#: What a digest is told as, which has a title of its own.
DIGEST: Final = "notification.digest"
TITLES: Final[Mapping[str, str]] = {
    **{event.name: event.title for event in EVENT_TYPES},
    TEST: "This is a test of the channel {}",
}
#: The kinds of rows that are read.
KINDS: Final = tuple(sorted({event.kind for event in EVENT_TYPES}))


def event_of(kind: str, data: Mapping[str, Any]) -> EventType | None:
    """The event that a row is; None if it is none."""
    return next((event for event in EVENT_TYPES if event.matches(kind, data)), None)
