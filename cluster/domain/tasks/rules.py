"""What a task may ask for beyond the usual: time limits, a tenant, a concurrency key, regions, excluded agents, and tasks
that must end first.

Most tasks ask for none of it. Then ``rules`` is None everywhere: in the row, in the log and in a shard's memory. A name that
a caller chooses (tenant, concurrency key) is valid within its workspace only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.tasks.agent_bounds import AgentBounds
from cluster.domain.tasks.retries import TaskRetries


class WhenFailed(StrEnum):
    """What happens to a task if one that it runs after ends without a result."""

    FAIL = "fail"
    RUN_ANYWAY = "run_anyway"


class Affinity(StrEnum):
    """Which regions' agents may take a task. ``preferred``: until it has waited ``PREFERENCE_S``, only agents of the named
    regions may, if one that could is there; then any agent may. ``strict``: only those of the named regions, always."""

    ANY = "any"
    PREFERRED = "preferred"
    STRICT = "strict"


PREFERENCE_S = 10.0
#: How long a task waits for the agent that holds its sticky key, from when it may start.
STICKY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A dependency. ``after`` is the id of the task that must end first."""

    after: str
    when_failed: WhenFailed = WhenFailed.FAIL


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of the rules that decides which agents may have a task, and whose share it counts for. Tasks with an equal
    selection share a sub-queue."""

    tenant: str | None
    excluded: frozenset[str]
    regions: tuple[str, ...]
    affinity: Affinity
    worker_version: str | None = None
    policies: tuple[AgentBounds, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRules:
    """``regions`` are the target region and then the fallbacks. ``queue_timeout_s`` bounds each wait for an agent,
    ``total_timeout_s`` the time from submit to end. A task with a ``concurrency_key`` starts only while fewer than its
    ``concurrency_limit`` tasks with that key run. ``worker_version``: the range that the version of its worker must be in.
    Tasks with the same ``sticky_key`` go to one agent if it can take them. ``policies``: what the policies demanded of its agents
    when it was submitted. ``parent``: the task whose child it is; ``depth``: in which generation."""

    tenant: str | None = None
    queue_timeout_s: float | None = None
    total_timeout_s: float | None = None
    concurrency_key: str | None = None
    concurrency_limit: int = 1
    excluded_agents: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    affinity: Affinity = Affinity.ANY
    after: tuple[Edge, ...] = ()
    retries: TaskRetries | None = None
    worker_version: str | None = None
    sticky_key: str | None = None
    policies: tuple[AgentBounds, ...] = ()
    parent: str | None = None
    depth: int = 0

    def or_none(self) -> TaskRules | None:
        return None if self == _NO_RULES else self

    def selection(self) -> Selection | None:
        """None if every capable agent may have the task, and it counts for its workspace's share."""
        plain = self.tenant is None and not self.excluded_agents and self.affinity is Affinity.ANY
        if plain and self.worker_version is None and not self.policies:
            return None
        return Selection(
            self.tenant,
            frozenset(self.excluded_agents),
            self.regions,
            self.affinity,
            self.worker_version,
            self.policies,
        )

    def to_json(self) -> dict[str, Any]:
        """Only the fields that differ from their defaults."""
        data: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name == "after":
                value = [[edge.after, edge.when_failed.value] for edge in self.after]
            elif field.name == "policies":
                value = [bounds.to_json() for bounds in value]
            elif field.name == "retries":
                value = value.to_json()
            data[field.name] = list(value) if isinstance(value, tuple) else value
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> TaskRules | None:
        if not data:
            return None
        values = dict(data)
        for name in ("excluded_agents", "regions"):
            values[name] = tuple(values.get(name, ()))
        values["after"] = tuple(Edge(after=i, when_failed=WhenFailed(w)) for i, w in values.get("after", ()))
        values["policies"] = tuple(AgentBounds.from_json(bounds) for bounds in values.get("policies", ()))
        if "retries" in values:
            values["retries"] = TaskRetries.from_json(values["retries"])
        values["affinity"] = Affinity(values.get("affinity", Affinity.ANY))
        return cls(**values)


_NO_RULES = TaskRules()


def checked(rules: TaskRules) -> TaskRules | None:
    """The rules, or None if they ask for nothing.

    Raises: `InvalidRequest` if a region or a concurrency key is missing, or a task is named twice."""
    if rules.affinity is not Affinity.ANY and not rules.regions:
        raise InvalidRequest(
            f"region_routing_mode {rules.affinity.value} needs target_region or fallback_regions.", "invalid_region"
        )
    if rules.concurrency_key is None and rules.concurrency_limit != 1:
        raise InvalidRequest("concurrency_limit needs a concurrency_key.", "invalid_concurrency")
    ids = [edge.after for edge in rules.after]
    if len(set(ids)) != len(ids):
        raise InvalidRequest("after names a task twice.", "invalid_dependency")
    return rules.or_none()
