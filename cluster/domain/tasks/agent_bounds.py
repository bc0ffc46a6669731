"""Which agents a policy lets have a task. A submit computes it once and keeps it with the task's rules, so that a claim reads no
policy: it looks only at what depends on the agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentBounds:
    """What one version of a policy demands of the agent. ``allowed`` and ``regions``: only these, any if empty."""

    policy_id: str
    version: int
    allowed: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    blocked_regions: frozenset[str] = frozenset()

    def refuses_agent(self, agent_id: str) -> bool:
        """Whether the agent may not have the task, wherever it is."""
        return agent_id in self.blocked or (bool(self.allowed) and agent_id not in self.allowed)

    def refuses_region(self, regions: frozenset[str]) -> bool:
        """Whether no agent of these regions may have the task: a blocked region counts more than an allowed one."""
        if not self.blocked_regions.isdisjoint(regions):
            return True
        return bool(self.regions) and self.regions.isdisjoint(regions)

    def refuses(self, agent_id: str, regions: frozenset[str]) -> bool:
        """Whether an agent that is in these regions may not have the task."""
        return self.refuses_agent(agent_id) or self.refuses_region(regions)

    def to_json(self) -> dict[str, Any]:
        """Only the fields that say something."""
        lists = {name: sorted(getattr(self, name)) for name in _LISTS}
        return {"policy_id": self.policy_id, "policy_version": self.version} | {
            name: names for name, names in lists.items() if names
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AgentBounds:
        return _bounds(data["policy_id"], data["policy_version"], *(tuple(data.get(name, ())) for name in _LISTS))


_LISTS = ("allowed", "blocked", "regions", "blocked_regions")


@lru_cache(maxsize=1000)  # a shard holds a task's bounds for each of its tasks; those of one policy are one object
def _bounds(policy_id: str, version: int, *lists: tuple[str, ...]) -> AgentBounds:
    named = {name: frozenset(names) for name, names in zip(_LISTS, lists, strict=True)}
    return AgentBounds(policy_id=policy_id, version=version, **named)
