"""The mind of a scheduler shard: open tasks, leases, waiting claims and timers. No clock, no I/O.

Whatever happens is applied to memory at once and comes out as decisions to be committed in order, followed by answers
that may be given once those decisions are durable. A shard whose commit fails throws this object away and builds a new
one from the store: memory is never ahead of the truth for longer than one commit.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.domain.errors import ControlPlaneError, NotFound
from cluster.domain.log import LogRow
from cluster.domain.queue import ReadyQueue
from cluster.domain.task_machine import (
    AgentLost,
    CancelDelivered,
    CancelGraceOver,
    CancelRequested,
    Claim,
    Dequeue,
    EndLease,
    Enqueue,
    Event,
    LeaseExpired,
    Prioritized,
    Release,
    Reporter,
    RetryPolicy,
    RunAtReached,
    RunTimedOut,
    StartGrace,
    StartLease,
    step,
)
from cluster.domain.tasks import Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus
from cluster.domain.values import evolve as replace

AgentKey = tuple[str, str]
"""(workspace, agent_id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A claim. ``max_tasks`` None: one task, or the oldest lease again when all slots are taken (released client).

    ``own_claim_id``: the caller chose ``claim_id``, and gets the same leases for the same id.
    """

    agent: AgentKey
    principal: str
    capabilities: frozenset[str]
    max_concurrency: int
    max_tasks: int | None
    claim_id: str
    own_claim_id: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """``expires_at`` in epoch seconds unless the holder gives another sign of life."""

    head: TaskHead
    expires_at: float
    redelivered: bool = False


class Missing(ControlPlaneError):
    """The task is not open here: it has ended, it is not known yet, or it never was."""

    status = 404


@dataclass(slots=True)
class _Agent:
    """What the shard remembers of an agent: its leases in order of age, and when it was last seen."""

    leases: dict[str, None] = field(default_factory=dict)
    seen: float = 0.0


@dataclass(slots=True, eq=False)
class _Waiting:
    ticket: int
    wanted: Wanted
    gone: bool = False


_Timer = tuple[float, int, type[Event], str, int]


class Scheduler:
    """``lease_ttl_s`` without a sign of life ends an agent's leases."""

    #: Kinds of log rows that ``apply`` looks at (by their beginnings); a shard is not shown its own decisions.
    FOLLOWS = ("task.submitted", "agent.", "control.")

    def __init__(
        self, *, lease_ttl_s: float, policy: RetryPolicy | None = None, queue: ReadyQueue | None = None
    ) -> None:
        self._ttl_s = lease_ttl_s
        self._policy = policy or RetryPolicy()
        self._queue = queue or ReadyQueue()
        self._open: dict[str, TaskHead] = {}
        self._agents: dict[AgentKey, _Agent] = {}
        self._removed: set[AgentKey] = set()
        self._extended: dict[str, float] = {}
        self._told: set[tuple[str, int]] = set()
        self._waiting: dict[tuple[str, frozenset[str]], deque[_Waiting]] = {}
        self._tickets: dict[int, _Waiting] = {}
        self._by_agent: dict[AgentKey, deque[_Waiting]] = {}
        self._fresh: dict[tuple[str, str | None, frozenset[str]], None] = {}
        self._timers: list[_Timer] = []
        self._timer_number = 0
        self._decisions: list[TaskDecision] = []
        self._granted: list[tuple[int, tuple[Grant, ...]]] = []
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    # --- what comes in ------------------------------------------------------------------------------------------

    def load(self, heads: Iterable[TaskHead], now: float) -> None:
        """Open tasks from the store. Leases start afresh: their holders were not asked while the shard was away."""
        for head in heads:
            self._add(head, now)

    def apply(self, rows: Iterable[LogRow], now: float) -> None:
        """New tasks, and what agents' rows say about who may hold leases."""
        for row in rows:
            if row.kind == "task.submitted":
                if row.entity not in self._open:
                    self._add(TaskHead.from_log(row.entity, row.workspace, row.at, row.data), now)
            elif row.kind.startswith("agent."):
                self._agent_changed(row, now)

    def claim(self, wanted: Wanted, ticket: int | None, now: float) -> tuple[Grant, ...] | None:
        """Leases for an agent at once; None if there are none and the claim now waits under ``ticket``.

        Without a ticket it does not wait: the answer is then an empty tuple.
        """
        if wanted.agent in self._removed:
            raise NotFound(f"Agent {wanted.agent[1]} is not registered; register it first.", "agent_not_registered")
        self._seen(wanted.agent, now)
        grants = self._redelivered(wanted, now) or self._grant(wanted, now)
        if grants or ticket is None:
            return grants
        self._wait(_Waiting(ticket, wanted))
        return None

    def withdraw(self, ticket: int) -> bool:
        """Takes a waiting claim back; False if it does not wait (any more)."""
        waiting = self._tickets.pop(ticket, None)
        if waiting is None:
            return False
        waiting.gone = True
        return True

    def report(self, task_id: str, workspace: str, event: Event, now: float) -> TaskHead:
        """A report, a cancel, an extension of ``prioritize``: any event that somebody outside brings to one task."""
        head = self._known(task_id, workspace)
        by = getattr(event, "by", None)
        if isinstance(by, Reporter) and by.agent_id is not None:
            self._seen((workspace, by.agent_id), now)
        return self._happens(head, event, now)

    def cancel(self, task_id: str, workspace: str, principal: str, now: float) -> TaskHead:
        return self._happens(self._known(task_id, workspace), CancelRequested(principal=principal), now)

    def prioritize(self, task_id: str, workspace: str, principal: str, priority: Priority, now: float) -> TaskHead:
        return self._happens(self._known(task_id, workspace), Prioritized(principal=principal, priority=priority), now)

    def extend(self, task_id: str, workspace: str, attempt: int, agent_id: str, now: float) -> float | None:
        """Renews one lease; when it expires now. None if it is not this holder's."""
        head = self._known(task_id, workspace)
        if head.status is not TaskStatus.RUNNING or (head.attempt, head.assigned_agent) != (attempt, agent_id):
            return None
        self._extended[task_id] = now
        return self._expires_at(head)

    def give_back(self, task_id: str, workspace: str, attempt: int, agent_id: str, principal: str, now: float) -> None:
        head = self._open.get(task_id)
        if head is not None and head.workspace == workspace:
            by = Reporter(principal=principal, agent_id=agent_id, attempt=attempt)
            self._happens(head, Release(by=by), now)

    def beat(self, agents: Sequence[AgentKey], now: float) -> list[tuple[str, str, str]]:
        """Signs of life renew every lease. (workspace, agent_id, task_id) of tasks that their holders should stop."""
        stop = []
        for key in agents:
            self._seen(key, now)
            for task_id in self._agents[key].leases:
                head = self._open[task_id]
                if head.detail is TaskDetail.CANCELLING:
                    stop.append((*key, task_id))
                    self._tell(head, now)
        return stop

    def head(self, task_id: str) -> TaskHead:
        """KeyError if the task is not open."""
        return self._open[task_id]

    def tick(self, now: float) -> None:
        """Everything that is due."""
        while self._timers and self._timers[0][0] <= now:
            _, _, kind, task_id, attempt = heapq.heappop(self._timers)
            head = self._open.get(task_id)
            if head is not None and head.attempt == attempt:
                self._due(head, kind, now)

    def next_timer(self) -> float | None:
        """Epoch seconds of the next thing that is due."""
        return self._timers[0][0] if self._timers else None

    # --- what goes out ------------------------------------------------------------------------------------------

    def take_output(self, now: float) -> tuple[list[TaskDecision], list[tuple[int, tuple[Grant, ...]]]]:
        """Serves waiting claims with what became ready, then hands over decisions and, for waiting claims, their
        grants by ticket. Grants may be told only after the decisions are durable."""
        self._serve_waiting(now)
        decisions, self._decisions = self._decisions, []
        granted, self._granted = self._granted, []
        return decisions, granted

    @property
    def waiting_claims(self) -> int:
        return len(self._tickets)

    @property
    def open_tasks(self) -> int:
        return len(self._open)

    # --- tasks --------------------------------------------------------------------------------------------------

    def _known(self, task_id: str, workspace: str) -> TaskHead:
        head = self._open.get(task_id)
        if head is None or head.workspace != workspace:
            raise Missing(f"There is no open task {task_id}.", "task_not_found")
        return head

    def _add(self, head: TaskHead, now: float) -> None:
        required = self._sets.setdefault(head.required, head.required)
        head = replace(
            head,
            workspace=sys.intern(head.workspace),
            task_type=sys.intern(head.task_type),
            queue=sys.intern(head.queue),
            required=required,
            run_at=head.created_at if head.run_at == head.created_at else head.run_at,
        )
        self._open[head.id] = head
        if head.status is TaskStatus.PENDING:
            self._enqueue(head, head.run_at, now)
        else:
            self._hold(head, now)
            if head.detail is TaskDetail.CANCELLING:
                self._arm(now + self._policy.cancel_grace_s, CancelGraceOver, head)

    def _happens(self, head: TaskHead, event: Event, now: float) -> TaskHead:
        """One transition: memory, effects and the decision that makes it durable."""
        transition = step(head, event, now, self._policy)
        new = transition.head
        if new is not head:
            self._open[head.id] = new
        for effect in transition.effects:
            if isinstance(effect, Dequeue):
                self._queue.discard(head.id)
            elif isinstance(effect, EndLease):
                self._let_go(head)
            elif isinstance(effect, Enqueue):
                self._enqueue(new, effect.not_before, now)
            elif isinstance(effect, StartLease):
                self._hold(new, now)
            elif isinstance(effect, StartGrace):
                self._arm(effect.until, CancelGraceOver, new)
        if transition.decision is not None:
            self._decisions.append(transition.decision)
        if new.status.terminal:
            self._open.pop(head.id, None)
        return new

    def _enqueue(self, head: TaskHead, not_before: float, now: float) -> None:
        if not_before > now:
            self._arm(not_before, RunAtReached, head)
            return
        self._queue.push(head)
        self._fresh[(head.workspace, head.target_agent, head.required)] = None

    def _arm(self, at: float, kind: type[Event], head: TaskHead) -> None:
        self._timer_number += 1
        heapq.heappush(self._timers, (at, self._timer_number, kind, head.id, head.attempt))

    def _due(self, head: TaskHead, kind: type[Event], now: float) -> None:
        running = head.status is TaskStatus.RUNNING
        if kind is RunAtReached:
            if not running and head.id not in self._queue and head.run_at <= now:
                self._happens(head, RunAtReached(), now)
        elif kind is LeaseExpired and running:
            self._lease_due(head, now)
        elif kind is RunTimedOut and running:
            self._happens(head, RunTimedOut(), now)
        elif kind is CancelGraceOver and head.detail is TaskDetail.CANCELLING:
            self._happens(head, CancelGraceOver(), now)

    def _lease_due(self, head: TaskHead, now: float) -> None:
        assert head.assigned_agent is not None
        key = (head.workspace, head.assigned_agent)
        if any(not waiting.gone for waiting in self._by_agent.get(key, ())):
            self._seen(key, now)  # an open long poll is a sign of life
        expires_at = self._expires_at(head)
        if expires_at > now:
            self._arm(expires_at, LeaseExpired, head)
        else:
            self._happens(head, LeaseExpired(), now)

    # --- leases -------------------------------------------------------------------------------------------------

    def _seen(self, key: AgentKey, now: float) -> None:
        agent = self._agents.get(key)
        if agent is None:
            agent = self._agents[key] = _Agent()
        agent.seen = max(agent.seen, now)

    def _hold(self, head: TaskHead, now: float) -> None:
        assert head.assigned_agent is not None, "a running task has an agent"
        key = (head.workspace, head.assigned_agent)
        self._seen(key, now)
        self._agents[key].leases[head.id] = None
        self._arm(self._expires_at(head), LeaseExpired, head)
        started = now if head.started_at is None else head.started_at
        self._arm(started + head.timeout_s, RunTimedOut, head)

    def _let_go(self, head: TaskHead) -> None:
        self._extended.pop(head.id, None)
        self._told.discard((head.id, head.attempt))
        if head.assigned_agent is not None:
            agent = self._agents.get((head.workspace, head.assigned_agent))
            if agent is not None:
                agent.leases.pop(head.id, None)

    def _expires_at(self, head: TaskHead) -> float:
        assert head.assigned_agent is not None
        seen = self._agents[(head.workspace, head.assigned_agent)].seen
        return max(seen, self._extended.get(head.id, 0.0)) + self._ttl_s

    def _tell(self, head: TaskHead, now: float) -> None:
        if (head.id, head.attempt) not in self._told:
            self._told.add((head.id, head.attempt))
            self._happens(head, CancelDelivered(), now)

    def _agent_changed(self, row: LogRow, now: float) -> None:
        key = (row.workspace, row.entity)
        if row.kind == "agent.registered":
            self._removed.discard(key)
            return
        gone = row.kind == "agent.unregistered"
        offline = row.data.get("new_status") == "offline"
        if gone or offline:
            self._lose(key, now, deliberate=gone)
        if gone:
            self._removed.add(key)
            self._agents.pop(key, None)
        # What the agent may do has changed: its claims are asked again by whoever holds them.
        for waiting in self._by_agent.pop(key, ()):
            if not waiting.gone:
                self._answer_waiting(waiting, ())

    def _lose(self, key: AgentKey, now: float, *, deliberate: bool) -> None:
        agent = self._agents.get(key)
        for task_id in list(agent.leases if agent is not None else ()):
            self._happens(self._open[task_id], AgentLost(deliberate=deliberate), now)

    # --- claims -------------------------------------------------------------------------------------------------

    def _redelivered(self, wanted: Wanted, now: float) -> tuple[Grant, ...]:
        """Leases that the agent has already and may not know of, because an answer was lost."""
        held = [self._open[task_id] for task_id in self._agents[wanted.agent].leases]
        again = [head for head in held if head.claim_id == wanted.claim_id]
        released_client = wanted.max_tasks is None and not wanted.own_claim_id
        if not again and released_client and len(held) >= wanted.max_concurrency:
            again = held[:1]
        for head in again:
            if head.detail is TaskDetail.CANCELLING:
                self._tell(head, now)
        return tuple(Grant(head=h, expires_at=self._expires_at(h), redelivered=True) for h in again)

    def _grant(self, wanted: Wanted, now: float) -> tuple[Grant, ...]:
        grants = []
        for _ in range(min(self._slots(wanted), wanted.max_tasks or 1)):
            task_id = self._queue.take(*wanted.agent, wanted.capabilities, now)
            if task_id is None:
                break
            event = Claim(agent_id=wanted.agent[1], claim_id=wanted.claim_id, principal=wanted.principal)
            head = self._happens(self._open[task_id], event, now)
            grants.append(Grant(head=head, expires_at=self._expires_at(head)))
        return tuple(grants)

    def _wait(self, waiting: _Waiting) -> None:
        wanted = waiting.wanted
        self._tickets[waiting.ticket] = waiting
        alike = self._waiting.setdefault((wanted.agent[0], wanted.capabilities), deque())
        for queue in (alike, self._by_agent.setdefault(wanted.agent, deque())):
            while queue and queue[0].gone:
                queue.popleft()
            queue.append(waiting)

    def _answer_waiting(self, waiting: _Waiting, grants: tuple[Grant, ...]) -> None:
        waiting.gone = True
        self._tickets.pop(waiting.ticket, None)
        self._granted.append((waiting.ticket, grants))

    def _serve_waiting(self, now: float) -> None:
        """Only claims that what became ready could satisfy are looked at."""
        fresh, self._fresh = self._fresh, {}
        for workspace, target, required in fresh:
            if target is not None:
                for waiting in self._by_agent.get((workspace, target), ()):
                    if not waiting.gone:
                        self._offer_one(waiting, now)
                continue
            for key in [k for k in self._waiting if k[0] == workspace and required <= k[1]]:
                self._offer(self._waiting[key], now)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _offer(self, queue: deque[_Waiting], now: float) -> None:
        """First come, first served among claims with equal capabilities; those whose slots are full keep their turn."""
        kept: deque[_Waiting] = deque()
        while queue:
            waiting = queue.popleft()
            if waiting.gone or self._offer_one(waiting, now):
                continue
            kept.append(waiting)
            if self._slots(waiting.wanted) > 0:
                break  # it had room and found nothing, so nobody with these capabilities will
        queue.extendleft(reversed(kept))

    def _offer_one(self, waiting: _Waiting, now: float) -> bool:
        grants = self._grant(waiting.wanted, now)
        if grants:
            self._answer_waiting(waiting, grants)
        return bool(grants)

    def _slots(self, wanted: Wanted) -> int:
        return wanted.max_concurrency - len(self._agents[wanted.agent].leases)
