"""Quotas of workspaces."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.quotas.quotas import QuotaKind, Quotas


class WorkspaceQuotas(Protocol):
    """What request handlers get.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def get(self, workspace: str) -> Quotas:
        """The quotas of a workspace; those of version 0 if none were ever set."""

    async def put(self, quotas: Quotas, record: LogRecord) -> None:
        """Stores the next version.

        Raises: `Conflict` (``quotas_changed``) if they were changed meanwhile."""

    async def used(self, workspace: str, most: int) -> Mapping[QuotaKind, int]:
        """How many agents, tasks that wait and tasks that run a workspace has, each counted up to ``most``."""


class AllQuotas(WorkspaceQuotas, Protocol):
    """What actors get, and what keeps a process's copy."""

    async def all(self) -> builtins.list[Quotas]:
        """The quotas of all workspaces that have some."""

    async def named(self, ids: Sequence[str]) -> builtins.list[Quotas]:
        """Those of these workspaces, without workspaces for which none were ever set."""
