"""A submit under policies: the task that is stored, the violations that are recorded with it, and the refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.access.permissions import Permission
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import Forbidden
from cluster.domain.policies.evaluation import Decision, Evaluation, Finding, Submit, evaluate
from cluster.domain.policies.policy import Enforcement, Policy
from cluster.domain.policies.violations import OVERRIDDEN, RECORDED, Violation, ViolationStatus, repeatable_id
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import IdempotencyKey, NewTask

#: Violations of one submit that are recorded: more than that say nothing new.
_MOST = 16


class PolicyDenied(Forbidden):
    """A policy refuses the submit. ``details`` are for the answer: which policy, and what it would allow."""

    default_code = "policy_denied"

    def __init__(self, message: str, code: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, code)
        self.args = (message, code, details)  # what pickle calls the class with
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """``task`` has what policies demand of its agents. ``denied`` is None if it may be stored."""

    task: NewTask
    violations: Sequence[Violation] = ()
    denied: PolicyDenied | None = None


def judged(
    policies: Iterable[Policy], task: NewTask, key: IdempotencyKey | None, override: str | None = None
) -> Judged:
    """What policies make of a new task. ``key``: repeats of a submit under one have violations of the same ids. ``override``: why
    whoever may do so puts soft policies aside that would refuse it; one that does is not asked about the task's agents either,
    which it could forbid to be those that the submit names. A hard one is never put aside."""
    evaluation = evaluate(policies, Submit.of(task))
    if evaluation == _NOTHING:
        return Judged(task=task)
    overridden = evaluation.overridable if override is not None else frozenset()
    bounds = tuple(bound for bound in evaluation.bounds if bound.policy_id not in overridden)
    if bounds:
        rules = replace(task.rules or TaskRules(), policies=bounds)
        task = evolve(task, rules=rules)
    refused = evaluation.decision is Decision.DENY and not overridden
    violations = [
        _violation(finding, task, key, refused, override if finding.policy.id in overridden else None)
        # All that is overridden is on record.
        for finding in (evaluation.findings if overridden else evaluation.findings[:_MOST])
    ]
    return Judged(task=task, violations=violations, denied=_denied(evaluation.findings[0]) if refused else None)


_NOTHING = Evaluation()


def _violation(
    finding: Finding, task: NewTask, key: IdempotencyKey | None, refused: bool, override: str | None
) -> Violation:
    policy, origin = finding.policy, task.origin
    of = (task.id,) if key is None else (key.route, key.key)
    if override is not None:
        of = (*of, "override")  # the same call may have been refused before
    settled = override is not None
    return Violation(
        id=repeatable_id(origin.workspace, *of, policy.id, str(policy.version), finding.type.value),
        workspace=origin.workspace,
        policy_id=policy.id,
        policy_version=policy.version,
        policy_name=policy.name,
        violation_type=finding.type,
        enforcement=policy.enforcement,
        description=f"{finding.reason[0].upper()}{finding.reason[1:]}; allowed: {finding.allowed}.",
        principal=origin.principal,
        task_type=task.task_type,
        task_id=None if refused else task.id,
        agent_id=finding.agent_id,
        region=finding.region,
        at=task.created_at,
        status=ViolationStatus.RESOLVED if settled else ViolationStatus.OPEN,
        resolved_at=task.created_at if settled else None,
        resolved_by=origin.principal if settled else None,
        resolution_notes=override or "",
    )


def _denied(finding: Finding) -> PolicyDenied:
    policy = finding.policy
    is_soft = policy.enforcement is Enforcement.SOFT
    how = f" Who has {Permission.POLICIES_OVERRIDE.value} may submit it with a policy_override." if is_soft else ""
    return PolicyDenied(
        f"Policy {policy.id} refuses it: {finding.reason}; allowed: {finding.allowed}.{how}",
        None,
        {
            "policy_id": policy.id,
            "policy_version": policy.version,
            "violation_type": finding.type.value,
            "allowed": finding.allowed,
            "can_override": is_soft,
        },
    )


def recorded(violations: Sequence[Violation], task: NewTask) -> list[Any]:
    """The rows of the violations of one submit."""
    return [
        violation.record(task.origin, OVERRIDDEN if violation.is_overridden else RECORDED, violation.at)
        for violation in violations
    ]
