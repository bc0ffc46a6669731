"""What a task is: its closed sets (status, detail, priority), its values, and the part that the scheduler keeps in memory.

``Task`` is the whole object as readers see it. ``TaskHead`` is the small part that decides order, leases and retries:
the state of the task machine (``machine.py``), and what a scheduler shard keeps of each open task. A
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
from cluster.domain.budgets.entries import Entry
from cluster.domain.quotas.quotas import OverQuota
from cluster.domain.tasks.children import Parked
from cluster.domain.tasks.order_key import OrderKey
from cluster.domain.tasks.progress import TaskProgress
from cluster.domain.tasks.questions import Answer, Asking, Question, TaskQuestion
from cluster.domain.tasks.rules import Affinity, TaskRules


class TaskStatus(StrEnum):
    """The six statuses of the wire; ``TaskDetail`` tells them apart further."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def terminal(self) -> bool:
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


#: Type of the tasks that carry a question of a deliberation to a pull agent (pull calls).
PULL_CALL_TYPE = "deliberation.turn"
#: Type of the tasks that ask a person for a deliberation.
PERSON_TYPE = "deliberation.question"
#: The tasks that belong to a deliberation, are kept for as long as it is open, and erased with it.
OF_DELIBERATIONS = (PULL_CALL_TYPE, PERSON_TYPE)


#: In counts, what the types beyond a bound are counted under. No task that a client submits has this type.
OTHER_TYPES = "(other)"


class TaskDetail(StrEnum):
    """``status_detail`` on the wire."""

    QUEUED = "queued"
    DELAYED = "delayed"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    INPUT_REQUIRED = "input_required"
    WAITING_CHILDREN = "waiting_children"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Priority(IntEnum):
    """The values are stored; each member is one level of the ready queue."""

    LOW = 0
    NORMAL = 50
    HIGH = 75
    URGENT = 100

    @classmethod
    def parse(cls, name: object) -> Priority:
        """The priority of a name, in any case. Raises: `InvalidRequest` if there is none of that name."""
        if isinstance(name, str) and name.upper() in cls.__members__:
            return cls[name.upper()]
        raise InvalidRequest("priority must be one of low, normal, high, urgent.", "invalid_priority")

    @property
    def wire_name(self) -> str:
        return self.name.lower()


#: The texts in the data of ``task.submitted``, which holds a new task's head and its rules.
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("task_type", "required_capabilities", "target_agent", "queue", "replay_of"), IDENTITY),
    "non_retryable": IDENTITY,
    **dict.fromkeys(("tenant", "concurrency_key", "excluded_agents", "regions", "after"), IDENTITY),
    **dict.fromkeys(("worker_version", "sticky_key", "parent"), IDENTITY),
    **dict.fromkeys(("policy_id", "allowed", "blocked", "blocked_regions"), IDENTITY),
    "affinity": frozenset(Affinity),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key is valid within its workspace and route. ``body_digest`` is the SHA-256 of the canonical body."""

    route: str
    key: str
    body_digest: bytes


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A validated submit. Times are epoch seconds; ``run_at`` None means as soon as possible. ``question``: people answer it, and
    the answer is the result."""

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
    question: Question | None = None

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
            detail=_first_detail(self.rules, delayed, self.question is not None),
            rules=self.rules,
            asking=None if self.question is None else self.question.asking,
        )

    def record(self, head: TaskHead | None = None) -> LogRecord:
        """The ``task.submitted`` row. It holds the head, so that a shard that follows the log needs no second read."""
        data = (head or self.head()).to_log()
        if self.replay_of is not None:
            data["replay_of"] = self.replay_of
        if self.question is not None and self.question.answerers:
            data["answerers"] = list(self.question.answerers)
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


def _first_detail(rules: TaskRules | None, delayed: bool, asks: bool) -> TaskDetail:
    """Blocked if the task runs after others, until the shard knows how they ended; else waiting for people, delayed or queued."""
    if rules is not None and rules.after:
        return TaskDetail.BLOCKED
    if asks:
        return TaskDetail.INPUT_REQUIRED
    return TaskDetail.DELAYED if delayed else TaskDetail.QUEUED


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead:
    """State of the task machine. ``attempt`` counts claims (0 before the first); ``run_at`` is the earliest start.

    ``holder`` is the principal that claimed, ``claim_id`` the id of its claim. ``order_key`` is None unless a client moved the
    task within its sub-queue, which is otherwise sorted by age. ``asking``: the question that it waits for, asked at ``run_at``,
    or will ask when it is blocked no more. ``children``: the tasks that it waits for without a lease. ``lost``: how many attempts
    in a row have ended without a report of their holder.
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
    asking: Asking | None = None
    children: tuple[str, ...] = ()
    lost: int = 0

    @property
    def tenant(self) -> str:
        """For whom the task is done, whose share of dispatches it counts for: its workspace unless its rules name a tenant."""
        return self.workspace if self.rules is None or self.rules.tenant is None else self.rules.tenant

    def to_log(self) -> dict[str, Any]:
        """The data of ``task.submitted``: all of a new head that its row's other columns do not hold."""
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
        if self.asking is not None:
            data["asking"] = self.asking.to_json()
        return data

    @classmethod
    def from_log(cls, entity: str, workspace: str, at: float, data: Mapping[str, Any]) -> TaskHead:
        """The head of a task that was just submitted, from its row."""
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
            detail=_first_detail(rules, run_at > at, "asking" in data),
            rules=rules,
            asking=Asking.from_json(data["asking"]) if "asking" in data else None,
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDecision:
    """One transition on its way to the store, which writes it only if status and attempt are still the expected ones.

    ``result_json`` and ``error`` are written if they are not None.
    ``question`` is asked by the attempt that the decision ends; ``answer`` is that to the question of the present attempt.
    ``children``: what the attempt that the decision ends waits for.
    ``entry`` is what the attempt that it starts reserves, or the one that it ends has cost; None if no budget counts it.
    """

    head: TaskHead
    expect_status: TaskStatus
    expect_attempt: int
    record: LogRecord
    completed_at: float | None = None
    result_json: str | None = None
    error: str | None = None
    question: Question | None = None
    answer: Answer | None = None
    children: tuple[str, ...] = ()
    entry: Entry | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The outcome of one decision. ``applied`` is false if the stored row had another status or attempt."""

    applied: bool
    seq: int | None = None


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The outcome of one submit. ``replayed``: the idempotency key was used before with the same body, and ``task_id`` is the
    task of then. ``conflict``: it was used with another body, and nothing was written. ``over``: the quota that leaves no room
    for it, and nothing was written."""

    task_id: str
    seq: int | None
    replayed: bool = False
    conflict: bool = False
    over: OverQuota | None = None


class Body(StrEnum):
    """What people and agents wrote into a task: up to megabytes each."""

    PAYLOAD = "payload"
    METADATA = "metadata"
    RESULT = "result"


ALL_BODIES = frozenset(Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as readers see it. Times are epoch seconds."""

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
    #: When its payload, result, error and metadata were erased; None if they were not.
    erased_at: float | None = None
    #: Since when it asks people; None if it does not.
    asks_since: float | None = None
    order_key: OrderKey | None = None
    #: What its holders have reported while they worked; None if nothing, and in lists.
    progress: TaskProgress | None = None
    #: What it asks people, or has asked last; None if nothing, and in lists.
    question: TaskQuestion | None = None
    #: The children that it waits for, or has waited for last; None if for none, and in lists.
    parked: Parked | None = None
    #: The region of the assigned agent. Routes fill it in; it is not stored with the task.
    assigned_region: str | None = None
    #: Bodies that the list with this task has no room for. They are empty here, whatever they are.
    left_out: tuple[Body, ...] = ()

    @property
    def changed_at(self) -> float:
        """When it ended, else asked people, else began, else was submitted, in epoch seconds: what lists in the order of changes
        go by."""
        if self.asks_since is not None:
            return self.asks_since
        if self.completed_at is not None:
            return self.completed_at
        return self.created_at if self.started_at is None else self.started_at

    def as_of(self, now: float) -> Task:
        """The task as a reader sees it at ``now``: queued, if its delay is over. No event is stored for the end of a delay."""
        over = self.status_detail is TaskDetail.DELAYED and self.run_at <= now
        return replace(self, status_detail=TaskDetail.QUEUED) if over else self

    def asking(self) -> Asking | None:
        """What decides about the question that it waits with; None if it asks nobody."""
        asked = self.question
        return asked.question.asking if asked and asked.attempt == self.attempt and asked.verdict is None else None

    def waits_for(self) -> tuple[str, ...]:
        """The children that it waits for now."""
        is_parked = self.status_detail is TaskDetail.WAITING_CHILDREN and self.parked is not None
        return self.parked.children if is_parked and self.parked is not None else ()

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
            asking=self.asking(),
            children=self.waits_for(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseToken:
    """Names task, attempt and agent. It has no epoch and no generation, so that it stays valid when anything restarts."""

    task_id: str
    attempt: int
    agent_id: str

    def encode(self) -> str:
        text = f"{self.attempt}|{self.agent_id}|{self.task_id}"
        return "lt1." + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: object) -> LeaseToken:
        """The token of its text. Raises: `InvalidRequest` if it is not such a text."""
        if isinstance(token, str) and token.startswith("lt1."):
            raw = token[4:]
            try:
                text = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()
                attempt, agent_id, task_id = text.split("|")
                return cls(task_id=task_id, attempt=int(attempt), agent_id=agent_id)
            except ValueError:
                pass
        raise InvalidRequest("lease_token must be the one from the claim's answer, unchanged.", "invalid_lease_token")
