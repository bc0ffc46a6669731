"""Policies that contradict each other: a task that both are about could be had by no agent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.policies.policy import Policy

#: Conflicts of one policy that are told.
_MOST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConflict:
    """``reason`` is a sentence about both policies."""

    policy_id: str
    reason: str


def conflicts(policy: Policy, others: Iterable[Policy]) -> list[PolicyConflict]:
    """The enabled policies that a policy contradicts, in the order of their ids. Those that only warn contradict nothing."""
    if not (policy.enabled and policy.denies):
        return []
    found = [
        PolicyConflict(policy_id=other.id, reason=reason)
        for other in sorted(others, key=lambda other: other.id)
        if other.id != policy.id and other.enabled and other.denies and _meet(policy, other)
        for reason in _contradictions(policy, other)
    ]
    return found[:_MOST]


def _meet(policy: Policy, rival: Policy) -> bool:
    """Whether there may be a task that both are about. One may require several capabilities, so those never keep two apart."""
    return _overlap(_workspaces(policy), _workspaces(rival)) and _overlap(policy.task_types, rival.task_types)


def _workspaces(policy: Policy) -> tuple[str, ...]:
    return policy.workspaces if policy.workspace == ALL_WORKSPACES else (policy.workspace,)


def _overlap(names: tuple[str, ...], rivals: tuple[str, ...]) -> bool:
    return not names or not rivals or not set(names).isdisjoint(rivals)


def _contradictions(policy: Policy, rival: Policy) -> list[str]:
    agents = (policy.agent_allowlist, rival.agent_allowlist), (*policy.agent_blocklist, *rival.agent_blocklist)
    regions = (policy.allowed_regions, rival.allowed_regions), (*policy.blocked_regions, *rival.blocked_regions)
    return [
        f"No {what} is allowed by both this policy and {rival.id}."
        for what, lists in (("agent", agents), ("region", regions))
        if _none_left(*lists)
    ]


def _none_left(allowed: tuple[tuple[str, ...], tuple[str, ...]], blocked: tuple[str, ...]) -> bool:
    lists = [set(names) for names in allowed if names]
    return bool(lists) and not set.intersection(*lists) - set(blocked)
