"""A process's copy of all policies, kept up to date by the log, so that a submit costs no read of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.log import LogRow
from cluster.domain.policies.policy import CHANGES, Policy
from cluster.ports.log import LogFilter
from cluster.ports.policies import Policies

#: The rows that a follower has to read to keep a directory.
POLICY_ROWS = LogFilter(kinds=CHANGES)


class PolicyDirectory:
    """The policies that count for a workspace, by memory."""

    def __init__(self, store: Policies) -> None:
        self._store = store
        #: Workspace (or ``*``) → id → policy. Only `refresh` and `load` change it.
        self._policies: dict[str, dict[str, Policy]] = {}
        #: Held from a read until it is applied: of two reads at once, the older one must not be applied last.
        self._reading = asyncio.Lock()

    def of(self, workspace: str) -> Sequence[Policy]:
        """The policies that are about a workspace: its own, and those of all workspaces."""
        found = [self._policies[name] for name in (ALL_WORKSPACES, workspace) if name in self._policies]
        return [policy for policies in found for policy in policies.values()] if found else ()

    async def load(self) -> None:
        """Reads everything. Raises: `StoreUnavailable`."""
        async with self._reading:
            found = await self._store.all()
            self._policies.clear()
            self._put(found)

    async def apply(self, rows: Sequence[LogRow]) -> None:
        """Reads again what the rows name, so that a row that is applied twice does no harm. Raises: `StoreUnavailable`."""
        named = sorted({row.entity for row in rows if row.kind in CHANGES})
        if named:
            await self.refresh(named)

    async def refresh(self, policy_ids: Sequence[str]) -> None:
        """Reads again what is named. A process that has just changed it need not wait for the log.

        Raises: `StoreUnavailable`."""
        async with self._reading:
            found = await self._store.named(policy_ids)
            for policies in self._policies.values():
                for policy_id in policy_ids:
                    policies.pop(policy_id, None)
            self._put(found)

    def _put(self, found: Sequence[Policy]) -> None:
        for policy in found:
            self._policies.setdefault(policy.workspace, {})[policy.id] = policy
