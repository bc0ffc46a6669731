"""Bodies and answers about policies and violations."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.expressions import MOST_CHARACTERS
from cluster.domain.base.json_values import check_json
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.policies.policy import Enforcement, Policy, Scope
from cluster.domain.policies.violations import MOST_NOTES, Violation, ViolationStatus
from serve_app.schemas.fields import MAX_SECONDS, ExactBody, Names, RequestBody, Text, Words, iso_time

#: Characters of JSON of a policy's metadata.
MOST_METADATA = 16_384


class RegionConstraint(ExactBody):
    """``allowed_regions``: only these, any if it is empty. A region in both is blocked."""

    allowed_regions: Names = []
    blocked_regions: Names = []


class Sla(ExactBody):
    """``max_execution_seconds``: the longest ``timeout_seconds`` that a task may ask for."""

    max_execution_seconds: float | None = Field(None, gt=0, le=MAX_SECONDS)


class PolicyFields(ExactBody):
    """What a policy says. A list that is empty or left out says nothing: every task type, every agent, every region.
    ``enforcement_level``: ``warn`` takes a task that is against the policy and records a violation, ``soft`` and ``hard`` refuse
    it. ``deny_when``: a condition in CEL of ``task``, ``payload`` and ``metadata``; a task of which it is true is against the
    policy, and so is one of which it cannot be evaluated. ``all_workspaces``: it is about those that ``workspaces`` names, or
    all."""

    name: Words | None = None
    description: Annotated[Text, Field(max_length=4096)] | None = None
    scope: Scope | None = None
    all_workspaces: bool | None = None
    workspaces: Names | None = None
    task_types: Names | None = None
    capabilities: Names | None = None
    agent_allowlist: Names | None = None
    agent_blocklist: Names | None = None
    region_constraint: RegionConstraint | None = None
    sla: Sla | None = None
    deny_when: Annotated[Text, Field(min_length=1, max_length=MOST_CHARACTERS)] | None = None
    enforcement_level: Enforcement | None = None
    enabled: bool | None = None
    priority: int | None = Field(None, ge=-1_000, le=1_000)
    metadata: dict[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """The fields that are given, by their names in `Policy`.

        Raises: `InvalidRequest` if the metadata cannot be stored."""
        if self.metadata is not None:
            check_json(self.metadata, "metadata")
            if len(canonical_json(self.metadata)) > MOST_METADATA:
                raise InvalidRequest(f"metadata must have at most {MOST_METADATA:,} characters of JSON.")
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "description", "scope", "enabled", "priority", "metadata")
            if getattr(self, name) is not None
        }
        for name in _LISTS:
            if getattr(self, name) is not None:
                given[name] = tuple(dict.fromkeys(getattr(self, name)))
        if self.enforcement_level is not None:
            given["enforcement"] = self.enforcement_level
        if "region_constraint" in self.model_fields_set:
            regions = self.region_constraint or RegionConstraint()
            given["allowed_regions"] = tuple(dict.fromkeys(regions.allowed_regions))
            given["blocked_regions"] = tuple(dict.fromkeys(regions.blocked_regions))
        if "deny_when" in self.model_fields_set:
            given["deny_when"] = self.deny_when
        if "sla" in self.model_fields_set:
            given["max_execution_s"] = None if self.sla is None else self.sla.max_execution_seconds
        return given


_LISTS = ("workspaces", "task_types", "capabilities", "agent_allowlist", "agent_blocklist")


class Rollback(ExactBody):
    """The version whose words and lists the next version has."""

    version: int = Field(ge=1)


class DryRun(PolicyFields):
    """A policy as it would be made, and how many of the newest tasks are looked at."""

    limit: int = Field(1000, ge=1, le=1000)


class UpdateViolation(RequestBody):
    """What people made of a violation."""

    status: ViolationStatus
    resolution_notes: Annotated[Text, Field(max_length=MOST_NOTES)] | None = None


def policy_wire(policy: Policy) -> dict[str, Any]:
    """A policy as the API shows it."""
    return {
        "id": policy.id,
        "name": policy.name,
        "description": policy.description,
        "scope": policy.scope.value,
        "all_workspaces": policy.workspace == ALL_WORKSPACES,
        "workspaces": list(policy.workspaces) if policy.is_global else [policy.workspace],
        "task_types": list(policy.task_types),
        "capabilities": list(policy.capabilities),
        "agent_allowlist": list(policy.agent_allowlist),
        "agent_blocklist": list(policy.agent_blocklist),
        "region_constraint": {
            "allowed_regions": list(policy.allowed_regions),
            "blocked_regions": list(policy.blocked_regions),
        },
        "deny_when": policy.deny_when,
        "sla": {"max_execution_seconds": policy.max_execution_s},
        "enforcement_level": policy.enforcement.value,
        "enabled": policy.enabled,
        "priority": policy.priority,
        "metadata": dict(policy.metadata),
        "version": policy.version,
        "previous_version": policy.version - 1 if policy.version > 1 else None,
        "created_at": iso_time(policy.created_at),
        "created_by": policy.created_by,
        "updated_at": iso_time(policy.changed_at),
        "updated_by": policy.changed_by,
    }


def violation_wire(violation: Violation) -> dict[str, Any]:
    """A violation as the API shows it."""
    return {
        "id": violation.id,
        "policy_id": violation.policy_id,
        "policy_version": violation.policy_version,
        "policy_name": violation.policy_name,
        "violation_type": violation.violation_type.value,
        "enforcement_level": violation.enforcement.value,
        "description": violation.description,
        "task_id": violation.task_id,
        "task_type": violation.task_type,
        "agent_id": violation.agent_id,
        "region": violation.region,
        "workspace_id": violation.workspace,
        "submitted_by": violation.principal,
        "timestamp": iso_time(violation.at),
        "status": violation.status.value,
        "resolved_at": iso_time(violation.resolved_at),
        "resolved_by": violation.resolved_by,
        "resolution_notes": violation.resolution_notes,
        "overridden": violation.is_overridden,
        "metadata": {},
    }
