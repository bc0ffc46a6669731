"""Bodies and answers about tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    WrapValidator,
    field_validator,
)

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import MAX_ERROR_CHARS
from cluster.domain.base.names import check_key
from cluster.domain.base.versions import MAX_VERSION, check_range
from cluster.domain.policies.violations import MOST_NOTES
from cluster.domain.tasks.progress import MAX_MESSAGE_CHARS, TaskProgress
from cluster.domain.tasks.retries import ErrorClass, TaskRetries, checked_retries
from cluster.domain.tasks.rules import TaskRules, WhenFailed
from cluster.domain.tasks.task import OTHER_TYPES, Priority, Task, TaskStatus
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.schemas.children import ParkInReport, parked_wire
from serve_app.schemas.entries import entry_or_refusal
from serve_app.schemas.fields import (
    MAX_BATCH,
    MAX_EPOCH_S,
    MAX_SECONDS,
    ExactBody,
    Money,
    Names,
    RequestBody,
    Seconds,
    Text,
    Version,
    Word,
    Words,
    agent_name,
    iso_time,
)
from serve_app.schemas.questions import AskInReport, InputRequired, question_wire

MAX_CLAIM = 100
#: Most task types, and most queues, that one claim may name.
MAX_NAMED = 256


MAX_BLOCK_MS = LONGEST_WAIT_S * 1000


class After(ExactBody):
    """A dependency: the task ``id`` must end first. ``when_failed`` says what happens if it ends without a result."""

    id: str
    when_failed: WhenFailed = WhenFailed.FAIL

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        return check_id(value, "after")


#: Names what failed, for programs.
ErrorCode = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]


class Retry(ExactBody):
    """How a task is tried again, instead of as usual: how many ``attempts`` may end badly in all; the wait after the first of
    them, by what each later one is longer, and the longest; the codes of failures (`error_code`, an error class, or
    `run_timeout`) that end the task; how many ``calls`` one attempt may make of an agent that is unavailable."""

    attempts: int | None = Field(None, ge=1, le=101)
    initial_seconds: float | None = Field(None, ge=0, le=86_400)
    factor: float | None = Field(None, ge=1, le=100)
    cap_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    non_retryable: list[ErrorCode] = Field([], max_length=64)
    calls: int = Field(1, ge=1, le=10)

    def to_domain(self) -> TaskRetries | None:
        """The part of it that is among the task's rules. Raises: `InvalidRequest` if it contradicts itself."""
        return checked_retries(
            TaskRetries(
                initial_s=self.initial_seconds,
                factor=self.factor,
                cap_s=self.cap_seconds,
                non_retryable=tuple(sorted(set(self.non_retryable))),
                calls=self.calls,
            )
        )


def retry_wire(retries: TaskRetries, max_retries: int) -> dict[str, Any]:
    """What a task asks for; what is as usual is left out."""
    fields = {
        "attempts": max_retries + 1,
        "initial_seconds": retries.initial_s,
        "factor": retries.factor,
        "cap_seconds": retries.cap_s,
        "non_retryable": list(retries.non_retryable) or None,
        "calls": None if retries.calls == 1 else retries.calls,
    }
    return {name: value for name, value in fields.items() if value is not None}


class TaskFields(RequestBody):
    """What a task asks for, whoever submits it and whenever."""

    task_type: Words
    required_capabilities: Names = []
    priority: str = "normal"
    timeout_seconds: float | None = Field(None, gt=0, le=30 * 86_400)
    max_retries: int | None = Field(None, ge=0, le=100)
    retry: Retry | None = None
    metadata: dict[str, Any] = {}
    queue: str = "default"
    tenant: str | None = None
    queue_timeout_seconds: Seconds | None = None
    total_timeout_seconds: Seconds | None = None
    concurrency_key: Words | None = None
    concurrency_limit: int = Field(1, ge=1, le=1_000_000)
    target_agent: str | None = None
    excluded_agents: Names = []
    target_region: Word | None = None
    fallback_regions: Names = []
    region_routing_mode: Literal["any", "preferred", "strict"] = "any"
    worker_version: Text | None = Field(None, min_length=1, max_length=MAX_VERSION)
    sticky_key: Words | None = None
    input_required: InputRequired | None = None

    @field_validator("worker_version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        return None if value is None else check_range(value)

    @field_validator("task_type")
    @classmethod
    def _type(cls, value: str) -> str:
        if value == OTHER_TYPES:
            raise InvalidRequest(
                f"task_type must not be {OTHER_TYPES!r}, which counts use for the types beyond a bound."
            )
        return value

    @field_validator("priority")
    @classmethod
    def _priority(cls, value: str) -> str:
        return Priority.parse(value).wire_name

    @field_validator("target_agent")
    @classmethod
    def _target(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "target_agent")

    @field_validator("queue")
    @classmethod
    def _queue(cls, value: str) -> str:
        return check_id(value, "queue")

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "tenant")


class PolicyOverride(ExactBody):
    """Why soft policies that refuse the task are put aside: words for whoever reads the audit."""

    reason: Text = Field(min_length=1, max_length=MOST_NOTES)

    @field_validator("reason")
    @classmethod
    def _reason(cls, value: str) -> str:
        if not value.strip():
            raise InvalidRequest("policy_override.reason must say why.", "invalid_request")
        return value


class CreateTask(TaskFields):
    """``run_at`` is epoch seconds, ``delay_seconds`` counts from now; give at most one of them.

    ``timeout_seconds`` bounds one attempt, ``queue_timeout_seconds`` each wait for an agent, and ``total_timeout_seconds``
    the time from submit to end. ``after`` names tasks that must end first; an id alone means that this task fails if that
    one does. ``parent_task_id``: the task whose child it is. ``policy_override``: why it is submitted although soft policies
    refuse it.
    """

    younger = frozenset(
        {"retry", "sticky_key", "worker_version", "input_required", "parent_task_id", "policy_override"}
    )

    payload: Any = {}
    run_at: float | None = Field(None, ge=0, le=MAX_EPOCH_S)
    delay_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    after: list[str | After] = Field([], max_length=1000)
    parent_task_id: str | None = None
    policy_override: PolicyOverride | None = None
    idempotency_key: Text | None = Field(None, min_length=1, max_length=255)

    @field_validator("parent_task_id")
    @classmethod
    def _parent(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "parent_task_id")

    @field_validator("idempotency_key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        return None if value is None else check_key(value, "idempotency_key")

    @field_validator("after")
    @classmethod
    def _after(cls, value: list[str | After]) -> list[After]:
        return [After(id=check_id(edge, "after")) if isinstance(edge, str) else edge for edge in value]


class CreateTasks(RequestBody):
    tasks: list[CreateTask] = Field(min_length=1, max_length=MAX_BATCH)


class CreateChildren(CreateTasks):
    """Children of the task whose lease the caller holds (``lease_token``)."""

    lease_token: Text = Field(max_length=1024)


class Claim(RequestBody):
    agent_id: str
    capabilities: Names | None = None
    block_ms: int = Field(5000, ge=0)
    max_tasks: int | None = Field(None, ge=1, le=MAX_CLAIM)
    claim_id: str | None = None
    task_types: list[Words] | None = Field(None, min_length=1, max_length=MAX_NAMED)
    queues: list[str] | None = Field(None, min_length=1, max_length=MAX_NAMED)
    version: Version | None = None

    _check = field_validator("agent_id")(agent_name)

    @field_validator("queues")
    @classmethod
    def _queues(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else [check_id(queue, "queues") for queue in value]

    @field_validator("claim_id")
    @classmethod
    def _claim(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "claim_id")


class Complete(RequestBody):
    """``cost_usd``: what the attempt has cost, in US dollars as a text, for budgets."""

    result: Any = None
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    lease_token: Text | None = Field(None, max_length=1024)
    cost_usd: Money | None = None


class Fail(RequestBody):
    """A failed attempt. ``error_class`` retryable, malformed and rate_limited let the task be tried again; not_retryable
    ends it, as ``requeue`` false does, and as an ``error_code`` does that the task's ``retry`` calls non-retryable. The next
    attempt waits for ``retry_after_seconds`` at least (up to a bound), and longer after ``rate_limited``. ``released``: it has
    not failed, the holder gives it back unfinished; it costs no retry. ``cost_usd``: what the attempt has cost."""

    error: Text | None = Field(None, max_length=MAX_ERROR_CHARS)
    released: bool = False
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    requeue: bool = True
    error_class: ErrorClass = ErrorClass.RETRYABLE
    retry_after_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    error_code: ErrorCode | None = None
    lease_token: Text | None = Field(None, max_length=1024)
    cost_usd: Money | None = None


class CancelAcknowledgement(RequestBody):
    """Says that the agent has stopped working on a task that is being cancelled, and what that has cost (``cost_usd``)."""

    agent_id: Text | None = Field(None, max_length=128)
    lease_token: Text | None = Field(None, max_length=1024)
    cost_usd: Money | None = None


class Extend(RequestBody):
    """A renewal of a lease, with what its holder reports of its progress: ``percent`` done, a ``message`` for people, and a
    ``checkpoint`` (any JSON up to a bound) from which the next attempt can go on. What is left out, or null, stays as it was."""

    lease_token: Text = Field(max_length=1024)
    percent: float | None = Field(None, ge=0, le=100)
    message: Text | None = Field(None, max_length=MAX_MESSAGE_CHARS)
    checkpoint: Any = None


class Prioritize(RequestBody):
    """Fields that are left out stay as they are. ``position`` counts the waiting tasks of the same sub-queue and priority
    from 1; 0 means 1."""

    task_id: str
    priority: str | None = None
    position: int | None = Field(None, ge=0, le=10_000)


class Report(RequestBody):
    """One report of a batch: a failure if it has ``error``, the answer to a cancel if it has ``stopped``, given back
    unfinished if it has ``released``, with a question to people if it has ``ask``, or until children have ended if it has
    ``park``. ``cost_usd``: what the attempt has cost."""

    task_id: str
    result: Any = None
    error: Text | None = Field(None, max_length=MAX_ERROR_CHARS)
    requeue: bool = True
    error_class: ErrorClass = ErrorClass.RETRYABLE
    retry_after_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    error_code: ErrorCode | None = None
    stopped: bool = False
    released: bool = False
    ask: AskInReport | None = None
    park: ParkInReport | None = None
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    lease_token: Text | None = Field(None, max_length=1024)
    cost_usd: Money | None = None


class RefusedReport(Report):
    """A report that does not validate, with the reason. ``named`` is the text that it has as its task's id, if it has one."""

    named: str | None
    refusal: str
    code: str


def _for_itself(value: Any, validate: Callable[[Any], Report]) -> Report:
    """Validates one report: a bad one must not keep the batch's reports on other tasks from being taken."""
    return entry_or_refusal(value, validate, "task_id", RefusedReport.model_construct)


class Reports(RequestBody):
    reports: list[Annotated[Report, WrapValidator(_for_itself)]] = Field(min_length=1, max_length=MAX_BATCH)


def task_wire(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "task_type": task.task_type,
        "payload": task.payload,
        "required_capabilities": list(task.required_capabilities),
        "status": task.status.value,
        "status_detail": task.status_detail.value,
        "priority": task.priority,
        "created_at": task.created_at,
        "run_at": task.run_at,
        "assigned_at": task.assigned_at,
        "started_at": task.started_at,
        "completed_at": task.completed_at,
        "changed_at": task.changed_at,
        "assigned_agent": task.assigned_agent,
        "timeout_seconds": task.timeout_s,
        "max_retries": task.max_retries,
        "retries": task.retries,
        "attempt": task.attempt,
        "result": task.result,
        "error": task.error,
        "metadata": task.metadata,
        "queue": task.queue,
        "target_agent": task.target_agent,
        "target_region": task.target_region,
        "fallback_regions": list(task.fallback_regions),
        "assigned_region": task.assigned_region,
        "region_routing_mode": task.region_routing_mode,
        "origin_region": task.origin_region,
        **_replay_wire(task),
        **rules_wire(task.rules, task.max_retries),
        **_progress_wire(task.progress),
        **({} if task.question is None else {"question": question_wire(task, task.question)}),
        **({} if task.parked is None else {"parked": parked_wire(task.parked)}),
        **_left_out_wire(task),
        **_redacted_wire(task),
    }


def _progress_wire(progress: TaskProgress | None) -> dict[str, Any]:
    """What holders have reported, and what the next attempt goes on from; nothing if there is none."""
    if progress is None:
        return {}
    wire: dict[str, Any] = {"progress": progress_wire(progress)}
    return wire if progress.checkpoint is None else wire | {"checkpoint": progress.checkpoint}


def progress_wire(progress: TaskProgress) -> dict[str, Any]:
    """How far an attempt is, or was when it last said so."""
    return {
        "attempt": progress.attempt,
        "reported_at": progress.at,
        "percent": progress.percent,
        "message": progress.message,
    }


def _left_out_wire(task: Task) -> dict[str, Any]:
    """Which fields are empty because the list had no room for them."""
    return {"left_out": [body.value for body in task.left_out]} if task.left_out else {}


def _redacted_wire(task: Task) -> dict[str, Any]:
    """Says that payload, result, error and metadata were erased, so that nobody takes them for empty ones."""
    return {} if task.erased_at is None else {"redacted": True}


def _replay_wire(task: Task) -> dict[str, Any]:
    """The id that the task was replayed as, if it was."""
    return {} if task.replayed_as is None else {"replayed_as": task.replayed_as}


def rules_wire(rules: TaskRules | None, max_retries: int) -> dict[str, Any]:
    """The rules that a task was given; what was not set is left out."""
    if rules is None:
        return {}
    fields = {
        "tenant": rules.tenant,
        "queue_timeout_seconds": rules.queue_timeout_s,
        "total_timeout_seconds": rules.total_timeout_s,
        "concurrency_key": rules.concurrency_key,
        "concurrency_limit": rules.concurrency_limit if rules.concurrency_key is not None else None,
        "excluded_agents": list(rules.excluded_agents) or None,
        "retry": None if rules.retries is None else retry_wire(rules.retries, max_retries),
        "worker_version": rules.worker_version,
        "sticky_key": rules.sticky_key,
        "parent_task_id": rules.parent,
        "after": [{"id": edge.after, "when_failed": edge.when_failed.value} for edge in rules.after] or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _name(task: Task) -> str:
    name = task.metadata.get("name")
    return name if isinstance(name, str) else task.task_type


def job_wire(task: Task) -> dict[str, Any]:
    """A row of the queue view."""
    progress = task.metadata.get("progress")
    if not isinstance(progress, int | float):
        progress = 0.5 if task.status is TaskStatus.RUNNING else 0.0
    return {
        "id": task.id,
        "type": task.task_type,
        "name": _name(task),
        "status": task.status.value,
        "status_detail": task.status_detail.value,
        "progress": progress,
        "started_at": iso_time(task.started_at),
        "created_at": iso_time(task.created_at),
        "document_count": task.metadata.get("document_count", 0),
        "agents_assigned": [task.assigned_agent] if task.assigned_agent else [],
        "priority": Priority(task.priority).wire_name,
    }


def history_wire(task: Task) -> dict[str, Any]:
    ended, started = task.completed_at, task.started_at
    return {
        "id": task.id,
        "type": task.task_type,
        "status": task.status.value,
        "status_detail": task.status_detail.value,
        "priority": Priority(task.priority).wire_name,
        "assigned_agent": task.assigned_agent,
        "result": task.result if task.status is TaskStatus.COMPLETED else None,
        "error": task.error,
        "retries": task.retries,
        "duration_ms": (ended - started) * 1000 if ended is not None and started is not None else None,
        "created_at": iso_time(task.created_at),
        "started_at": iso_time(started),
        "completed_at": iso_time(ended),
        "metadata": {
            key: task.metadata[key] for key in ("name", "workspace_id", "user_id", "tags") if key in task.metadata
        },
        **_left_out_wire(task),
        **_redacted_wire(task),
    }
