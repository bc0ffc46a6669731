"""Whether a claim may have a task, and if not, why not: one table of conditions, which claims and explanations read.

A task asks (its ``Demand``), a claim takes (its ``Profile``); both are of one workspace. This room knows no queue and no
clock. What ``scope`` a condition has says how it is looked up when there are many tasks and many claims, and changes no
answer:

- ``agent``: the task is for one agent, in sub-queues of that agent, at which no claim of another looks.
- ``profile``: the answer is the same for all tasks with an equal demand and all claims with an equal profile, so the
  ready queue keeps it (``sub_queues``), and claims that wait are grouped by it (``requests``).
- ``turn``: it depends on who claims, or on how long the task has waited, so it is asked at each claim.

A further condition is one row here, a field of the demand or the profile, and its words in ``agent_reasons``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from cluster.domain.base.versions import in_range
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, Selection
from cluster.domain.tasks.task import TaskHead

_NOWHERE: frozenset[str] = frozenset()


class Demand(NamedTuple):
    """What a task asks of whoever claims it. ``target``: the agent that it names. ``task_type`` None: of any type that no claim
    names (the ready queue keeps tasks of such types together). ``selection``: its rules about agents; None if it has none.
    ``sticky_agent``: the agent that holds its sticky key, for as long as it waits for that one."""

    workspace: str
    target: str | None
    required: frozenset[str]
    queue: str
    task_type: str | None
    selection: Selection | None
    sticky_agent: str | None = None

    @property
    def agent(self) -> str | None:
        """The only agent that may have the task now; None if there is no such agent."""
        return self.sticky_agent if self.target is None else self.target


DemandKey = tuple[str, str | None, frozenset[str], str, str | None, Selection | None, str | None]
"""The fields of a demand. It equals the demand and costs less to make, which counts where every task is looked up by it."""


def demand_key(head: TaskHead, task_type: str | None, sticky_agent: str | None) -> DemandKey:
    selection = None if head.rules is None else head.rules.selection()
    return head.workspace, head.target_agent, head.required, head.queue, task_type, selection, sticky_agent


def demand_of(head: TaskHead, sticky_agent: str | None = None) -> Demand:
    return Demand(*demand_key(head, head.task_type, sticky_agent))


class Profile(NamedTuple):
    """What a claim takes, whoever makes it. ``capabilities`` are the agent's, narrowed by the claim; ``explicit_only``: nothing
    that requires no capability, unless it names the agent; ``regions``: where the agent is; ``task_types`` and ``queues``: only
    these, None for any; ``version``: the worker's, None if it announces none."""

    workspace: str
    capabilities: frozenset[str]
    explicit_only: bool = False
    regions: frozenset[str] = _NOWHERE
    task_types: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    version: str | None = None


class Refusal(StrEnum):
    """Why a claim may not have a task."""

    TARGET = "target"
    STICKY = "sticky_key"
    CAPABILITIES = "capabilities"
    EXPLICIT_ONLY = "explicit_only"
    EXCLUDED = "excluded"
    REGION = "region"
    PREFERRED_REGION = "preferred_region"
    VERSION = "worker_version"
    POLICY = "policy"
    TASK_TYPE = "task_type"
    QUEUE = "queue"


class Scope(StrEnum):
    """How a condition is looked up (see the module)."""

    AGENT = "agent"
    PROFILE = "profile"
    TURN = "turn"


class Condition(NamedTuple):
    """``refuses`` gets the demand, the claim's profile and agent, and how long the task has waited (seconds, by ``patience``).
    ``concerns``: whether a task asks for it at all."""

    refusal: Refusal
    scope: Scope
    concerns: Callable[[Demand], bool]
    refuses: Callable[[Demand, Profile, str, float], bool]


def _always(demand: Demand) -> bool:
    return True


def _has_target(demand: Demand) -> bool:
    return demand.target is not None


def _wrong_agent(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return demand.target is not None and demand.target != agent_id


def _has_sticky_agent(demand: Demand) -> bool:
    return demand.sticky_agent is not None


def _not_sticky_agent(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return demand.sticky_agent is not None and demand.sticky_agent != agent_id


def _lacks_capabilities(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return not demand.required <= profile.capabilities


def _asks_for_nothing(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return profile.explicit_only and not demand.required and demand.target is None


def _excludes_some(demand: Demand) -> bool:
    return demand.selection is not None and bool(demand.selection.excluded)


def _excluded(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return demand.selection is not None and agent_id in demand.selection.excluded


def _has_affinity(affinity: Affinity) -> Callable[[Demand], bool]:
    return lambda demand: demand.selection is not None and demand.selection.affinity is affinity


def _outside(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    selection = demand.selection
    return (
        selection is not None
        and selection.affinity is Affinity.STRICT
        and profile.regions.isdisjoint(selection.regions)
    )


def _outside_too_early(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    selection = demand.selection
    return (
        selection is not None
        and selection.affinity is Affinity.PREFERRED
        and waited_s < PREFERENCE_S
        and profile.regions.isdisjoint(selection.regions)
    )


def _has_version(demand: Demand) -> bool:
    return demand.selection is not None and demand.selection.worker_version is not None


def _other_version(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    versions = None if demand.selection is None else demand.selection.worker_version
    return versions is not None and (profile.version is None or not in_range(profile.version, versions))


def _has_policies(demand: Demand) -> bool:
    return demand.selection is not None and bool(demand.selection.policies)


def _against_policy(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    selection = demand.selection
    return selection is not None and any(bounds.refuses(agent_id, profile.regions) for bounds in selection.policies)


def _other_type(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return profile.task_types is not None and demand.task_type not in profile.task_types


def _other_queue(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> bool:
    return profile.queues is not None and demand.queue not in profile.queues


#: In the order in which a task's reasons are given. Docs and tests read this table.
CONDITIONS: tuple[Condition, ...] = (
    Condition(Refusal.TARGET, Scope.AGENT, _has_target, _wrong_agent),
    Condition(Refusal.STICKY, Scope.AGENT, _has_sticky_agent, _not_sticky_agent),
    Condition(Refusal.CAPABILITIES, Scope.PROFILE, _always, _lacks_capabilities),
    Condition(Refusal.EXPLICIT_ONLY, Scope.PROFILE, _always, _asks_for_nothing),
    Condition(Refusal.EXCLUDED, Scope.TURN, _excludes_some, _excluded),
    Condition(Refusal.REGION, Scope.PROFILE, _has_affinity(Affinity.STRICT), _outside),
    Condition(Refusal.PREFERRED_REGION, Scope.TURN, _has_affinity(Affinity.PREFERRED), _outside_too_early),
    Condition(Refusal.VERSION, Scope.PROFILE, _has_version, _other_version),
    Condition(Refusal.POLICY, Scope.TURN, _has_policies, _against_policy),
    Condition(Refusal.TASK_TYPE, Scope.PROFILE, _always, _other_type),
    Condition(Refusal.QUEUE, Scope.PROFILE, _always, _other_queue),
)


def prefers(demand: Demand) -> bool:
    """Whether agents of some regions come first for a while."""
    return demand.selection is not None and demand.selection.affinity is Affinity.PREFERRED


def patience(waited_s: float, is_near: bool) -> float:
    """How long a task has waited, as the conditions count it. ``is_near``: whether an agent of the regions that it prefers is
    there. If none is, there is nobody to wait for, so it has waited for long enough."""
    return waited_s if is_near else math.inf


def eligible(demand: Demand, profile: Profile, agent_id: str, waited_s: float) -> Refusal | None:
    """Why a claim may not have a task that has waited so long (by ``patience``); None if it may."""
    for condition in CONDITIONS:
        if condition.refuses(demand, profile, agent_id, waited_s):
            return condition.refusal
    return None


_BY_PROFILE = tuple(condition.refuses for condition in CONDITIONS if condition.scope is Scope.PROFILE)
_BY_TURN = tuple(condition for condition in CONDITIONS if condition.scope is Scope.TURN)
Turns = tuple[Callable[[Demand, Profile, str, float], bool], ...]


def admits_profile(demand: Demand, profile: Profile) -> bool:
    """Whether claims of this profile may have tasks of this demand, as far as that depends on the two alone."""
    return not any(refuses(demand, profile, "", 0.0) for refuses in _BY_PROFILE)


def turns(demand: Demand) -> Turns:
    """The conditions of a demand that are to be asked at each claim."""
    return tuple(condition.refuses for condition in _BY_TURN if condition.concerns(demand))


def refuses(refusal: Refusal, demand: Demand, profile: Profile) -> bool:
    """Whether one condition, of scope ``profile``, refuses: for explanations of what claims leave out."""
    condition = next(condition for condition in CONDITIONS if condition.refusal is refusal)
    return condition.refuses(demand, profile, "", 0.0)
