"""What the core needs from outside, as Protocols. Adapters live in ``cluster/postgres``, ``cluster/redis`` and below.

Every write method takes a batch and is one round trip and one transaction; outcomes come back per item, in order. A
write raises ``Fenced`` when the region's epoch, the shard's generation or a worker's fence was replaced, and
``StoreUnavailable`` when the store does not answer: the outcome is then unknown, and the caller repeats the same call
(every item can be repeated).
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from cluster.domain.agents.agent import Agent, Dedicated, Health, Intent, IntentBy, Liveness, NewAgent
from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.liveness import Offer, ProbeHistory
from cluster.domain.base.log import LogRecord, LogRow, Origin
from cluster.domain.deliberation.stored import (
    Admitted,
    Deliberation,
    JournalAppend,
    JournalEvent,
    NewDeliberation,
    TakenDeliberation,
)
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import (
    Decided,
    IdempotencyKey,
    NewTask,
    Submitted,
    Task,
    TaskDecision,
    TaskDetail,
    TaskHead,
    TaskStatus,
)

if TYPE_CHECKING:
    from cluster.domain.consensus.learning import (
        NewOutcome,
        NewSnapshot,
        RecordedOutcome,
        SnapshotHead,
        StoredOutcome,
        StoredSnapshot,
    )
    from cluster.domain.consensus.snapshot import WeightSnapshot


class Clock(Protocol):
    def now(self) -> float:
        """Epoch seconds."""

    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """All given fields must match; ``entities`` is any of them; ``kind_prefix`` e.g. ``task.``, ``kinds`` any of such."""

    workspace: str | None = None
    entities: tuple[str, ...] = ()
    kind_prefix: str | None = None
    kinds: tuple[str, ...] = ()

    def all_kinds(self) -> tuple[str, ...]:
        return (*self.kinds, *([self.kind_prefix] if self.kind_prefix else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """``cursor`` is how far the log has been looked through: beyond the last row, where later ones did not match."""

    rows: list[LogRow]
    cursor: int


class Log(Protocol):
    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        """Rows with ``seq > after`` in order. Never shows a later row before an earlier one."""

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        """The next rows for a follower, at most ``limit``; a filter does not hold its cursor back."""

    async def head(self) -> int:
        """The last committed ``seq``, 0 for an empty log."""

    async def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Rows that belong to no other change (system events)."""


class Region(Protocol):
    """The region's epoch: fences every write."""

    async def epoch(self) -> int:
        """The stored epoch; also becomes the epoch that this process's writes state."""

    async def raise_epoch(self, leader: str) -> int:
        """Under the lock of the commit protocol: no write that states an older epoch can commit after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFence:
    shard: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitItem:
    task: NewTask
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """``before`` is the keyset cursor (created_at, id) of the last row seen; newest first. Times are of the submit,
    epoch seconds, from ``created_after`` on and before ``created_before``. A delayed task counts as queued from its
    ``run_at`` on, as of ``now``."""

    workspace: str
    statuses: tuple[TaskStatus, ...] = ()
    task_type: str | None = None
    agent_id: str | None = None
    details: tuple[TaskDetail, ...] = ()
    queue: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    limit: int = 100
    offset: int = 0
    before: tuple[float, str] | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQuery:
    """Tasks that were given up on, newest first; ``before`` is (completed_at, id) of the last row seen. ``reason`` is
    their status detail. Entries that were replayed are shown on request, purged ones never."""

    workspace: str
    ids: tuple[str, ...] = ()
    task_type: str | None = None
    queue: str | None = None
    reason: TaskDetail | None = None
    error_contains: str | None = None
    ended_after: float | None = None
    ended_before: float | None = None
    with_replayed: bool = False
    limit: int = 100
    before: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A dead task submitted again as ``task``; ``record`` is the log row of the old one."""

    of: str
    task: NewTask
    record: LogRecord
    new_payload: bool


class DeadLetterStore(Protocol):
    async def list(self, query: DeadLetterQuery) -> tuple[list[Task], int]:
        """(page, true total for the filter)"""

    async def replay(self, replays: Sequence[Replay]) -> builtins.list[str | None]:
        """Id of the task that each was replayed as, also when that happened before; None where it is not there."""

    async def purge(self, workspace: str, task_ids: Sequence[str], records: Sequence[LogRecord]) -> int:
        """Takes entries off the list for good and throws their payloads away; their history stays. How many."""


class ControlStore(Protocol):
    """Settings of queues, task types and tenants."""

    async def put(self, control: Control, record: LogRecord) -> Control:
        """As stored, with the ``seq`` of its log row; nothing is written when it is so already."""

    async def get(self, workspace: str, kind: ControlKind, name: str) -> Control | None: ...

    async def list(self, workspace: str) -> builtins.list[Control]: ...

    async def load(self) -> builtins.list[Control]:
        """Of all workspaces."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    workspace: str
    agent_id: str
    task_id: str
    claim_id: str


class TaskStore(Protocol):
    async def submit(self, items: Sequence[SubmitItem], *, all_or_none: bool = False) -> list[Submitted]:
        """``all_or_none``: a conflicting idempotency key raises Conflict and nothing of the call is written."""

    async def decide(self, fence: ShardFence, decisions: Sequence[TaskDecision]) -> list[Decided]: ...

    async def take_generation(self, shard: str, owner: str) -> ShardFence:
        """A new, higher generation; decisions under older ones fail with ``Fenced`` from now on."""

    async def open_tasks(self, shard: str) -> tuple[int, AsyncIterator[Sequence[TaskHead]]]:
        """(log cursor, batches of all pending and running tasks), one snapshot: rows after the cursor are not in it."""

    async def get(self, workspace: str, task_id: str) -> Task | None: ...

    async def get_many(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]: ...

    async def held_by(self, principal: str) -> builtins.list[HeldLease]:
        """The leases that a principal claimed, of all agents."""

    async def named(self, agents: Sequence[tuple[str, str]]) -> builtins.list[tuple[tuple[str, str], str]]:
        """Open tasks, pending or running, that name one of these agents (workspace, id): whom each names, and its id."""

    async def bodies(self, workspace: str, task_ids: Sequence[str]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
        """(payload, metadata) by id: all that whoever holds the leases does not know yet."""

    async def list(self, query: TaskQuery) -> tuple[list[Task], int]:
        """(page, true total for the filter)."""

    async def oldest(self, workspace: str, status: TaskStatus, limit: int) -> builtins.list[Task]:
        """Pending or running tasks, oldest first."""

    async def counts(self, workspace: str | None = None) -> Mapping[str, Any]:
        """``{by_status: {..}, by_priority: {..pending only..}, by_type: {..}, total}``."""

    async def forget_keys(self, before: float) -> None:
        """Drops idempotency keys that were written before ``before``."""

    async def events(self, workspace: str, task_id: str, after: int, limit: int) -> tuple[builtins.list[LogRow], int]:
        """(log rows of one task after its ``after``-th, how many it has). Their numbers are its own: 1, 2, 3, ..."""

    async def queue_metrics(self, workspace: str, now: float) -> Mapping[str, float]:
        """Fields of wire.md 1.2 row 17 and what row 24 needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChange:
    """Sets the fields that are not None; the log row is written only if something really changed."""

    workspace: str
    agent_id: str
    record: LogRecord
    intent: Intent | None = None
    intent_by: IntentBy | None = None
    liveness: Liveness | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterItem:
    agent: NewAgent
    record: LogRecord
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    agent: Agent
    seq: int | None
    created: bool
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCounters:
    """Increments since the last save."""

    workspace: str
    agent_id: str
    completed: int = 0
    failed: int = 0
    latency_ms_sum: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life at an epoch second. ``working``: it came on the channel that carries the work."""

    workspace: str
    agent_id: str
    at: float
    working: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DedicatedAgent:
    """An agent that wants an actor of its own, and what the actor declares to Ray."""

    workspace: str
    agent_id: str
    needs: Dedicated


class AgentStore(Protocol):
    async def register(self, items: Sequence[RegisterItem]) -> list[Registered]:
        """Idempotent by (workspace, agent_id): replaces the description, keeps counters and intent, revives liveness
        to ``alive``."""

    async def change(self, changes: Sequence[AgentChange]) -> list[bool]:
        """True where the agent exists (changed or already so)."""

    async def remove(
        self, removals: Sequence[LogRecord], keys: Sequence[IdempotencyKey | None] | None = None
    ) -> list[bool]:
        """One record per agent (entity = agent_id, workspace set); False where there was none. ``keys``, if given,
        one per record: a repeat of a removal is True and removes nothing."""

    async def get(self, workspace: str, agent_id: str) -> Agent | None: ...

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Agent]:
        """By (workspace, agent_id), one round trip."""

    async def list(self, workspace: str, capability: str | None = None) -> list[Agent]: ...

    async def seen(self, beats: Sequence[Beat]) -> None:
        """Writes last signs of life behind. Not a change: nothing is logged, and an older sign changes nothing."""

    async def findings(self, workspace: str, agent_id: str) -> int:
        """Entries of the ``findings`` lists in results of tasks that the agent completed."""

    async def dedicated(self) -> builtins.list[DedicatedAgent]:
        """Of all workspaces, by (workspace, agent_id)."""

    async def resting(self, of: Collection[tuple[str, str]] | None = None) -> frozenset[tuple[str, str]]:
        """(workspace, agent_id) of those that are to get nothing new (``Agent.rests``), of ``of`` or of all there are."""

    async def load(self) -> tuple[int, builtins.list[Agent]]:
        """(log cursor, all agents of all workspaces), one snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBreaker:
    """``agent_id`` None and workspace "" for a dependency of the control plane itself."""

    workspace: str
    agent_id: str | None
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProbe:
    workspace: str
    agent_id: str
    history: ProbeHistory


class BreakerStore(Protocol):
    """Breakers and probes, so that they hold over restarts of everything."""

    async def save(self, breakers: Sequence[StoredBreaker], records: Sequence[LogRecord]) -> None:
        """One record per breaker; the last save of a name wins."""

    async def load(self, workspace: str | None = None) -> list[StoredBreaker]:
        """Those of one workspace and of the control plane, or all."""

    async def save_probes(self, probes: Sequence[StoredProbe]) -> None:
        """Written behind; of agents that still exist."""

    async def probes(self, workspace: str | None = None) -> dict[tuple[str, str], ProbeHistory]: ...

    async def offers(self, due_before: float) -> list[Offer]:
        """What waits, of the oldest tasks that have been due since before a time."""


class DeliberationStore(Protocol):
    async def admit(self, items: Sequence[NewDeliberation]) -> builtins.list[Admitted]:
        """Journal and row in one commit; log row ``deliberation.admitted``. An existing request_id of the same
        workspace with the same contract digest is a replay, with another one a conflict."""

    async def take(self, request_ids: Sequence[str], owner: str) -> builtins.list[TakenDeliberation | None]:
        """Raises the deliberations' fences and makes ``owner`` their worker; None where unknown or terminal."""

    async def open(self) -> builtins.list[tuple[str, str | None]]:
        """(request_id, owner) of every deliberation without a terminal, oldest first."""

    async def append(self, items: Sequence[JournalAppend]) -> builtins.list[bool]:
        """False where the fence was replaced (nothing of that item is written)."""

    async def journal(self, request_id: str, after: int = 0) -> builtins.list[JournalEvent]: ...

    async def get(self, workspace: str, request_id: str) -> Deliberation | None: ...

    async def get_any(self, request_id: str) -> Deliberation | None:
        """For workers, that serve all workspaces."""

    async def list(
        self, workspace: str, limit: int = 100, offset: int = 0
    ) -> tuple[builtins.list[Deliberation], int]: ...

    async def cancel(self, workspace: str, request_id: str, record: LogRecord) -> bool:
        """Asks for it: sets ``cancel_requested`` and logs ``deliberation.cancel_requested``; False if unknown or over."""


class Answers(Protocol):
    """Answers of changes that may be made twice without harm, so that a repeat under one key is answered alike."""

    async def recall(self, workspace: str, route: str, key: str) -> tuple[bytes, str] | None:
        """(digest of the body, the answer as JSON) of the first call under this key."""

    async def remember(self, workspace: str, route: str, key: str, digest: bytes, answer: str, now: float) -> None:
        """The first one stays."""


class WeightSource(Protocol):
    """Weights and calibration learned from recorded outcomes, as frozen snapshots."""

    async def snapshot_for(self, workspace: str, agents: Sequence[str]) -> WeightSnapshot | None:
        """The newest snapshot that covers every one of these agents; None while nothing has been learned of them."""


class OutcomeStore(Protocol):
    """What turned out to be right, and every snapshot of weights that was learned from it. Panels are sorted ids."""

    async def record(self, items: Sequence[NewOutcome]) -> list[RecordedOutcome]:
        """One per (workspace, id): the same again is a replay, another under its id a conflict. Log row
        ``outcome.recorded``."""

    async def recent(
        self, workspace: str, agents: Sequence[str], limit: int, *, any_of: bool = False
    ) -> list[StoredOutcome]:
        """The newest whose panel holds all (or any) of ``agents``, oldest first, with these agents' votes only."""

    async def count(
        self, workspace: str, agents: Sequence[str], after: int, limit: int, *, any_of: bool = False
    ) -> int:
        """How many of those came after ``after``, counted up to ``limit``."""

    async def agents(self, workspace: str, limit: int) -> list[str]:
        """Who is on the panels of the newest ``limit`` outcomes, most frequent first."""

    async def save(self, items: Sequence[NewSnapshot]) -> list[bool]:
        """As the next version of its panel; False where one that knows as much is there. Log row ``weights.fitted``."""

    async def heads(self, workspace: str) -> list[SnapshotHead]:
        """The newest version of every panel, the largest panel first."""

    async def newest(self, workspace: str) -> list[StoredSnapshot]:
        """The same with their content."""

    async def snapshot(self, workspace: str, snapshot_id: str) -> StoredSnapshot | None: ...

    async def covering(self, workspace: str, agents: Sequence[str]) -> StoredSnapshot | None:
        """Of the smallest panel that holds all of ``agents``, the newest version."""


class Leases(Protocol):
    """Named leases on rows of this region's Postgres, for what must have one holder (supervisor, region leader)."""

    async def acquire(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Fence number if it was free, expired, or already ours (renewed); None while another holds it. The
        database's clock decides."""

    async def release(self, name: str, holder: str) -> None: ...

    async def held(self, prefix: str) -> list[str]:
        """Names with a prefix that somebody holds now."""

    async def end_unrenewed(self, name: str, left_s: float) -> bool:
        """Ends a lease that is held for less than ``left_s`` more, whoever holds it; False for any other."""

    async def forget(self, prefix: str, ended_s: float) -> None:
        """Drops leases with a prefix that ended longer than ``ended_s`` ago, and their fences with them."""


class TelemetryStore(Protocol):
    async def load(self, name: str) -> tuple[int, Mapping[str, Any]]:
        """(log cursor, snapshot); (0, {}) at first."""

    async def save(self, name: str, cursor: int, snapshot: Mapping[str, Any], agents: Sequence[AgentCounters]) -> bool:
        """One transaction, only if ``cursor`` moves forward; agent counters are added to the rows of ``agents``."""


class Heartbeats(Protocol):
    """Signs of life. Loss of the store behind it loses freshness, never a fact."""

    async def beat(self, beats: Sequence[Beat]) -> None: ...

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]: ...

    async def worked(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        """The last signs on the channel that carries the work (claims, reports)."""

    async def silent(self, before: float) -> list[tuple[str, str]]:
        """(workspace, agent_id) whose last beat is older than ``before``."""

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None: ...

    async def life(self) -> str:
        """Changes when the store has lost what it was told."""


class Ring(StrEnum):
    """What somebody may have to know of at once. Everything else is found at the next look."""

    #: Tasks were submitted: the shard's matter. Those that name their agent are its host's as well.
    TASKS = "tasks"
    NAMED = "named"
    #: A turn of an agent that pulls has ended.
    TURNS = "turns"
    AGENTS = "agents"
    CONTROLS = "controls"
    DELIBERATIONS = "deliberations"


def rings_for(items: Sequence[SubmitItem]) -> tuple[Ring, ...]:
    """Who has to know of new tasks."""
    named = any(item.task.target_agent is not None for item in items)
    return (Ring.TASKS, Ring.NAMED) if named else (Ring.TASKS,)


class Doorbell(Protocol):
    """Wakes those who follow the log. Rings may be lost or doubled: followers re-read from their cursor."""

    async def ring(self, *rings: Ring) -> None:
        """Wakes whoever waits for one of ``rings``.

        Never raises for an unreachable store: a doorbell that cannot ring costs latency only.
        """

    async def wait(self, timeout_s: float, rings: Sequence[Ring] = tuple(Ring)) -> bool:
        """True when one of ``rings`` was rung since the last wait; False after the timeout. An unreachable store waits
        for the timeout."""


def record_for(origin: Origin, at: float, kind: str, entity: str, data: Mapping[str, Any] | None = None) -> LogRecord:
    """A log record that carries the asker's workspace and principal."""
    return LogRecord(
        at=at, workspace=origin.workspace, kind=kind, entity=entity, principal=origin.principal, data=data or {}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorName:
    """Which Ray actor plays a role now. ``fingerprint`` is of its code version and settings."""

    role: str
    name: str
    fingerprint: str


class ActorNames(Protocol):
    """The published holder of each role. Callers resolve a role here, so that a successor can take over beside its
    predecessor, which a single fixed name would not allow."""

    async def current(self, role: str) -> ActorName | None: ...

    async def publish(self, actor: ActorName) -> None: ...

    async def withdraw(self, name: str) -> None:
        """Nobody plays the role any more that the actor of this name is published for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """The public half of a key that has signed receipts. ``created_at``: epoch seconds of its first use."""

    key_id: str
    public_key: bytes
    created_at: float


class SigningKeys(Protocol):
    """Keys of receipts: the one that this deployment made for itself, and the public halves of all that ever signed."""

    async def own(self, candidate: bytes) -> bytes:
        """The deployment's own 32-byte seed. ``candidate`` becomes it if there is none; all callers get the same."""

    async def publish(self, public_key: bytes) -> None:
        """Keeps the public half of a key whose private half is held elsewhere."""

    async def published(self) -> list[PublishedKey]:
        """Oldest first."""
