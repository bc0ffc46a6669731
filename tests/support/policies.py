"""Policies and violations of tests."""

from __future__ import annotations

from typing import Any

from cluster.domain.policies.policy import Enforcement, Policy
from cluster.domain.policies.violations import Violation, ViolationType
from tests.support.samples import NOW


def a_policy(**fields: Any) -> Policy:
    """A policy of the workspace ``w`` that blocks the agent ``a9``."""
    given: dict[str, Any] = {"id": "policy_1", "workspace": "w", "name": "One", "agent_blocklist": ("a9",)}
    made = {"created_at": NOW, "created_by": "user:tester", "changed_at": NOW, "changed_by": "user:tester"}
    return Policy(**(given | made | fields))


def a_violation(**fields: Any) -> Violation:
    """An open violation of that policy."""
    given: dict[str, Any] = {"id": "violation_1", "workspace": "w", "policy_id": "policy_1", "policy_version": 1}
    said = {"policy_name": "One", "description": "Against it.", "principal": "user:tester", "task_type": "echo"}
    kind = {"violation_type": ViolationType.AGENT, "enforcement": Enforcement.HARD}
    return Violation(**(given | said | kind | {"at": NOW} | fields))
