"""What an agent is: its description, three facts about its state, and the status that is computed from them.

intent    what its operator and the agent itself want, which are kept apart; the API writes it
liveness  whether it is heard; the health monitor writes it, and a registration sets it anew
health    whether calls to its endpoint succeed; the health monitor writes what probes and calls found

The wire's ``status`` is never stored: ``wire_status`` computes it from these and from the number of leases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aragora_worker.base.bounds import MAX_CONCURRENCY
from cluster.domain.agents.credential_use import CredentialUse
from cluster.domain.agents.options import NO_OPTIONS, AgentOptions
from cluster.domain.base.log import IDENTITY, LogTexts, Origin

#: A worker keeps to it too.
__all__ = ["MAX_CONCURRENCY"]


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


class AgentBody(StrEnum):
    """What people wrote into an agent's registration: up to a megabyte each."""

    METADATA = "metadata"
    OPTIONS = "options"


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
    """How an agent is called. ``pull`` agents have no endpoint: they claim work. ``import`` agents are Python classes that run in
    the cluster."""

    PULL = "pull"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    HTTP = "http"
    A2A = "a2a"
    IMPORT = "import"


#: The kinds that only answer messages: such an agent does not know what a task is.
CHATS = frozenset((TransportKind.OPENAI, TransportKind.ANTHROPIC, TransportKind.A2A))


class IntentBy(StrEnum):
    """Who set an agent's intent. Each may take back only what it set itself: while either wants it, the agent gets no work."""

    OPERATOR = "operator"
    AGENT = "agent"


#: Why the health monitor or an operator changed an agent's state. Stored in log rows, so a reason keeps its text.
REASONS = frozenset(
    {
        *("no sign of life", "signs of life are late", "takes no work that is offered", "signs of life"),
        *("calls failed", "probe", "manual_unregistration", "expired"),
    }
)
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("agent_id", "capabilities", "model", "provider", "credential"), IDENTITY),
    **dict.fromkeys(("old_status", "new_status"), frozenset({*Liveness, *Health})),
    **dict.fromkeys(("old_intent", "intent"), frozenset(Intent)),
    "by": frozenset(IntentBy),
    "reason": REASONS,
}


#: The first row that matches gives the status; None matches everything. Docs and tests read this table.
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
    """The status that the wire shows, by ``STATUS_TABLE``."""
    for row_liveness, row_intent, row_health, status in STATUS_TABLE:
        matches = row_liveness in (None, liveness) and row_intent in (None, intent) and row_health in (None, health)
        if matches and status is not None:
            return status
    return AgentStatus.BUSY if leases >= max_concurrency else AgentStatus.READY


#: Status in a heartbeat → the intent that it asks for. Other statuses ask for nothing: the control plane computes them itself.
REPORTED_INTENT: Mapping[AgentStatus, Intent] = {
    AgentStatus.PAUSED: Intent.PAUSED,
    AgentStatus.DRAINING: Intent.DRAINING,
    AgentStatus.READY: Intent.ACTIVE,
}


def reported_intent(agent: Agent, status: AgentStatus | None) -> Intent | None:
    """The new intent of its own that a heartbeat's status asks for, None for no change. What an operator wants stays."""
    desired = None if status is None else REPORTED_INTENT.get(status)
    return None if desired is agent.own_intent else desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedicated:
    """What the actor of a dedicated agent declares to Ray. ``memory`` is in bytes; ``resources`` are Ray's custom ones."""

    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """For people: ``2 CPUs, 1 GPUs, 1,024 bytes of memory, 1 of licence``. What is zero is left out."""
        parts = [
            *([f"{self.num_cpus:g} CPUs"] * bool(self.num_cpus)),
            *([f"{self.num_gpus:g} GPUs"] * bool(self.num_gpus)),
            *([f"{self.memory:,} bytes of memory"] * bool(self.memory)),
            *(f"{amount:g} of {name}" for name, amount in sorted(self.resources.items())),
        ]
        return ", ".join(parts) or "room for another process"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAgent:
    """A validated registration. Registering again replaces these fields. It keeps the counters and an intent that an operator
    set, and ends an intent that the agent set itself.

    ``credential``: what is sent with calls of its endpoint. ``dedicated`` is None if an agent host owns the agent, together with
    thousands of others.
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
    endpoint: str | None = field(default=None, repr=False)
    max_concurrency: int = 1
    options: AgentOptions = NO_OPTIONS
    dedicated: Dedicated | None = None
    credential: CredentialUse | None = None

    @property
    def regions(self) -> frozenset[str]:
        return frozenset((self.region_id, *self.available_regions))


#: The capability of panel members. An agent that registers nothing else offers to deliberate, not to do whatever comes.
PANEL_ONLY = "deliberation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as stored, with its counters. Times in epoch seconds, latency in milliseconds.

    ``intent`` is what its operator wants or, if that is active, what the agent wants itself (``own_intent``).
    ``last_seen_at`` is written now and then; the latest heartbeat is in Redis (``cluster/ports/presence.py``).
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
    endpoint: str | None = field(repr=False)
    max_concurrency: int
    options: AgentOptions
    intent: Intent
    liveness: Liveness
    health: Health
    registered_at: float
    updated_at: float
    intent_by: IntentBy = IntentBy.OPERATOR
    own_intent: Intent = Intent.ACTIVE
    last_seen_at: float | None = None
    tasks_completed: int = 0
    tasks_failed: int = 0
    latency_ms_sum: float = 0.0
    running_task_ids: tuple[str, ...] = ()
    dedicated: Dedicated | None = None
    credential: CredentialUse | None = None

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
        """Whether it only answers messages. Such an agent gets only tasks that require a capability or name it: a task without
        requirements is meant for a worker, and a language model would only talk about it."""
        return self.transport in CHATS

    @property
    def version(self) -> str | None:
        """The version of its worker, as it registered it; None if it registered none."""
        return self.options.version

    @property
    def explicit_only(self) -> bool:
        """Whether it gets only tasks that require a capability or name it: it chats, or it does nothing but sit on panels."""
        return self.chats or tuple(self.capabilities) == (PANEL_ONLY,)

    @property
    def is_unschedulable(self) -> bool:
        """Whether it gets nothing new, even if it is alive and claims."""
        return self.intent is not Intent.ACTIVE or self.health is Health.FAILED

    @property
    def held_by(self) -> IntentBy | None:
        """Who paused or drained it, None if it is active; its operator if both did. Each takes back what it set alone."""
        return None if self.intent is Intent.ACTIVE else self.intent_by

    @property
    def operator_intent(self) -> Intent:
        """What its operator wants."""
        return self.intent if self.intent_by is IntentBy.OPERATOR else Intent.ACTIVE

    def intent_after(self, wish: Intent, by: IntentBy) -> Intent:
        """Its intent after its operator or itself has said something."""
        operator = wish if by is IntentBy.OPERATOR else self.operator_intent
        own = wish if by is IntentBy.AGENT else self.own_intent
        return operator if operator is not Intent.ACTIVE else own

    @property
    def takes_work(self) -> bool:
        """Whether it may be offered new work, as far as its state goes (capabilities are another question)."""
        return not self.is_unschedulable and self.liveness in (Liveness.STARTING, Liveness.ALIVE, Liveness.SUSPECT)
