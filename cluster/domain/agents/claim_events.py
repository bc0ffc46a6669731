"""What the planner of called agents' claims is told, and what it asks for (`claim_planner.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.liveness import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsSeen:
    """Agents as they are now. None: not registered any more, takes no tasks, or another host's."""

    agents: Mapping[Key, Agent | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDeregistered:
    """An agent's registration has ended. One under the same name is a new agent. `AgentsSeen` follows."""

    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundsChanged:
    """An agent's breaker has changed (None: nothing has called it), or how many of its slots questions have."""

    key: Key
    breaker: Breaker | None
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNamed:
    """An open task names an agent."""

    key: Key
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOver:
    """A task has ended, whoever worked on it."""

    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLost:
    """A host's process has died. Nobody works on what was leased to its claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """It is as late as `next_at` said, or something else has happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease that was claimed for a called agent, by this process or another. ``agent`` is what is registered, if anything."""

    key: Key
    task_id: str
    claim_id: str
    agent: Agent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesRead:
    """What `ReadLeases` asked for. ``living`` are the hosts' processes that lived after the leases were read: whoever claims has
    joined before. ``named`` are the open tasks that name one of ``unread``."""

    unread: Sequence[Key]
    leases: Sequence[Held]
    living: Collection[str]
    named: Sequence[tuple[Key, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingFailed:
    """What `ReadLeases` asked for could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsDue:
    """All else that happened has been told. Only this event makes claims. ``draw`` is in [0, 1)."""

    draw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEnded:
    """An agent's claim has been answered, has failed or has been withdrawn."""

    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLeased:
    """A claim brought a task, perhaps after it was withdrawn."""

    agent: Agent
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUnsent:
    """An agent was not asked to do its task, which is given back. It may be asked again ``retry_after_s`` from now, if that is
    known."""

    key: Key
    retry_after_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEnded:
    """The work on a task of an agent has ended: it was reported, given back or cancelled."""

    key: Key
    task_id: str


Event = (
    AgentsSeen
    | AgentDeregistered
    | BoundsChanged
    | TaskNamed
    | TaskOver
    | ProcessLost
    | TimePassed
    | LeasesRead
    | ReadingFailed
    | ClaimsDue
    | ClaimEnded
    | TaskLeased
    | TaskUnsent
    | WorkEnded
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeClaim:
    """Claim a task for the agent. `ClaimEnded` follows, after a `TaskLeased` for each task that it brings."""

    agent: Agent
    claim_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawClaim:
    """Give the agent's claim up. `ClaimEnded` follows."""

    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class DoTask:
    """Call the agent with a task that is leased to it. `WorkEnded` follows."""

    agent: Agent
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLeases:
    """Read the leases of called agents, then the living processes, then the open tasks that name one of ``unread``. `LeasesRead`
    follows, or `ReadingFailed`."""

    unread: tuple[Key, ...]


Effect = MakeClaim | WithdrawClaim | DoTask | ReadLeases
