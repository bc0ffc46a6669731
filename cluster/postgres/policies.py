"""Policies, their versions and violations in the database. Each commit is one function of the commit protocol."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.policies.policy import MOST_POLICIES, Enforcement, Policy, read_content
from cluster.domain.policies.violations import Violation, ViolationStatus, ViolationType
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.policies import ViolationQuery
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("policies")
_dump = json_writer(allow_nan=False)


class PostgresPolicies:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def create(self, policy: Policy, record: LogRecord, key: IdempotencyKey | None) -> str:
        policy_id = await self._pool.value(
            _SQL["create_policy"],
            self._epoch.region,
            self._epoch.value,
            MOST_POLICIES,
            _dump(_row(policy)),
            [key and key.route],
            [key and key.key],
            [key and key.body_digest],
            log_rows([record], self._epoch),
        )
        if policy_id is None:
            raise Conflict(f"There are {MOST_POLICIES} policies; delete one first.", "too_many_policies")
        return str(policy_id)

    async def change(self, policy: Policy, record: LogRecord) -> None:
        rows = log_rows([record], self._epoch)
        args = (self._epoch.region, self._epoch.value, _dump(_row(policy)), rows)
        if not await self._pool.value(_SQL["change_policy"], *args):
            raise _changed(policy)

    async def remove(self, policy: Policy, record: LogRecord) -> None:
        rows = log_rows([record], self._epoch)
        args = (self._epoch.region, self._epoch.value, policy.workspace, policy.version, rows)
        if not await self._pool.value(_SQL["remove_policy"], *args):
            raise _changed(policy)

    async def get(self, workspace: str, policy_id: str) -> Policy | None:
        rows = await self._pool.rows(_SQL["get_policy"], workspace, policy_id)
        return _policy(rows[0]) if rows else None

    async def list(self, workspace: str) -> builtins.list[Policy]:
        return [_policy(row) for row in await self._pool.rows(_SQL["list_policies"], workspace)]

    async def all(self) -> builtins.list[Policy]:
        return [_policy(row) for row in await self._pool.rows(_SQL["all_policies"])]

    async def named(self, policy_ids: Sequence[str]) -> builtins.list[Policy]:
        return [_policy(row) for row in await self._pool.rows(_SQL["named_policies"], builtins.list(policy_ids))]

    async def versions(
        self, workspace: str, policy_id: str, limit: int, offset: int = 0
    ) -> tuple[builtins.list[Policy], int]:
        rows = await self._pool.rows(_SQL["page_policy_versions"], workspace, policy_id, limit, offset)
        total = await self._pool.value(_SQL["count_policy_versions"], workspace, policy_id)
        return [_policy(row) for row in rows], int(total)

    async def version(self, workspace: str, policy_id: str, version: int) -> Policy | None:
        rows = await self._pool.rows(_SQL["policy_version"], workspace, policy_id, version)
        return _policy(rows[0]) if rows else None

    async def with_versions(self) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["version_workspaces"])]

    async def old_versions(self, workspace: str, before: float, limit: int) -> Sequence[tuple[str, int]]:
        rows = await self._pool.rows(_SQL["old_policy_versions"], workspace, before, limit)
        return [(row["policy_id"], row["version"]) for row in rows]

    async def remove_versions(self, versions: Sequence[tuple[str, int]], record: LogRecord) -> int:
        ids, numbers = [policy_id for policy_id, _ in versions], [number for _, number in versions]
        args = (self._epoch.region, self._epoch.value, ids, numbers, log_rows([record], self._epoch))
        return int(await self._pool.value(_SQL["remove_policy_versions"], *args))

    async def with_violations(self) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["violation_workspaces"])]

    async def old_violations(self, workspace: str, before: float, limit: int) -> Sequence[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["old_violations"], workspace, before, limit)]

    async def remove_violations(self, ids: Sequence[str], record: LogRecord) -> int:
        args = (self._epoch.region, self._epoch.value, builtins.list(ids), log_rows([record], self._epoch))
        return int(await self._pool.value(_SQL["remove_violations"], *args))

    async def record(self, violations: Sequence[Violation], records: Sequence[LogRecord]) -> None:
        await self._pool.value(_SQL["record_violations"], *violation_arguments(violations, records, self._epoch))

    async def violation(self, workspace: str, violation_id: str) -> Violation | None:
        rows = await self._pool.rows(_SQL["get_violation"], workspace, violation_id)
        return _violation(rows[0]) if rows else None

    async def violations(self, query: ViolationQuery) -> tuple[builtins.list[Violation], int]:
        chosen = (query.workspace, query.policy_id, query.violation_type, query.status)
        rows = await self._pool.rows(_SQL["list_violations"], *chosen, query.limit, query.offset)
        return [_violation(row) for row in rows], int(await self._pool.value(_SQL["count_violations"], *chosen))

    async def counts(self, workspace: str) -> Mapping[tuple[ViolationType, ViolationStatus], int]:
        rows = await self._pool.rows(_SQL["violation_counts"], workspace)
        return {
            (ViolationType(row["violation_type"]), ViolationStatus(row["status"])): int(row["entries"]) for row in rows
        }

    async def change_violation(self, violation: Violation, record: LogRecord) -> None:
        rows = log_rows([record], self._epoch)
        args = (self._epoch.region, self._epoch.value, _dump(asdict(violation)), rows)
        if not await self._pool.value(_SQL["change_violation"], *args):
            raise Conflict(
                f"Violation {violation.id} was changed by somebody else meanwhile; read it again.", "violation_changed"
            )


def violation_arguments(violations: Sequence[Violation], records: Sequence[LogRecord], epoch: Epoch) -> tuple[Any, ...]:
    """The arguments of the statement ``record_violations``."""
    rows = [asdict(violation) for violation in violations]
    return epoch.region, epoch.value, _dump(rows), log_rows(records, epoch)


def _changed(policy: Policy) -> Conflict:
    return Conflict(
        f"Policy {policy.id} was changed or deleted by somebody else meanwhile; read it again.", "policy_changed"
    )


_COLUMNS = ("id", "workspace", "version", "created_at", "created_by", "changed_at", "changed_by")


def _row(policy: Policy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in _COLUMNS} | {"content": policy.content()}


def _policy(row: Any) -> Policy:
    return Policy(**{name: row[name] for name in _COLUMNS}, **read_content(json.loads(row["content_text"])))


def _violation(row: Any) -> Violation:
    values = {each.name: row[each.name] for each in fields(Violation)}
    return Violation(
        **values
        | {
            "violation_type": ViolationType(row["violation_type"]),
            "enforcement": Enforcement(row["enforcement"]),
            "status": ViolationStatus(row["status"]),
        }
    )
