"""What a task is: the closed sets, the values that travel, and the part of it that the scheduler keeps in memory.

``Task`` is the whole object as readers see it. ``TaskHead`` is the small part that decides order, leases and retries:
the state of the task machine (``machine.py``) and what a scheduler shard holds for each open task. A
``TaskDecision`` is one transition on its way to the store: the new head, what it expects to replace, and its log row.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogRecord, LogTexts, Origin
from cluster.domain.tasks.order_key import OrderKey
from cluster.domain.tasks.rules import Affinity, TaskRules


class TaskStatus(StrEnum):
    """The six statuses of the wire; what is finer is ``TaskDetail``."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def terminal(self) -> bool:
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


#: A question to an agent that pulls, as a task.
PULL_CALL_TYPE = "deliberation.turn"


class TaskDetail(StrEnum):
    """``status_detail`` on the wire."""

    QUEUED = "queued"
    DELAYED = "delayed"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Priority(IntEnum):
    LOW = 0
    NORMAL = 50
    HIGH = 75
    URGENT = 100

    @classmethod
    def parse(cls, name: object) -> Priority:
        if isinstance(name, str) and name.upper() in cls.__members__:
            return cls[name.upper()]
        raise InvalidRequest("priority must be one of low, normal, high, urgent.", "invalid_priority")

    @property
    def wire_name(self) -> str:
        return self.name.lower()


#: Of a head and its rules, as a new task's row carries them.
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("task_type", "required_capabilities", "target_agent", "queue", "replay_of"), IDENTITY),
    **dict.fromkeys(("tenant", "concurrency_key", "excluded_agents", "regions", "after"), IDENTITY),
    "affinity": frozenset(Affinity),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """Scope is workspace + route; ``body_digest`` is SHA-256 of the canonical body."""

    route: str
    key: str
    body_digest: bytes


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A validated submit. Times are epoch seconds; ``run_at`` None means as soon as possible."""

    id: str
    origin: Origin
    task_type: str
    created_at: float
    payload: Any = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    required_capabilities: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    timeout_s: float = 300.0
    max_retries: int = 3
    run_at: float | None = None
    queue: str = "default"
    target_agent: str | None = None
    target_region: str | None = None
    fallback_regions: tuple[str, ...] = ()
    region_routing_mode: str = "any"
    origin_region: str = "default"
    rules: TaskRules | None = None
    replay_of: str | None = None

    def head(self) -> TaskHead:
        delayed = self.run_at is not None and self.run_at > self.created_at
        return TaskHead(
            id=self.id,
            workspace=self.origin.workspace,
            task_type=self.task_type,
            priority=int(self.priority),
            required=frozenset(self.required_capabilities),
            target_agent=self.target_agent,
            queue=self.queue,
            created_at=self.created_at,
            run_at=self.run_at if delayed and self.run_at is not None else self.created_at,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
            status=TaskStatus.PENDING,
            detail=_first_detail(self.rules, delayed),
            rules=self.rules,
        )

    def record(self, head: TaskHead | None = None) -> LogRecord:
        """The ``task.submitted`` row carries the head, so that a shard that follows the log needs no second read."""
        data = (head or self.head()).to_log()
        if self.replay_of is not None:
            data["replay_of"] = self.replay_of
        return LogRecord(
            at=self.created_at,
            workspace=self.origin.workspace,
            kind="task.submitted",
            entity=self.id,
            attempt=0,
            principal=self.origin.principal,
            cause=self.origin.cause,
            data=data,
        )


def _first_detail(rules: TaskRules | None, delayed: bool) -> TaskDetail:
    """A task that runs after others is blocked until the shard has seen how they ended."""
    if rules is not None and rules.after:
        return TaskDetail.BLOCKED
    return TaskDetail.DELAYED if delayed else TaskDetail.QUEUED


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead:
    """State of the task machine. ``attempt`` counts claims (0 before the first); ``run_at`` is the earliest start.

    ``holder`` is the principal that claimed; ``claim_id`` the caller's own name for that claim. ``order_key`` is where it was
    put in its line, instead of where its age puts it.
    """

    id: str
    workspace: str
    task_type: str
    priority: int
    required: frozenset[str]
    target_agent: str | None
    queue: str
    created_at: float
    run_at: float
    timeout_s: float
    max_retries: int
    status: TaskStatus
    detail: TaskDetail
    attempt: int = 0
    retries: int = 0
    assigned_agent: str | None = None
    claim_id: str | None = None
    holder: str | None = None
    started_at: float | None = None
    rules: TaskRules | None = None
    order_key: OrderKey | None = None

    @property
    def tenant(self) -> str:
        """Whose turn it is to be: the workspace, unless the task names somebody."""
        return self.workspace if self.rules is None or self.rules.tenant is None else self.rules.tenant

    def to_log(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "task_type": self.task_type,
            "priority": self.priority,
            "required_capabilities": sorted(self.required),
            "run_at": self.run_at,
            "timeout_seconds": self.timeout_s,
            "max_retries": self.max_retries,
        }
        if self.target_agent is not None:
            data["target_agent"] = self.target_agent
        if self.queue != "default":
            data["queue"] = self.queue
        if self.rules is not None:
            data["rules"] = self.rules.to_json()
        return data

    @classmethod
    def from_log(cls, entity: str, workspace: str, at: float, data: Mapping[str, Any]) -> TaskHead:
        run_at = float(data["run_at"])
        rules = TaskRules.from_json(data["rules"]) if "rules" in data else None
        return cls(
            id=entity,
            workspace=workspace,
            task_type=data["task_type"],
            priority=int(data["priority"]),
            required=frozenset(data["required_capabilities"]),
            target_agent=data.get("target_agent"),
            queue=data.get("queue", "default"),
            created_at=at,
            run_at=run_at,
            timeout_s=float(data["timeout_seconds"]),
            max_retries=int(data["max_retries"]),
            status=TaskStatus.PENDING,
            detail=_first_detail(rules, run_at > at),
            rules=rules,
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDecision:
    """One transition on its way to the store: written only if status and attempt are still the expected ones.

    ``result_json`` and ``error`` are written when not None. ``want_body`` asks for payload and metadata of the row.
    """

    head: TaskHead
    expect_status: TaskStatus
    expect_attempt: int
    record: LogRecord
    completed_at: float | None = None
    result_json: str | None = None
    error: str | None = None
    want_body: bool = False


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Outcome of one decision. Not applied: the stored row had another status or attempt."""

    applied: bool
    seq: int | None = None
    payload: Any = None
    metadata: Mapping[str, Any] | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """``replayed``: an earlier submit under the same key; ``conflict``: same key, another body (nothing written)."""

    task_id: str
    seq: int | None
    replayed: bool = False
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as readers see it (wire.md 1.4), times in epoch seconds."""

    id: str
    workspace: str
    task_type: str
    payload: Any
    metadata: Mapping[str, Any]
    required_capabilities: tuple[str, ...]
    priority: int
    status: TaskStatus
    status_detail: TaskDetail
    created_at: float
    run_at: float
    assigned_at: float | None
    started_at: float | None
    completed_at: float | None
    assigned_agent: str | None
    claim_id: str | None
    holder: str | None
    attempt: int
    retries: int
    max_retries: int
    timeout_s: float
    result: Any
    error: str | None
    queue: str
    target_agent: str | None
    target_region: str | None
    fallback_regions: tuple[str, ...]
    region_routing_mode: str
    origin_region: str
    principal: str
    rules: TaskRules | None = None
    replayed_as: str | None = None
    purged_at: float | None = None
    order_key: OrderKey | None = None
    #: Filled in for readers: not a fact of the task, but of the agent that has it.
    assigned_region: str | None = None

    def as_of(self, now: float) -> Task:
        """A delay that is over needs no event: the task is queued from then on."""
        over = self.status_detail is TaskDetail.DELAYED and self.run_at <= now
        return replace(self, status_detail=TaskDetail.QUEUED) if over else self

    def head(self) -> TaskHead:
        return TaskHead(
            id=self.id,
            workspace=self.workspace,
            task_type=self.task_type,
            priority=self.priority,
            required=frozenset(self.required_capabilities),
            target_agent=self.target_agent,
            queue=self.queue,
            created_at=self.created_at,
            run_at=self.run_at,
            timeout_s=self.timeout_s,
            max_retries=self.max_retries,
            status=self.status,
            detail=self.status_detail,
            attempt=self.attempt,
            retries=self.retries,
            assigned_agent=self.assigned_agent,
            claim_id=self.claim_id,
            holder=self.holder,
            started_at=self.started_at,
            rules=self.rules,
            order_key=self.order_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseToken:
    """Names task, attempt and holder; no epoch and no generation, so that it outlives restarts of everything."""

    task_id: str
    attempt: int
    agent_id: str

    def encode(self) -> str:
        text = f"{self.attempt}|{self.agent_id}|{self.task_id}"
        return "lt1." + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: object) -> LeaseToken:
        if isinstance(token, str) and token.startswith("lt1."):
            raw = token[4:]
            try:
                text = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()
                attempt, agent_id, task_id = text.split("|")
                return cls(task_id=task_id, attempt=int(attempt), agent_id=agent_id)
            except ValueError:
                pass
        raise InvalidRequest("lease_token must be the token that the claim answered, unchanged.", "invalid_lease_token")
