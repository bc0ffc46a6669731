"""Policies with their versions, and violations."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.policies.policy import Policy
from cluster.domain.policies.violations import Violation, ViolationStatus, ViolationType
from cluster.domain.tasks.task import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationQuery:
    """Selects violations of a workspace, newest first."""

    workspace: str
    policy_id: str | None = None
    violation_type: ViolationType | None = None
    status: ViolationStatus | None = None
    limit: int = 100
    offset: int = 0


class WorkspacePolicies(Protocol):
    """What request handlers get. The policies of all workspaces belong to each: they are read there, and changed by whoever may
    act in all."""

    async def create(self, policy: Policy, record: LogRecord, key: IdempotencyKey | None) -> str:
        """Stores a policy and returns its id; an earlier one's if the key was used before.

        Raises: `Conflict` if the key was used with another body, or there are as many policies as there may be."""

    async def change(self, policy: Policy, record: LogRecord) -> None:
        """Stores the next version of a policy.

        Raises: `Conflict` (``policy_changed``) if it was changed or deleted meanwhile."""

    async def remove(self, policy: Policy, record: LogRecord) -> None:
        """Deletes a policy; its versions stay.

        Raises: `Conflict` (``policy_changed``) if it was changed or deleted meanwhile."""

    async def get(self, workspace: str, policy_id: str) -> Policy | None: ...

    async def list(self, workspace: str) -> builtins.list[Policy]:
        """All policies that are about a workspace, those that are disabled too: the highest priority first."""

    async def versions(
        self, workspace: str, policy_id: str, limit: int, offset: int = 0
    ) -> tuple[builtins.list[Policy], int]:
        """(page of a policy's versions, the newest first; how many there are); also of one that was deleted."""

    async def version(self, workspace: str, policy_id: str, version: int) -> Policy | None:
        """One version of a policy, also of one that was deleted."""

    async def record(self, violations: Sequence[Violation], records: Sequence[LogRecord]) -> None:
        """Stores violations, each with its row; one that is stored already is left as it is."""

    async def violation(self, workspace: str, violation_id: str) -> Violation | None: ...

    async def violations(self, query: ViolationQuery) -> tuple[builtins.list[Violation], int]:
        """(page, how many match in all)."""

    async def counts(self, workspace: str) -> Mapping[tuple[ViolationType, ViolationStatus], int]:
        """How many violations there are of each type in each status."""

    async def change_violation(self, violation: Violation, record: LogRecord) -> None:
        """Stores the next revision of a violation.

        Raises: `Conflict` (``violation_changed``) if it was changed meanwhile."""


class Policies(WorkspacePolicies, Protocol):
    """What keeps a copy of the policies of all workspaces."""

    async def all(self) -> builtins.list[Policy]: ...

    async def named(self, policy_ids: Sequence[str]) -> builtins.list[Policy]:
        """Those of the policies that exist, of all workspaces."""

    async def with_versions(self) -> builtins.list[str]:
        """The workspaces with versions that do not count any more; ``*`` if those of all workspaces have some."""

    async def old_versions(self, workspace: str, before: float, limit: int) -> Sequence[tuple[str, int]]:
        """(policy, version) of some that were replaced or deleted before a time and that no violation names."""

    async def remove_versions(self, versions: Sequence[tuple[str, int]], record: LogRecord) -> int:
        """Deletes versions of policies of the record's workspace, but for those that count, and returns how many.

        Raises: `Fenced` if this region is not the primary any more."""

    async def with_violations(self) -> builtins.list[str]:
        """The workspaces that have violations."""

    async def old_violations(self, workspace: str, before: float, limit: int) -> Sequence[str]:
        """Some of a workspace's violations that are older than a time, oldest first."""

    async def remove_violations(self, ids: Sequence[str], record: LogRecord) -> int:
        """Deletes violations of the record's workspace, and returns how many.

        Raises: `Fenced` if this region is not the primary any more."""
