"""Bodies and answers about agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    WrapValidator,
    field_validator,
)

from cluster.domain.agents.agent import MAX_CONCURRENCY, Agent, AgentBody, AgentStatus, TransportKind
from cluster.domain.base.ids import check_id
from cluster.domain.base.urls import shown_url
from serve_app.schemas.credentials import CredentialChoice
from serve_app.schemas.entries import entry_or_refusal
from serve_app.schemas.fields import MAX_BATCH, ExactBody, Named, Names, RequestBody, Text, Version, agent_name


class Price(ExactBody):
    """What an agent costs per million tokens."""

    input_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    output_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")


class Rate(ExactBody):
    """A token bucket: ``per_minute`` calls on average, ``burst`` at once."""

    per_minute: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    burst: int = Field(1, ge=1, le=100_000)


def _amount(value: float) -> float:
    """Refuses more than four decimals: Ray counts resources in ten-thousandths."""
    if round(value, 4) != value:
        raise ValueError("at most four decimals")
    return value


def _resource_name(value: str) -> str:
    if value in ("CPU", "GPU", "memory", "object_store_memory"):
        raise ValueError(f"{value} has a field of its own or cannot be asked for")
    return value


Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False), AfterValidator(_amount)]


ResourceName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_][\w.:\-]*$"), AfterValidator(_resource_name)]


class RegisterAgent(RequestBody):
    """``endpoint`` and ``transport`` make a push agent; without them the agent pulls work by claiming.

    ``import_path`` (``module:Class``) runs a Python class in the cluster. ``dedicated`` gives the agent a Ray actor of
    its own, which declares ``num_cpus``, ``num_gpus``, ``memory`` (bytes) and custom ``resources`` to Ray.
    """

    younger = frozenset({"version", "credential"})

    agent_id: str
    capabilities: Names = []
    model: Text = Field("unknown", max_length=256)
    provider: Named = Field("unknown", max_length=128)
    metadata: dict[str, Any] = {}
    tags: Names = []
    region_id: Named | None = Field(None, max_length=128)
    available_regions: Names = []
    transport: TransportKind | None = None
    endpoint: Text | None = Field(None, max_length=2048)
    credential: CredentialChoice | None = None
    max_concurrency: int = Field(1, ge=1, le=MAX_CONCURRENCY)
    price: Price | None = None
    owner: Named | None = Field(None, min_length=1, max_length=128)
    rate: Rate | None = None
    import_path: str | None = Field(None, max_length=512, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    options: dict[str, Any] = {}
    version: Version | None = None
    dedicated: bool = False
    num_cpus: Amount = 0
    num_gpus: Amount = 0
    memory: int = Field(0, ge=0, le=2**60)
    resources: dict[ResourceName, Amount] = Field({}, max_length=32)

    _check = field_validator("agent_id")(agent_name)

    @field_validator("num_gpus")
    @classmethod
    def _gpus(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("more than one GPU must be a whole number of them")
        return value

    def all_options(self) -> dict[str, Any]:
        """``options`` with price, owner, rate, import path and version in it. A named field wins over an option of its name."""
        named: dict[str, Any] = {
            "price": self.price and self.price.model_dump(),
            "owner": self.owner,
            "rate": self.rate and self.rate.model_dump(),
            "import_path": self.import_path,
            "version": self.version,
        }
        return self.options | {name: value for name, value in named.items() if value is not None}


class RegisterAgents(RequestBody):
    agents: list[RegisterAgent] = Field(min_length=1, max_length=MAX_BATCH)


class Heartbeat(RequestBody):
    status: Literal["starting", "ready", "busy", "draining", "paused", "offline", "failed"] | None = None
    worker_process: str | None = None

    @field_validator("worker_process")
    @classmethod
    def _process(cls, value: str | None) -> str | None:
        return None if value is None else check_id(value, "worker_process")


class HeartbeatItem(Heartbeat):
    agent_id: str

    _check = field_validator("agent_id")(agent_name)


class RefusedHeartbeat(HeartbeatItem):
    """A heartbeat that does not validate, with the reason. ``named`` is the text that it has as its agent's id, if any."""

    named: str | None
    refusal: str
    code: str


def _for_itself(value: Any, validate: Callable[[Any], HeartbeatItem]) -> HeartbeatItem:
    """Validates one heartbeat: a bad one must not cost others their leases."""
    return entry_or_refusal(value, validate, "agent_id", RefusedHeartbeat.model_construct)


class Heartbeats(RequestBody):
    heartbeats: list[Annotated[HeartbeatItem, WrapValidator(_for_itself)]] = Field(min_length=1, max_length=10_000)


def last_activity(agent: Agent, recent: float | None) -> float:
    """Epoch seconds of the agent's last activity. ``recent`` is from Redis; PostgreSQL has an older one, or the
    registration."""
    return max(recent or 0.0, agent.last_seen_at or 0.0, agent.registered_at)


def _dedicated_wire(agent: Agent, has_actor: bool) -> dict[str, Any]:
    """The fields about an agent's own actor; only ``dedicated: false`` if the agent is not dedicated."""
    needs = agent.dedicated
    if needs is None:
        return {"dedicated": False}
    waits = (
        "Its own actor does not run: it is being started, or it waits for a node of the Ray cluster that has "
        f"{needs.words} free. The agent's tasks wait until its actor runs."
    )
    return {
        "dedicated": True,
        **asdict(needs),
        "status_detail": "Its own actor runs." if has_actor else waits,
    }


def shown_status(agent: Agent, *, has_actor: bool) -> AgentStatus:
    """The status of an agent. A dedicated one that would be ready is ``starting`` until its own actor runs."""
    if agent.dedicated is not None and not has_actor and agent.status is AgentStatus.READY:
        return AgentStatus.STARTING
    return agent.status


#: Characters of metadata and options that a list of agents has room for, and up to which those of one agent are small.
LIST_CHARS: Final = 4_000_000
SMALL_CHARS: Final = 4_096


def leave_out(wires: Sequence[dict[str, Any]]) -> None:
    """Empties what is not small in agents for which a list has no room, and names it in ``left_out``. A list costs by its agents,
    and not by what somebody wrote into some of them."""
    room = LIST_CHARS
    for wire in wires:
        chars = _chars([wire[body] for body in AgentBody], max(room, SMALL_CHARS))
        if chars > SMALL_CHARS:
            room -= chars
            if room < 0:
                wire.update({body.value: {} for body in AgentBody} | {"left_out": [body.value for body in AgentBody]})


def _chars(value: Any, most: int) -> int:
    """About how many characters a value has as JSON; once there are more than ``most``, as many as were counted."""
    left, chars = [value], 0
    while left and chars <= most:
        item = left.pop()
        if isinstance(item, dict):
            left += (*item, *item.values())
        elif isinstance(item, list):
            left += item
        chars += len(item) + 2 if isinstance(item, str) else 2
    return chars


def agent_wire(agent: Agent, last_heartbeat: float | None, *, has_actor: bool = False) -> dict[str, Any]:
    """An agent as the API shows it. ``has_actor``: whether the actor of a dedicated agent runs."""
    seen = last_activity(agent, last_heartbeat)
    running, options = agent.running_task_ids, agent.options.given
    return {
        "agent_id": agent.agent_id,
        "capabilities": list(agent.capabilities),
        "status": shown_status(agent, has_actor=has_actor).value,
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
        "endpoint": None if agent.endpoint is None else shown_url(agent.endpoint),
        "credential": None if agent.credential is None else agent.credential.shown(),
        "max_concurrency": agent.max_concurrency,
        "version": agent.version,
        "running_tasks": len(running),
        "intent": agent.intent.value,
        "intent_by": agent.held_by.value if agent.held_by is not None else None,
        "liveness": agent.liveness.value,
        "health": agent.health.value,
        "price": options.get("price"),
        "owner": options.get("owner"),
        "rate": options.get("rate"),
        "options": {k: v for k, v in options.items() if k not in ("price", "owner", "rate")},
        **_dedicated_wire(agent, has_actor),
    }
