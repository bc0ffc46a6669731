"""Claims: what an agent asks for, what it gets, and those that wait until there is something for them."""

from __future__ import annotations

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
    """A claim. ``capabilities`` are the agent's registered ones, narrowed by the request; ``regions`` those it is in.

    ``max_tasks`` None is the released client's claim: one task, or the oldest lease again when all slots are taken.
    ``client_claim_id``: the caller chose ``claim_id``, and gets the same leases for the same id. ``wait``: it is kept until
    there is something for it. ``unschedulable``: the agent gets nothing new (paused, draining, unhealthy), and its claim
    waits until that changes. ``explicit_only``: tasks that require nothing are not for it, unless they name it. ``cause``:
    the trace of the request.
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

    @property
    def agent(self) -> AgentKey:
        return self.workspace, self.agent_id


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """``expires_at`` in epoch seconds unless the holder gives another sign of life. ``delivery`` numbers the answer."""

    head: TaskHead
    expires_at: float
    delivery: int
    redelivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredClaim:
    """What a waiting claim gets: leases, or word that the agent should stop something, or neither (ask again)."""

    ticket: int
    grants: tuple[Grant, ...] = ()
    stopping: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Waiting:
    ticket: int
    request: ClaimRequest
    withdrawn: bool = False


class WaitingClaims:
    """In order of arrival, by agent and by capabilities. What has gone stays behind and is skipped."""

    def __init__(self) -> None:
        self._alike: dict[tuple[str, frozenset[str], bool], deque[Waiting]] = {}
        self._by_agent: dict[AgentKey, deque[Waiting]] = {}
        self._tickets: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: int, request: ClaimRequest) -> None:
        waiting = self._tickets[ticket] = Waiting(ticket, request)
        alike = self._alike.setdefault((request.workspace, request.capabilities, request.explicit_only), deque())
        for queue in (alike, self._by_agent.setdefault(request.agent, deque())):
            while queue and queue[0].withdrawn:
                queue.popleft()
            queue.append(waiting)

    def withdraw(self, ticket: int) -> bool:
        """False if it does not wait (any more)."""
        waiting = self._tickets.pop(ticket, None)
        if waiting is not None:
            waiting.withdrawn = True
        return waiting is not None

    def of_agent(self, agent: AgentKey) -> Iterator[Waiting]:
        return (waiting for waiting in self._by_agent.get(agent, ()) if not waiting.withdrawn)

    def take_agent(self, agent: AgentKey) -> list[Waiting]:
        """Those of one agent, which leave."""
        return [waiting for waiting in self._by_agent.pop(agent, ()) if not waiting.withdrawn]

    def offer(
        self,
        workspace: str,
        required: frozenset[str],
        give: Callable[[Waiting], bool],
        was_last: Callable[[Waiting], bool],
    ) -> None:
        """First come, first served among claims with equal capabilities. ``give`` is true for one that got something;
        one that did not keeps its turn, and after one for which ``was_last`` is true nobody alike is asked."""
        explicit = bool(required)
        alike = [k for k in self._alike if k[0] == workspace and required <= k[1] and (explicit or not k[2])]
        for key in alike:
            queue, kept = self._alike[key], deque[Waiting]()
            while queue:
                waiting = queue.popleft()
                if waiting.withdrawn or give(waiting):
                    continue
                kept.append(waiting)
                if was_last(waiting):
                    break
            queue.extendleft(reversed(kept))
            if not queue:
                del self._alike[key]
