"""Bodies of the API: what is accepted (validated once, here) and how domain values look on the wire.

Field names, defaults and shapes are the released client's (Aragora wire). Unknown fields are ignored, because the
client turns any keyword argument into a field; unknown values are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
)

from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_json, shown_text
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.rules import WhenFailed
from cluster.domain.tasks.task import Priority, Task, TaskStatus
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.errors import problem_of

MAX_BATCH = 1000
MAX_CLAIM = 100
MAX_BLOCK_MS = LONGEST_WAIT_S * 1000
#: The last second of the year 9999: what every notation of a time can hold.
MAX_EPOCH_S = 253_402_300_799


def _storable(value: str, info: ValidationInfo) -> str:
    check_json(value, info.field_name or "text")
    return value


#: Query parameter: how many rows to leave out.
Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]
#: Text that the stores can hold.
Text = Annotated[str, AfterValidator(_storable)]
Word = Annotated[Text, Field(min_length=1, max_length=128)]
Words = Annotated[Text, Field(min_length=1, max_length=256)]
Names = Annotated[list[Word], Field(max_length=64)]
MAX_SECONDS = 366 * 86_400.0
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _agent_id(value: str) -> str:
    return check_id(value, "agent_id")


class Price(Body):
    """Per million tokens."""

    input_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    output_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")


class Rate(Body):
    """A token bucket: ``per_minute`` calls on average, ``burst`` at once."""

    per_minute: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    burst: int = Field(1, ge=1, le=100_000)


def _amount(value: float) -> float:
    """Ray counts resources in ten thousandths."""
    if round(value, 4) != value:
        raise ValueError("at most four decimals")
    return value


def _resource_name(value: str) -> str:
    if value in ("CPU", "GPU", "memory", "object_store_memory"):
        raise ValueError(f"{value} has a field of its own or cannot be asked for")
    return value


Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(_amount)]
ResourceName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_][\w.:\-]*$"), AfterValidator(_resource_name)]


class RegisterAgent(Body):
    """``endpoint`` and ``transport`` make a push agent; without them the agent pulls work by claiming.

    ``import_path`` (``module:Class``) runs a Python class in the cluster. ``dedicated`` gives the agent a Ray actor of
    its own, which declares ``num_cpus``, ``num_gpus``, ``memory`` (bytes) and custom ``resources`` to Ray.
    """

    agent_id: str
    capabilities: Names = []
    model: Text = Field("unknown", max_length=256)
    provider: Text = Field("unknown", max_length=128)
    metadata: dict[str, Any] = {}
    tags: Names = []
    region_id: Text | None = Field(None, max_length=128)
    available_regions: Names = []
    transport: TransportKind | None = None
    endpoint: Text | None = Field(None, max_length=2048)
    max_concurrency: int = Field(1, ge=1, le=10_000)
    price: Price | None = None
    owner: Text | None = Field(None, min_length=1, max_length=128)
    rate: Rate | None = None
    import_path: str | None = Field(None, max_length=512, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    options: dict[str, Any] = {}
    dedicated: bool = False
    num_cpus: Amount = 0
    num_gpus: Amount = 0
    memory: int = Field(0, ge=0, le=2**60)
    resources: dict[ResourceName, Amount] = Field({}, max_length=32)

    _check = field_validator("agent_id")(_agent_id)

    @field_validator("num_gpus")
    @classmethod
    def _gpus(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("more than one GPU must be a whole number of them")
        return value

    def all_options(self) -> dict[str, Any]:
        """What only some rooms read, under one roof: the named fields win over ``options`` of the same name."""
        named: dict[str, Any] = {
            "price": self.price and self.price.model_dump(),
            "owner": self.owner,
            "rate": self.rate and self.rate.model_dump(),
            "import_path": self.import_path,
        }
        return self.options | {name: value for name, value in named.items() if value is not None}


class RegisterAgents(Body):
    agents: list[RegisterAgent] = Field(min_length=1, max_length=MAX_BATCH)


class Heartbeat(Body):
    status: Literal["starting", "ready", "busy", "draining", "paused", "offline", "failed"] | None = None


class HeartbeatItem(Body):
    agent_id: str
    status: Literal["starting", "ready", "busy", "draining", "paused", "offline", "failed"] | None = None

    _check = field_validator("agent_id")(_agent_id)


class Heartbeats(Body):
    heartbeats: list[HeartbeatItem] = Field(min_length=1, max_length=10_000)


class After(Body):
    """An edge: the task ``id`` ends first. ``when_failed``: what this one does if it ends without a result."""

    id: str
    when_failed: WhenFailed = WhenFailed.FAIL

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        return check_id(value, "after")


class CreateTask(Body):
    """``run_at`` is epoch seconds; ``delay_seconds`` counts from now; at most one of them.

    ``timeout_seconds`` bounds one attempt, ``queue_timeout_seconds`` each wait for an agent, ``total_timeout_seconds``
    everything. ``after`` names tasks that end first; an id alone means that this task fails when that one does.
    """

    task_type: Words
    payload: Any = {}
    required_capabilities: Names = []
    priority: str = "normal"
    timeout_seconds: float | None = Field(None, gt=0, le=30 * 86_400)
    max_retries: int | None = Field(None, ge=0, le=100)
    metadata: dict[str, Any] = {}
    run_at: float | None = Field(None, ge=0, le=MAX_EPOCH_S)
    delay_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    queue: str = "default"
    tenant: str | None = None
    queue_timeout_seconds: Seconds | None = None
    total_timeout_seconds: Seconds | None = None
    concurrency_key: Words | None = None
    concurrency_limit: int = Field(1, ge=1, le=1_000_000)
    after: list[str | After] = Field([], max_length=1000)
    target_agent: str | None = None
    excluded_agents: Names = []
    target_region: Word | None = None
    fallback_regions: Names = []
    region_routing_mode: Literal["any", "preferred", "strict"] = "any"
    idempotency_key: Text | None = Field(None, min_length=1, max_length=255)

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

    @field_validator("after")
    @classmethod
    def _after(cls, value: list[str | After]) -> list[After]:
        return [After(id=check_id(one, "after")) if isinstance(one, str) else one for one in value]


class CreateTasks(Body):
    tasks: list[CreateTask] = Field(min_length=1, max_length=MAX_BATCH)


class Claim(Body):
    agent_id: str
    capabilities: Names | None = None
    block_ms: int = Field(5000, ge=0)
    max_tasks: int | None = Field(None, ge=1, le=MAX_CLAIM)
    claim_id: str | None = None

    _check = field_validator("agent_id")(_agent_id)

    @field_validator("claim_id")
    @classmethod
    def _claim(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "claim_id")


class Complete(Body):
    result: Any = None
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    lease_token: Text | None = Field(None, max_length=1024)


class Fail(Body):
    """``error_class`` retryable, malformed and rate_limited are tried again, the last after ``retry_after_seconds`` or slower
    steps; not_retryable ends the task, as ``requeue`` false does."""

    error: Text = Field("Unknown error", max_length=MAX_ERROR_CHARS)
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    requeue: bool = True
    error_class: ErrorClass = ErrorClass.RETRYABLE
    retry_after_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    lease_token: Text | None = Field(None, max_length=1024)


class Stopped(Body):
    """The holder of a task that is being cancelled has stopped."""

    agent_id: Text | None = Field(None, max_length=128)
    lease_token: Text | None = Field(None, max_length=1024)


class Extend(Body):
    lease_token: Text = Field(max_length=1024)


class Prioritize(Body):
    """What is left out stays as it is. ``position`` counts the waiting tasks of the same line from 1, 0 is 1."""

    task_id: str
    priority: str | None = None
    position: int | None = Field(None, ge=0, le=10_000)


class Report(Body):
    """One entry of a batch: ``error`` makes it a failure, ``stopped`` the answer to a cancel."""

    task_id: str
    result: Any = None
    error: Text | None = Field(None, max_length=MAX_ERROR_CHARS)
    requeue: bool = True
    error_class: ErrorClass = ErrorClass.RETRYABLE
    retry_after_seconds: float | None = Field(None, ge=0, le=MAX_SECONDS)
    stopped: bool = False
    agent_id: Text | None = Field(None, max_length=128)
    latency_ms: float | None = Field(None, ge=0)
    lease_token: Text | None = Field(None, max_length=1024)


class RefusedReport(Report):
    """An entry that cannot be taken, and why."""

    refusal: str
    code: str


def _for_itself(value: Any, validate: Callable[[Any], Report]) -> Report:
    """An entry that names its task and cannot be taken is answered by itself: the others are reports of other tasks."""
    task_id = value.get("task_id") if isinstance(value, dict) else None
    if not isinstance(task_id, str):
        return validate(value)
    try:
        return validate(value)
    except ValidationError as error:
        refusal, code = problem_of(error.errors()), "invalid_request"
    except InvalidRequest as error:
        refusal, code = error.message, error.code
    return RefusedReport.model_construct(task_id=shown_text(task_id, 128), refusal=refusal, code=code)


class Reports(Body):
    reports: list[Annotated[Report, WrapValidator(_for_itself)]] = Field(min_length=1, max_length=MAX_BATCH)


class Deliberate(Body):
    """``config``: options, agents, rounds, consensus, min_agents, max_agents, quorum_ratio, max_tokens.

    ``documents``, ``attachments`` and ``evidence`` are shown to the panel as data; nothing is fetched.
    """

    content: str = Field(min_length=1, max_length=20_000)
    decision_type: Text = Field("auto", max_length=64)
    config: dict[str, Any] = {}
    context: dict[str, Any] = {}
    documents: list[str] = Field([], max_length=50)
    attachments: list[dict[str, Any]] = Field([], max_length=50)
    evidence: list[dict[str, Any]] = Field([], max_length=50)
    request_id: str | None = None
    is_async: bool = Field(False, alias="async")
    mode: Text | None = Field(None, max_length=16)
    priority: str = "normal"
    required_capabilities: Names = ["deliberation"]
    timeout_seconds: float | None = Field(None, ge=1, le=86_400)

    @field_validator("request_id")
    @classmethod
    def _request_id(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "request_id")

    @field_validator("priority")
    @classmethod
    def _priority(cls, value: str) -> str:
        return Priority.parse(value).wire_name


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def last_sign(agent: Agent, fresh: float | None) -> float:
    """Epoch seconds: the fresh sign of life, else what was written behind, else the registration."""
    return max(fresh or 0.0, agent.last_seen_at or 0.0, agent.registered_at)


def _dedicated_wire(agent: Agent, placed: bool) -> dict[str, Any]:
    """Only for an agent that has, or waits for, an actor of its own."""
    needs = agent.dedicated
    if needs is None:
        return {"dedicated": False}
    waits = (
        "Its own actor does not run: it is being started, or it waits for a node of the Ray cluster that has "
        f"{needs.words} free. Its tasks wait for it."
    )
    return {
        "dedicated": True,
        **asdict(needs),
        "status_detail": "Its own actor runs." if placed else waits,
    }


def agent_wire(agent: Agent, last_heartbeat: float | None, *, placed: bool = False) -> dict[str, Any]:
    """``placed``: the actor of a dedicated agent runs."""
    seen = last_sign(agent, last_heartbeat)
    running = agent.running_task_ids
    return {
        "agent_id": agent.agent_id,
        "capabilities": list(agent.capabilities),
        "status": agent.status.value,
        "model": agent.model,
        "provider": agent.provider,
        "metadata": agent.metadata,
        "registered_at": agent.registered_at,
        "last_heartbeat": seen,
        "current_task_id": running[0] if running else None,
        "tasks_completed": agent.tasks_completed,
        "tasks_failed": agent.tasks_failed,
        "avg_latency_ms": agent.avg_latency_ms,
        "tags": list(agent.tags),
        "region_id": agent.region_id,
        "available_regions": list(agent.available_regions),
        "region_latency_ms": {},
        "last_heartbeat_by_region": {agent.region_id: seen},
        "transport": agent.transport.value,
        "endpoint": agent.endpoint,
        "max_concurrency": agent.max_concurrency,
        "running_tasks": len(running),
        "intent": agent.intent.value,
        "intent_by": agent.held_by.value if agent.held_by is not None else None,
        "liveness": agent.liveness.value,
        "health": agent.health.value,
        "price": agent.options.get("price"),
        "owner": agent.options.get("owner"),
        "rate": agent.options.get("rate"),
        "options": {k: v for k, v in agent.options.items() if k not in ("price", "owner", "rate")},
        **_dedicated_wire(agent, placed),
    }


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
        **_rules_wire(task),
    }


def _rules_wire(task: Task) -> dict[str, Any]:
    """Only what was asked for."""
    rules = task.rules
    wire: dict[str, Any] = {} if task.replayed_as is None else {"replayed_as": task.replayed_as}
    if rules is None:
        return wire
    said = {
        "tenant": rules.tenant,
        "queue_timeout_seconds": rules.queue_timeout_s,
        "total_timeout_seconds": rules.total_timeout_s,
        "concurrency_key": rules.concurrency_key,
        "concurrency_limit": rules.concurrency_limit if rules.concurrency_key is not None else None,
        "excluded_agents": list(rules.excluded_agents) or None,
        "after": [{"id": edge.after, "when_failed": edge.when_failed.value} for edge in rules.after] or None,
    }
    return wire | {name: value for name, value in said.items() if value is not None}


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
        "started_at": _iso(task.started_at),
        "created_at": _iso(task.created_at),
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
        "created_at": _iso(task.created_at),
        "started_at": _iso(started),
        "completed_at": _iso(ended),
        "metadata": {
            key: task.metadata[key] for key in ("name", "workspace_id", "user_id", "tags") if key in task.metadata
        },
    }
