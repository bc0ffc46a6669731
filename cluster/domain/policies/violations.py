"""A violation: a submit that was against a policy, and what people made of it since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, SYSTEM, LogRecord, LogTexts, Origin, record_for
from cluster.domain.policies.policy import Enforcement

RECORDED: Final = "policy.violation"
#: Of a task that is there since somebody who may has overridden the soft policies that it is against.
OVERRIDDEN: Final = "policy.violation_overridden"
CHANGED: Final = "policy.violation_updated"
#: A row of this kind lists violations that are not kept any more.
REMOVED: Final = "policy.violations_removed"
#: Characters of the notes about one.
MOST_NOTES: Final = 4_000


class ViolationType(StrEnum):
    """What of a policy the submit was against."""

    AGENT = "agent"
    REGION = "region"
    SLA = "sla"
    CONDITION = "condition"


class ViolationStatus(StrEnum):
    """What people made of a violation."""

    OPEN = "open"
    INVESTIGATING = "investigating"
    RESOLVED = "resolved"
    FALSE_POSITIVE = "false_positive"

    @property
    def is_settled(self) -> bool:
        """Whether nobody has to look at it any more."""
        return self in (ViolationStatus.RESOLVED, ViolationStatus.FALSE_POSITIVE)


LOG_TEXTS: LogTexts = {
    "policy_id": IDENTITY,
    "task_id": IDENTITY,
    "violation_ids": IDENTITY,
    "erasure": IDENTITY,
    "violation_type": frozenset(ViolationType),
    "enforcement": frozenset(Enforcement),
    "status": frozenset(ViolationStatus),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """``task_id`` is None if the submit was refused, so that there is no task. ``agent_id`` and ``region`` are those that the
    submit named and the policy forbids. ``principal`` submitted. Times are epoch seconds. Of one that was overridden,
    ``resolution_notes`` begin as the reason that was given."""

    id: str
    workspace: str
    policy_id: str
    policy_version: int
    policy_name: str
    violation_type: ViolationType
    enforcement: Enforcement
    description: str
    principal: str
    task_type: str
    task_id: str | None = None
    agent_id: str | None = None
    region: str | None = None
    at: float
    status: ViolationStatus = ViolationStatus.OPEN
    resolved_at: float | None = None
    resolved_by: str | None = None
    resolution_notes: str = ""
    revision: int = 1

    @property
    def is_overridden(self) -> bool:
        """Whether its policy would have refused the submit, and somebody who may has overridden it."""
        return self.enforcement is not Enforcement.WARN and self.task_id is not None

    def changed(self, status: ViolationStatus, notes: str | None, by: str, now: float) -> Violation:
        """The violation with another status. Who settled it and when stays while it is settled, and goes when it is opened again;
        ``notes`` None leaves those that there are.

        Raises: `InvalidRequest` if the notes are too long."""
        if notes is not None and len(notes) > MOST_NOTES:
            raise InvalidRequest(f"resolution_notes must have at most {MOST_NOTES:,} characters.", "invalid_request")
        at, who = (None, None) if not status.is_settled else (now, by)
        if status.is_settled and self.status.is_settled:
            at, who = self.resolved_at, self.resolved_by
        return replace(
            self,
            status=status,
            resolved_at=at,
            resolved_by=who,
            resolution_notes=self.resolution_notes if notes is None else notes,
            revision=self.revision + 1,
        )

    def record(self, origin: Origin, kind: str, now: float) -> LogRecord:
        """The row that says that it was recorded or changed; what it is about in words is apart."""
        data = {
            "policy_id": self.policy_id,
            "version": self.policy_version,
            "violation_type": self.violation_type.value,
            "enforcement": self.enforcement.value,
            "status": self.status.value,
        }
        task = {} if self.task_id is None else {"task_id": self.task_id}
        words = {"description": self.description}
        if kind == OVERRIDDEN:
            words["reason"] = self.resolution_notes
        return record_for(origin, now, kind, self.id, data | task, words)


def repeatable_id(*parts: str) -> str:
    """The id of what a submit under an idempotency key was against, so that a repeat of the submit records nothing again."""
    return f"violation_{hashlib.sha256(chr(31).join(parts).encode()).hexdigest()[:26]}"


def removing(workspace: str, ids: Sequence[str], now: float) -> LogRecord:
    """The row of a commit that deletes violations for their age."""
    origin = Origin(workspace=workspace, principal=SYSTEM)
    return record_for(origin, now, REMOVED, workspace, {"violation_ids": sorted(ids)})
