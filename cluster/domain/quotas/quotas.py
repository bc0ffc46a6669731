"""The quotas of a workspace: how many agents it may have, how many of its tasks may wait and run, how fast it may submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import Forbidden, RateLimited
from cluster.domain.base.log import LogRecord, LogTexts, Origin, record_for

CHANGED: Final = "quota.changed"
#: The rows that say what quotas there are.
CHANGES: Final = (CHANGED,)
#: No quota is more than this: a submit under a quota counts the tasks that wait, up to it.
MOST: Final = 1_000_000
#: When a submit is worth another try after the tasks that wait were too many, in seconds.
QUEUE_RETRY_S: Final = 5
#: Rows of quotas have numbers only.
LOG_TEXTS: LogTexts = {}

EXCEEDED: Final = "quota_exceeded"


class QuotaKind(StrEnum):
    """What a quota bounds: registered agents, tasks that wait, tasks that run, submits in a minute."""

    AGENTS = "agents"
    QUEUED_TASKS = "queued_tasks"
    RUNNING_TASKS = "running_tasks"
    SUBMITS_PER_MINUTE = "submits_per_minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """All quotas of a workspace. None: that is not bounded. Version 0 is a workspace for which none were ever set."""

    workspace: str
    agents: int | None = None
    queued_tasks: int | None = None
    running_tasks: int | None = None
    submits_per_minute: int | None = None
    version: int = 0
    changed_at: float = 0.0
    changed_by: str = ""

    @property
    def id(self) -> str:
        """What its rows name."""
        return self.workspace

    def changed(self, fields: Mapping[QuotaKind, int | None], by: str, now: float) -> Quotas:
        """The next version, with these quotas; others stay."""
        named: dict[str, Any] = {kind.value: value for kind, value in fields.items()}
        return replace(self, version=self.version + 1, changed_at=now, changed_by=by, **named)

    def of(self, kind: QuotaKind) -> int | None:
        """One of them."""
        value: int | None = getattr(self, kind.value)
        return value

    def record(self, origin: Origin) -> LogRecord:
        """The row of the change that made this version. It has all of them, so that a shard that follows the log needs no second
        read."""
        data = {**{kind.value: self.of(kind) for kind in QuotaKind}, "version": self.version}
        return record_for(replace(origin, workspace=self.workspace), self.changed_at, CHANGED, self.workspace, data)

    @classmethod
    def from_log(cls, workspace: str, at: float, principal: str, data: Mapping[str, Any]) -> Quotas:
        """The quotas of a row that changed them."""
        limits = {kind.value: data[kind.value] for kind in QuotaKind}
        return cls(workspace=workspace, version=data["version"], changed_at=at, changed_by=principal, **limits)


@dataclass(frozen=True, slots=True)
class OverQuota:
    """A quota leaves no room: ``used`` of ``limit`` are used."""

    kind: QuotaKind
    limit: int
    used: int

    @property
    def details(self) -> Mapping[str, Any]:
        """For the answer."""
        return {"quota": self.kind.value, "limit": self.limit, "used": self.used}


class QuotaExceeded(Forbidden):
    """What a quota refuses until somebody makes room or has it raised. ``details`` are for the answer."""

    default_code = EXCEEDED

    def __init__(self, message: str, code: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, code)
        self.args = (message, code, details)  # what pickle calls the class with
        self.details = dict(details or {})


class QuotaFull(RateLimited):
    """What a quota refuses for now: the same call may be taken after ``retry_after_s``. ``details`` are for the answer."""

    default_code = EXCEEDED

    def __init__(
        self,
        message: str,
        code: str | None = None,
        retry_after_s: int = QUEUE_RETRY_S,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code, retry_after_s)
        self.args = (message, code, retry_after_s, details)
        self.details = dict(details or {})


def too_many_agents(workspace: str, over: OverQuota) -> QuotaExceeded:
    """The refusal of a registration."""
    return QuotaExceeded(
        f"The workspace {workspace} has {over.used} agents, and its quota agents is {over.limit}; deregister some first, or have "
        "the quota raised.",
        details=over.details,
    )


def too_many_waiting(workspace: str, over: OverQuota, tasks: int) -> QuotaExceeded | QuotaFull:
    """The refusal of a submit of so many tasks at once: for good if they are more than may ever wait."""
    if tasks > over.limit:
        return QuotaExceeded(
            f"These are {tasks} tasks at once, and the quota queued_tasks of the workspace {workspace} is {over.limit}; submit "
            "fewer at once, or have the quota raised.",
            details=over.details,
        )
    return QuotaFull(
        f"{over.used} tasks of the workspace {workspace} wait, and its quota queued_tasks is {over.limit}; submit again when "
        "some have started, or have the quota raised.",
        details=over.details,
    )


def too_fast(workspace: str, limit: int, tasks: int, retry_after_s: int) -> QuotaExceeded | QuotaFull:
    """The refusal of a submit of so many tasks at once: for good if they are more than a minute's."""
    kind = QuotaKind.SUBMITS_PER_MINUTE
    details = {"quota": kind.value, "limit": limit}
    if tasks > limit:
        return QuotaExceeded(
            f"These are {tasks} tasks at once, and the quota {kind} of the workspace {workspace} is {limit}; submit fewer at "
            "once, or have the quota raised.",
            details=details,
        )
    return QuotaFull(
        f"The quota {kind} of the workspace {workspace} is {limit}, which is used up; submit again after the time in "
        "Retry-After, or have the quota raised.",
        retry_after_s=retry_after_s,
        details=details,
    )
