"""Claims: what an agent asks for, what it gets, and the claims that wait because there was nothing for them."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.domain.base.compact import compact
from cluster.domain.tasks.task import TaskHead

AgentKey = tuple[str, str]
"""(workspace, agent_id)"""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """An agent's request for work. ``capabilities`` are its registered ones, narrowed by the request; ``regions`` those it is in.

    ``max_tasks`` None is the released client's claim: one task, or its oldest lease again if all slots are leased.
    ``client_claim_id``: the caller chose ``claim_id``, and gets the same leases for the same id. ``wait``: keep the claim until
    there is something for it. ``unschedulable``: the agent gets nothing new (paused, draining, unhealthy), and its claim
    waits until that changes. ``explicit_only``: the agent gets no task that requires nothing, unless the task names it.
    ``task_types``: only tasks of these types; None takes any. ``queues``: only those of these queues, likewise. ``cause``: the
    trace of the request. ``asked_at``: when the client asked, by its replica's clock (epoch seconds); of several claims under
    one id that a client chose, the newest is answered.
    ``after_seq``: the newest log row of a submit that its replica has acknowledged, whose task the claim must not miss.
    """

    workspace: str
    agent_id: str
    principal: str
    capabilities: frozenset[str]
    max_concurrency: int
    max_tasks: int | None
    claim_id: str
    client_claim_id: bool
    wait: bool = False
    regions: frozenset[str] = frozenset()
    unschedulable: bool = False
    explicit_only: bool = False
    cause: str = ""
    asked_at: float = 0.0
    task_types: frozenset[str] | None = None
    after_seq: int = 0
    queues: frozenset[str] | None = None

    @property
    def agent(self) -> AgentKey:
        return self.workspace, self.agent_id


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A lease as it is answered to a claim. It expires at ``expires_at`` (epoch seconds) unless it is renewed.

    ``delivery`` numbers this answer. ``redelivered``: an earlier answer carried the lease already."""

    head: TaskHead
    expires_at: float
    delivery: int
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredClaim:
    """The answer to a waiting claim: leases, ids of tasks that the agent should stop, or neither (it should claim again)."""

    ticket: int
    grants: tuple[Grant, ...] = ()
    stopping: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Waiting:
    """A claim that waits, under a ticket that its asker knows. ``withdrawn``: it waits no more; queues that still hold it skip
    it."""

    ticket: int
    request: ClaimRequest
    withdrawn: bool = False


Alike = tuple[str, frozenset[str], bool, frozenset[str] | None, frozenset[str] | None]
"""(workspace, capabilities, explicit_only, task types, queues): what claims have in common that the same tasks could satisfy."""


class WaitingClaims:
    """Waiting claims in order of arrival, by what could satisfy them and by agent. A withdrawn claim stays in its queues until
    they are next looked at, because removing it from the middle would cost their length."""

    def __init__(self) -> None:
        # What claims have in common → those claims, the oldest first. ``add`` adds; ``offer`` removes those served or withdrawn,
        # and empty queues.
        self._alike: dict[Alike, deque[Waiting]] = {}
        # (workspace, task type) → the keys of ``_alike`` whose claims name that type (an ordered set); None instead of a type:
        # those that take any. Changed together with ``_alike``, so that a task looks only at claims that may take its type.
        self._by_type: dict[tuple[str, str | None], dict[Alike, None]] = {}
        # Agent → its claims, the oldest first. ``add`` adds and drops withdrawn ones from the front; ``take_agent`` removes.
        self._by_agent: dict[AgentKey, deque[Waiting]] = {}
        # Ticket → claim, of those alone that still wait. ``add`` adds, ``withdraw`` removes.
        self._tickets: dict[int, Waiting] = {}
        # True while ``offer`` runs, which has taken claims out of their queues and puts some back.
        self._offering = False

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: int, request: ClaimRequest) -> None:
        waiting = self._tickets[ticket] = Waiting(ticket, request)
        key = _alike_key(request)
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = deque()
            for name in _names(key):
                self._by_type.setdefault(name, {})[key] = None
        for queue in (alike, self._by_agent.setdefault(request.agent, deque())):
            while queue and queue[0].withdrawn:
                queue.popleft()
            queue.append(waiting)

    def withdraw(self, ticket: int) -> bool:
        """Marks a claim as withdrawn; False if none waits under the ticket."""
        waiting = self._tickets.pop(ticket, None)
        if waiting is not None:
            waiting.withdrawn = True
            if not self._offering:
                self._tidy(_alike_key(waiting.request))
        return waiting is not None

    def of_agent(self, agent: AgentKey) -> Iterator[Waiting]:
        return (waiting for waiting in self._by_agent.get(agent, ()) if not waiting.withdrawn)

    def take_agent(self, agent: AgentKey) -> list[Waiting]:
        """Removes an agent's claims and returns those that still wait. The caller withdraws each, which its other queue needs."""
        return [waiting for waiting in self._by_agent.pop(agent, ()) if not waiting.withdrawn]

    def task_types(self, workspace: str) -> set[str]:
        """The task types that claims of a workspace name."""
        return {name for of, name in self._by_type if of == workspace and name is not None}

    def offer(
        self,
        workspace: str,
        required: frozenset[str],
        give: Callable[[Waiting], bool],
        was_last: Callable[[Waiting], bool],
        task_type: str | None = None,
    ) -> None:
        """Offers something that became ready to the claims that could have it, in order of arrival. ``task_type`` is None if no
        claim names its type.

        ``give`` is true if the claim got something. A claim that got nothing keeps its position. If ``was_last`` is true of it,
        the claims behind it that are alike are not asked."""
        keys = [*self._by_type.get((workspace, None), ())]
        if task_type is not None:
            keys += self._by_type.get((workspace, task_type), ())
        explicit = bool(required)
        alike = {k: deque[Waiting]() for k in keys if required <= k[1] and (explicit or not k[2])}
        # The oldest claim of each queue; those that are asked are taken out, and put back in front if they got nothing.
        self._offering = True
        fronts = [(self._alike[key][0].ticket, at, key) for at, key in enumerate(alike)]
        heapq.heapify(fronts)
        while fronts:
            _, at, key = heapq.heappop(fronts)
            queue = self._alike[key]
            waiting = queue.popleft()
            got = waiting.withdrawn or give(waiting)
            if not got:
                alike[key].append(waiting)
            if queue and (got or not was_last(waiting)):
                heapq.heappush(fronts, (queue[0].ticket, at, key))
        self._offering = False
        for key, kept in alike.items():
            self._alike[key].extendleft(reversed(kept))
            self._tidy(key)

    def _tidy(self, key: Alike) -> None:
        """Drops withdrawn claims from the front of a queue, and the queue if it is empty: claims may name any types, so there is
        no end of different ones."""
        queue = self._alike.get(key)
        if queue is None:
            return
        while queue and queue[0].withdrawn:
            queue.popleft()
        if queue:
            return
        del self._alike[key]
        for name in _names(key):
            del self._by_type[name][key]
            if not self._by_type[name]:
                del self._by_type[name]


def _alike_key(request: ClaimRequest) -> Alike:
    return request.workspace, request.capabilities, request.explicit_only, request.task_types, request.queues


def _names(key: Alike) -> list[tuple[str, str | None]]:
    """The keys of ``_by_type`` for claims that are alike."""
    workspace, types = key[0], key[3]
    return [(workspace, None)] if types is None else [(workspace, name) for name in types]
