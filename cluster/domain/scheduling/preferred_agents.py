"""Which agents claim work from which regions: whether anybody is there for whom a task that prefers a region would wait.

An agent counts from its first claim on, while it is heard and may get something new. All of it is a hint in memory: a shard that
has just begun knows of nobody, so it takes for granted that somebody is there until every agent has had the time to claim.
"""

from __future__ import annotations

from typing import Final

from cluster.domain.scheduling.eligibility import Demand, Profile, eligible
from cluster.domain.scheduling.lease_table import LeaseTable
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.rules import PREFERENCE_S

#: Seconds for which an answer is kept unless an agent comes, changes or goes: agents fall silent without an event.
KEPT_S: Final = 1.0
#: So many answers are kept, before all are dropped.
MOST_KEPT: Final = 1000


class PreferredAgents:
    """``leases`` says who is heard and may get something new; it is only read."""

    def __init__(self, leases: LeaseTable) -> None:
        self._leases = leases
        # Agent → what its last claim took. ``note`` sets it, ``forget`` removes it with the agent.
        self._profiles: dict[AgentKey, Profile] = {}
        # (workspace, region) → the agents that claim from there (ordered sets). Changed together with ``_profiles``.
        self._by_region: dict[tuple[str, str], dict[AgentKey, None]] = {}
        # Whether any task has preferred a region. Most shards never see one; then agents come and go without a look at queues.
        self.is_asked = False
        # When this shard was first asked, or heard of an agent; None before.
        self._since: float | None = None
        # Demand → until when an answer counts, and the answer. ``is_near`` adds, whatever changes an agent drops all.
        self._kept: dict[Demand, tuple[float, bool]] = {}

    def note(self, agent: AgentKey, profile: Profile, now: float) -> None:
        """Notes what an agent claims."""
        self._begin(now)
        if self._profiles.get(agent) == profile:
            return
        self.forget(agent)
        self._profiles[agent] = profile
        for region in profile.regions:
            self._by_region.setdefault((agent[0], region), {})[agent] = None

    def forget(self, agent: AgentKey) -> None:
        """The agent was deregistered, or claims otherwise now."""
        self._kept.clear()
        profile = self._profiles.pop(agent, None)
        for region in () if profile is None else profile.regions:
            there = self._by_region[agent[0], region]
            del there[agent]
            if not there:
                del self._by_region[agent[0], region]

    def changed(self) -> None:
        """An agent may get something new, or may not any more."""
        self._kept.clear()

    def is_near(self, demand: Demand, now: float) -> bool:
        """Whether an agent of the regions that a demand prefers could have its tasks, and is there."""
        self.is_asked = True
        since = self._begin(now)
        if now - since < PREFERENCE_S:
            return True
        until, known = self._kept.get(demand, (now, False))
        if until <= now:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            known = self._look(demand, now)
            self._kept[demand] = now + KEPT_S, known
        return known

    def _look(self, demand: Demand, now: float) -> bool:
        regions = () if demand.selection is None else demand.selection.regions
        for region in regions:
            for agent in self._by_region.get((demand.workspace, region), ()):
                if self._leases.is_unschedulable(agent) or not self._leases.is_heard(agent, now):
                    continue
                if eligible(demand, self._profiles[agent], agent[1], 0.0) is None:
                    return True
        return False

    def _begin(self, now: float) -> float:
        if self._since is None:
            self._since = now
        return self._since
