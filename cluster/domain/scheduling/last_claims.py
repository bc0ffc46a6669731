"""What the claims of agents leave out, for explanations: a task may wait although an agent that could do it claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from cluster.domain.scheduling.eligibility import Profile, Refusal, demand_of, refuses
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskHead

LeftOut = Mapping[Refusal, Mapping[str, tuple[str, ...]]]
"""Refusal → agent → what its claims name instead: the agents none of whose claims a condition lets take the task."""

#: What of a claim, and not of its agent, decides who may have a task.
_NAMED: Final[Mapping[Refusal, Callable[[Profile], Iterable[str] | None]]] = {
    Refusal.TASK_TYPE: lambda profile: profile.task_types,
    Refusal.QUEUE: lambda profile: profile.queues,
}


def leaves_out(head: TaskHead, profile: Profile) -> bool:
    """Whether a claim names something that the task is not."""
    demand = demand_of(head)
    return any(refuses(refusal, demand, profile) for refusal in _NAMED)


class LastClaims:
    """The last claim of each agent that leaves something out or announces a version."""

    def __init__(self) -> None:
        # ``note`` sets it, or removes it if the claim takes anything; ``forget`` removes it with the agent.
        self._profiles: dict[AgentKey, Profile] = {}

    def note(self, agent: AgentKey, profile: Profile) -> None:
        if profile.task_types is None and profile.queues is None and profile.version is None:
            self._profiles.pop(agent, None)
        else:
            self._profiles[agent] = profile

    def forget(self, agent: AgentKey) -> None:
        self._profiles.pop(agent, None)

    def versions(
        self, workspace: str, waiting: Callable[[AgentKey], Iterable[Profile]]
    ) -> Mapping[str, tuple[str, ...]]:
        """Agent → the versions that its claims announce, of the agents of a workspace that announce any."""
        found = {}
        for agent, last in self._profiles.items():
            if agent[0] == workspace:
                versions = [profile.version for profile in (last, *waiting(agent)) if profile.version is not None]
                if versions:
                    found[agent[1]] = tuple(dict.fromkeys(versions))
        return found

    def leave_out(self, head: TaskHead, waiting: Callable[[AgentKey], Iterable[Profile]]) -> LeftOut:
        """Of the agents in the task's workspace, those whose claims leave it out. An agent counts by its last claim
        and those that wait, which ``waiting`` returns."""
        demand = demand_of(head)
        left_out: dict[Refusal, dict[str, tuple[str, ...]]] = {refusal: {} for refusal in _NAMED}
        for agent, last in self._profiles.items():
            if agent[0] != demand.workspace:
                continue
            profiles = [last, *waiting(agent)]
            for refusal, named in _NAMED.items():
                if all(refuses(refusal, demand, profile) for profile in profiles):
                    left_out[refusal][agent[1]] = tuple(sorted(named(last) or ()))
        return left_out
