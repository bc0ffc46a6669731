"""What the policies say of one submit: the one function that decides it, for every door and for a dry run.

It reads no clock and no store. What depends on the agent that will have the task is not known at a submit, so it is not judged
here but handed on (`Evaluation.bounds`); an agent or a region that the submit names itself is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cluster.domain.base.expressions import ConditionFailed
from cluster.domain.policies.policy import Enforcement, Policy
from cluster.domain.policies.violations import ViolationType
from cluster.domain.tasks.agent_bounds import AgentBounds
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import NewTask, Priority, Task

_SHOWN = 5


class Decision(StrEnum):
    """What becomes of a submit."""

    ALLOW = "allow"
    WARN = "warn"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """What policies know of a submit. ``regions`` are all that it names; ``timeout_s`` is what it asks for, in seconds.
    ``variables`` are what a condition may read."""

    workspace: str
    task_type: str
    required: frozenset[str] = frozenset()
    target_agent: str | None = None
    regions: tuple[str, ...] = ()
    timeout_s: float = 0.0
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, task: NewTask | Task) -> Submit:
        """The submit of a task, new or stored."""
        target = () if task.target_region is None else (task.target_region,)
        return cls(
            workspace=_workspace(task),
            task_type=task.task_type,
            required=frozenset(task.required_capabilities),
            target_agent=task.target_agent,
            regions=(*target, *task.fallback_regions),
            timeout_s=task.timeout_s,
            variables={"task": _fields(task), "payload": task.payload, "metadata": task.metadata},
        )


def _workspace(task: NewTask | Task) -> str:
    return task.origin.workspace if isinstance(task, NewTask) else task.workspace


def _fields(task: NewTask | Task) -> dict[str, Any]:
    """The variable ``task`` of conditions, with the names of the API; what a submit leaves out is null."""
    rules = task.rules or TaskRules()
    return {
        "workspace": _workspace(task),
        "submitted_by": task.origin.principal if isinstance(task, NewTask) else task.principal,
        "task_type": task.task_type,
        "queue": task.queue,
        "priority": Priority(task.priority).wire_name,
        "required_capabilities": list(task.required_capabilities),
        "timeout_seconds": task.timeout_s,
        "max_retries": task.max_retries,
        "target_agent": task.target_agent,
        "target_region": task.target_region,
        "fallback_regions": list(task.fallback_regions),
        "region_routing_mode": task.region_routing_mode,
        "excluded_agents": list(rules.excluded_agents),
        "tenant": rules.tenant,
        "concurrency_key": rules.concurrency_key,
        "sticky_key": rules.sticky_key,
        "worker_version": rules.worker_version,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a submit is against. ``reason`` and ``allowed`` are sentences: what is wrong, and what would be right."""

    policy: Policy
    type: ViolationType
    reason: str
    allowed: str
    agent_id: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """``findings``: those of policies that deny come first, those of a higher priority before others. ``bounds``: what the
    policies demand of the agent."""

    findings: tuple[Finding, ...] = ()
    bounds: tuple[AgentBounds, ...] = ()

    @property
    def decision(self) -> Decision:
        """A policy that denies beats any that warns."""
        if not self.findings:
            return Decision.ALLOW
        return Decision.DENY if self.findings[0].policy.denies else Decision.WARN

    @property
    def overridable(self) -> frozenset[str]:
        """The policies that refuse the submit, if all of them are soft; none if a hard one refuses it."""
        denying = [finding.policy for finding in self.findings if finding.policy.denies]
        if any(policy.enforcement is Enforcement.HARD for policy in denying):
            return frozenset()
        return frozenset(policy.id for policy in denying)


def evaluate(policies: Iterable[Policy], submit: Submit) -> Evaluation:
    """What policies say of a submit. All of them are heard, in whatever order they are given."""
    matching = sorted((policy for policy in policies if is_about(policy, submit)), key=_rank)
    findings = tuple(finding for policy in matching for finding in _findings(policy, submit))
    bounds = tuple(found for policy in matching if (found := agent_bounds(policy)) is not None)
    return Evaluation(findings=findings, bounds=bounds)


def _rank(policy: Policy) -> tuple[bool, bool, int, str]:
    return not policy.denies, policy.enforcement is Enforcement.SOFT, -policy.priority, policy.id


def is_about(policy: Policy, submit: Submit) -> bool:
    """Whether an enabled policy concerns a submit."""
    return (
        policy.enabled
        and (policy.is_global or policy.workspace == submit.workspace)
        and (not policy.workspaces or submit.workspace in policy.workspaces)
        and (not policy.task_types or submit.task_type in policy.task_types)
        and (not policy.capabilities or not submit.required.isdisjoint(policy.capabilities))
    )


def agent_bounds(policy: Policy) -> AgentBounds | None:
    """What a policy demands of the agent that has the task; None if nothing, as of each that only warns."""
    lists = policy.agent_allowlist, policy.agent_blocklist, policy.allowed_regions, policy.blocked_regions
    if not policy.denies or not any(lists):
        return None
    allowed, blocked, regions, blocked_regions = map(frozenset, lists)
    return AgentBounds(
        policy_id=policy.id,
        version=policy.version,
        allowed=allowed,
        blocked=blocked,
        regions=regions,
        blocked_regions=blocked_regions,
    )


def _findings(policy: Policy, submit: Submit) -> Iterator[Finding]:
    agent = submit.target_agent
    if agent is not None and (
        agent in policy.agent_blocklist or (policy.agent_allowlist and agent not in policy.agent_allowlist)
    ):
        yield Finding(
            policy=policy,
            type=ViolationType.AGENT,
            reason=f"agent {agent} may not have this task",
            allowed=_allowed("agents", policy.agent_allowlist, policy.agent_blocklist),
            agent_id=agent,
        )
    forbidden = next((region for region in submit.regions if _is_forbidden(policy, region)), None)
    if forbidden is not None:
        yield Finding(
            policy=policy,
            type=ViolationType.REGION,
            reason=f"this task may not run in region {forbidden}",
            allowed=_allowed("regions", policy.allowed_regions, policy.blocked_regions),
            region=forbidden,
        )
    if policy.max_execution_s is not None and submit.timeout_s > policy.max_execution_s:
        yield Finding(
            policy=policy,
            type=ViolationType.SLA,
            reason=f"this task asks for {submit.timeout_s:g} s",
            allowed=f"timeout_seconds of at most {policy.max_execution_s:g}",
        )
    broken = _broken_condition(policy, submit)
    if broken is not None:
        yield Finding(
            policy=policy,
            type=ViolationType.CONDITION,
            reason=broken,
            allowed=f"tasks of which this is false: {policy.deny_when}",
        )


def _broken_condition(policy: Policy, submit: Submit) -> str | None:
    """What is wrong by the policy's condition. One that cannot be evaluated counts as true: else whoever sends what it does not
    expect would get past it."""
    condition = policy.condition()
    if condition is None:
        return None
    try:
        return "its condition is true of this task" if condition.holds(submit.variables) else None
    except ConditionFailed as failed:
        return f"its condition cannot be evaluated for this task ({str(failed).rstrip('.')})"


def _is_forbidden(policy: Policy, region: str) -> bool:
    return region in policy.blocked_regions or bool(policy.allowed_regions and region not in policy.allowed_regions)


def _allowed(what: str, allowed: Sequence[str], blocked: Sequence[str]) -> str:
    names = [name for name in allowed if name not in blocked]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{what} {', '.join(names[:_SHOWN])}{more}"
    more = f" and {len(blocked) - _SHOWN} more" if len(blocked) > _SHOWN else ""
    return f"{what} other than {', '.join(blocked[:_SHOWN])}{more}"
