"""What an agent is: three facts with one writer each, and the status that is computed from them.

intent    what its operator wants; written by the API
liveness  whether it speaks; written by the health monitor
health    whether its endpoint works; written by probes and breakers

The wire's ``status`` is never stored: ``wire_status`` computes it from these and from the number of leases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cluster.domain.base.log import IDENTITY, LogTexts, Origin


class Intent(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    DRAINING = "draining"


class Liveness(StrEnum):
    STARTING = "starting"
    ALIVE = "alive"
    SUSPECT = "suspect"
    OFFLINE = "offline"
    DEAF = "deaf"


class Health(StrEnum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILED = "failed"


class AgentStatus(StrEnum):
    """The wire's ``status``."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    PAUSED = "paused"
    OFFLINE = "offline"
    FAILED = "failed"


class TransportKind(StrEnum):
    """How an agent is talked to. ``pull`` agents have no endpoint: they claim work. ``import`` agents are Python
    classes that run in the cluster."""

    PULL = "pull"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    HTTP = "http"
    A2A = "a2a"
    IMPORT = "import"


#: Agents that are spoken to: they answer a chat, and do not know what a task is.
CHATS = frozenset((TransportKind.OPENAI, TransportKind.ANTHROPIC, TransportKind.A2A))


class IntentBy(StrEnum):
    """Who set the intent: what an agent said of itself it may take back, what an operator said it may not."""

    OPERATOR = "operator"
    AGENT = "agent"


#: Why a health monitor or an operator changed what is known of an agent.
REASONS = frozenset(
    {
        *("no sign of life", "signs of life are late", "takes no work that is offered", "signs of life"),
        *("calls failed", "probe", "manual_unregistration"),
    }
)
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("agent_id", "capabilities", "model", "provider"), IDENTITY),
    **dict.fromkeys(("old_status", "new_status"), frozenset({*Liveness, *Health})),
    **dict.fromkeys(("old_intent", "intent"), frozenset(Intent)),
    "by": frozenset(IntentBy),
    "reason": REASONS,
}


#: First row that matches decides; None matches everything. Docs and tests read this table.
STATUS_TABLE: tuple[tuple[Liveness | None, Intent | None, Health | None, AgentStatus | None], ...] = (
    (None, Intent.PAUSED, None, AgentStatus.PAUSED),
    (Liveness.OFFLINE, None, None, AgentStatus.OFFLINE),
    (Liveness.DEAF, None, None, AgentStatus.FAILED),
    (None, None, Health.FAILED, AgentStatus.FAILED),
    (None, Intent.DRAINING, None, AgentStatus.DRAINING),
    (Liveness.STARTING, None, None, AgentStatus.STARTING),
    (None, None, None, None),  # busy with all its slots leased, else ready
)


def wire_status(intent: Intent, liveness: Liveness, health: Health, leases: int, max_concurrency: int) -> AgentStatus:
    for row_liveness, row_intent, row_health, status in STATUS_TABLE:
        matches = row_liveness in (None, liveness) and row_intent in (None, intent) and row_health in (None, health)
        if matches and status is not None:
            return status
    return AgentStatus.BUSY if leases >= max_concurrency else AgentStatus.READY


#: What a status in a heartbeat asks for; every other status says nothing that the control plane does not know better.
REPORTED_INTENT: Mapping[AgentStatus, Intent] = {
    AgentStatus.PAUSED: Intent.PAUSED,
    AgentStatus.DRAINING: Intent.DRAINING,
    AgentStatus.READY: Intent.ACTIVE,
}


def reported_intent(agent: Agent, status: AgentStatus | None) -> Intent | None:
    """The intent that a heartbeat's status changes the agent's to, None for no change.

    An agent may take itself out of work, and back in if it was itself that took it out.
    """
    desired = None if status is None else REPORTED_INTENT.get(status)
    if desired is None or desired is agent.intent:
        return None
    if agent.intent is not Intent.ACTIVE and agent.intent_by is IntentBy.OPERATOR:
        return None
    return desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedicated:
    """The agent has an actor of its own, which declares this to Ray. ``memory`` in bytes; ``resources`` are custom."""

    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """``2 CPUs, 1 GPUs, 1,024 bytes of memory, 1 of licence``; what is zero is left out."""
        parts = [
            *([f"{self.num_cpus:g} CPUs"] * bool(self.num_cpus)),
            *([f"{self.num_gpus:g} GPUs"] * bool(self.num_gpus)),
            *([f"{self.memory:,} bytes of memory"] * bool(self.memory)),
            *(f"{amount:g} of {name}" for name, amount in sorted(self.resources.items())),
        ]
        return ", ".join(parts) or "room for another process"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgent:
    """A validated registration. Registering again replaces what is described here, keeps counters and what an operator
    said of the agent, and ends what the agent had said of itself.

    ``options`` holds what only some rooms read: ``price``, ``owner``, ``rate``, ``stream``, ``import_path``,
    ``arguments``. ``dedicated`` None: it is carried by a host, with thousands of others.
    """

    agent_id: str
    origin: Origin
    registered_at: float
    capabilities: tuple[str, ...] = ()
    model: str = "unknown"
    provider: str = "unknown"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    region_id: str = "default"
    available_regions: tuple[str, ...] = ()
    transport: TransportKind = TransportKind.PULL
    endpoint: str | None = None
    max_concurrency: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    dedicated: Dedicated | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as stored, with its counters. Times in epoch seconds, latency in milliseconds.

    ``last_seen_at`` is written behind: the fresh sign of life is in the store of heartbeats.
    """

    agent_id: str
    workspace: str
    principal: str
    capabilities: tuple[str, ...]
    model: str
    provider: str
    metadata: Mapping[str, Any]
    tags: tuple[str, ...]
    region_id: str
    available_regions: tuple[str, ...]
    transport: TransportKind
    endpoint: str | None
    max_concurrency: int
    options: Mapping[str, Any]
    intent: Intent
    liveness: Liveness
    health: Health
    registered_at: float
    updated_at: float
    intent_by: IntentBy = IntentBy.OPERATOR
    last_seen_at: float | None = None
    tasks_completed: int = 0
    tasks_failed: int = 0
    latency_ms_sum: float = 0.0
    running_task_ids: tuple[str, ...] = ()
    dedicated: Dedicated | None = None

    @property
    def avg_latency_ms(self) -> float:
        return self.latency_ms_sum / self.tasks_completed if self.tasks_completed else 0.0

    @property
    def status(self) -> AgentStatus:
        return wire_status(self.intent, self.liveness, self.health, len(self.running_task_ids), self.max_concurrency)

    @property
    def regions(self) -> frozenset[str]:
        return frozenset((self.region_id, *self.available_regions))

    @property
    def chats(self) -> bool:
        """It takes only tasks that require something of it or name it: what is meant for anybody that works on a queue
        is not to be talked about by a language model."""
        return self.transport in CHATS

    @property
    def is_unschedulable(self) -> bool:
        """Is to get nothing new, although it may be alive and ask for it."""
        return self.intent is not Intent.ACTIVE or self.health is Health.FAILED

    @property
    def held_by(self) -> IntentBy | None:
        """Who keeps it from new work, None if nobody does: what an operator said only an operator takes back."""
        return None if self.intent is Intent.ACTIVE else self.intent_by

    @property
    def takes_work(self) -> bool:
        """May be offered new work (matching capabilities apart)."""
        return not self.is_unschedulable and self.liveness in (Liveness.STARTING, Liveness.ALIVE, Liveness.SUSPECT)
