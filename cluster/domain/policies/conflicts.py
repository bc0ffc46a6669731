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


def _meet(one: Policy, other: Policy) -> bool:
    """Whether there may be a task that both are about. One may require several capabilities, so those never keep two apart."""
    return _overlap(_workspaces(one), _workspaces(other)) and _overlap(one.task_types, other.task_types)


def _workspaces(policy: Policy) -> tuple[str, ...]:
    return policy.workspaces if policy.workspace == ALL_WORKSPACES else (policy.workspace,)


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not one or not other or not set(one).isdisjoint(other)


def _contradictions(one: Policy, other: Policy) -> list[str]:
    reasons = []
    if _none_left((one.agent_allowlist, other.agent_allowlist), (*one.agent_blocklist, *other.agent_blocklist)):
        reasons.append(f"No agent is allowed by both this policy and {other.id}.")
    if _none_left((one.allowed_regions, other.allowed_regions), (*one.blocked_regions, *other.blocked_regions)):
        reasons.append(f"No region is allowed by both this policy and {other.id}.")
    return reasons


def _none_left(allowed: tuple[tuple[str, ...], tuple[str, ...]], blocked: tuple[str, ...]) -> bool:
    lists = [set(names) for names in allowed if names]
    return bool(lists) and not set.intersection(*lists) - set(blocked)
