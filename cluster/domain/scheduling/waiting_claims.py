"""The claims that wait because there was nothing for them, and which of them are to be offered work."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.domain.scheduling.eligibility import Demand, Profile, admits_profile
from cluster.domain.scheduling.requests import AgentKey, ClaimRequest
from cluster.domain.scheduling.sub_queues import SubQueue


@dataclass(slots=True, eq=False)
class Waiting:
    """A claim that waits, under a ticket that its asker knows. ``withdrawn``: it waits no more; queues that still hold it skip
    it."""

    ticket: int
    request: ClaimRequest
    profile: Profile
    withdrawn: bool = False


Give = Callable[[Waiting], bool]
"""Gives a waiting claim what there is for it; true if it got something."""


def _never(waiting: Waiting) -> bool:
    return False


class WaitingClaims:
    """Waiting claims in order of arrival, by profile and by agent. A withdrawn claim stays in its queues until they are next
    looked at, because removing it from the middle would cost their length."""

    def __init__(self) -> None:
        # Profile → its claims, the oldest first: the same tasks could satisfy them. ``add`` adds; ``_offer`` removes those served
        # or withdrawn, and empty queues.
        self._alike: dict[Profile, deque[Waiting]] = {}
        # (workspace, task type) → the keys of ``_alike`` whose claims name that type (an ordered set); None instead of a type:
        # those that take any. Changed together with ``_alike``, so that a task looks only at claims that may take its type.
        self._by_type: dict[tuple[str, str | None], dict[Profile, None]] = {}
        # Agent → its claims, the oldest first. ``add`` adds and drops withdrawn ones from the front; ``take_agent`` removes.
        self._by_agent: dict[AgentKey, deque[Waiting]] = {}
        # Ticket → claim, of those alone that still wait. ``add`` adds, ``withdraw`` removes.
        self._tickets: dict[int, Waiting] = {}
        # True while ``_offer`` runs, which has taken claims out of their queues and puts some back.
        self._offering = False
        # Sub-queues (an ordered set) in which something became ready since the last ``serve``, which empties it.
        self._ready: dict[SubQueue, None] = {}
        # Agents (an ordered set) that have a slot again, or may work again, since the last ``serve``.
        self._agents: dict[AgentKey, None] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: int, request: ClaimRequest, profile: Profile) -> None:
        waiting = self._tickets[ticket] = Waiting(ticket, request, profile)
        alike = self._alike.get(profile)
        if alike is None:
            alike = self._alike[profile] = deque()
            for name in _names(profile):
                self._by_type.setdefault(name, {})[profile] = None
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
                self._tidy(waiting.profile)
        return waiting is not None

    def of_agent(self, agent: AgentKey) -> Iterator[Waiting]:
        return (waiting for waiting in self._by_agent.get(agent, ()) if not waiting.withdrawn)

    def take_agent(self, agent: AgentKey) -> list[Waiting]:
        """Removes an agent's claims and returns those that still wait. The caller withdraws each, which its other queue needs."""
        return [waiting for waiting in self._by_agent.pop(agent, ()) if not waiting.withdrawn]

    def task_types(self, workspace: str) -> set[str]:
        """The task types that claims of a workspace name."""
        return {name for of, name in self._by_type if of == workspace and name is not None}

    # --- offers ---------------------------------------------------------------------------------------------------

    def became_ready(self, sub_queue: SubQueue) -> None:
        """Notes that something may start in a sub-queue: the next ``serve`` offers it."""
        self._ready[sub_queue] = None

    def may_ask(self, agent: AgentKey) -> None:
        """Notes that an agent has a slot again, or may work again: the next ``serve`` offers work to its claims."""
        self._agents[agent] = None

    @property
    def has_offers(self) -> bool:
        return bool(self._ready or self._agents)

    def serve(self, give: Give, has_room: Callable[[Waiting], bool]) -> None:
        """Offers work to the claims that could get some now: those of the agents that may ask, and those that may have what
        became ready. All other claims cost nothing."""
        agents, self._agents = self._agents, {}
        for agent in agents:
            self._offer_agent(agent, give)
        ready, self._ready = self._ready, {}
        for sub_queue in ready:
            demand = sub_queue.demand
            if demand.agent is not None:
                self._offer_agent((demand.workspace, demand.agent), give)
            else:
                # A claim with room that got nothing ends the offer: the claims behind it have the same profile and would get
                # nothing either. If something is asked at each claim, that does not follow, so all are offered it.
                self._offer(demand, give, _never if sub_queue.turns else has_room)

    def _offer_agent(self, agent: AgentKey, give: Give) -> None:
        for waiting in self.of_agent(agent):
            give(waiting)

    def _offer(self, demand: Demand, give: Give, was_last: Callable[[Waiting], bool]) -> None:
        """Offers what became ready to the claims that could have it, in order of arrival. A claim that got nothing keeps its
        position. If ``was_last`` is true of it, the claims behind it that are alike are not asked."""
        profiles = [*self._by_type.get((demand.workspace, None), ())]
        if demand.task_type is not None:
            profiles += self._by_type.get((demand.workspace, demand.task_type), ())
        alike = {profile: deque[Waiting]() for profile in profiles if admits_profile(demand, profile)}
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

    def _tidy(self, key: Profile) -> None:
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


def _names(profile: Profile) -> list[tuple[str, str | None]]:
    """The keys of ``_by_type`` for claims of a profile."""
    if profile.task_types is None:
        return [(profile.workspace, None)]
    return [(profile.workspace, name) for name in profile.task_types]
