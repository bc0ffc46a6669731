"""A process's copy of all quotas, so that a submit costs no read of them."""

from __future__ import annotations

from cluster.domain.quotas.quotas import CHANGES, Quotas
from cluster.log.workspace_copies import WorkspaceCopies
from cluster.ports.log import LogFilter
from cluster.ports.quotas import AllQuotas

#: The rows that a follower has to read to keep a directory.
QUOTA_ROWS = LogFilter(kinds=CHANGES)


class QuotaDirectory(WorkspaceCopies[Quotas]):
    """The quotas of a workspace, by memory."""

    def __init__(self, store: AllQuotas) -> None:
        super().__init__(store, CHANGES)

    def quotas(self, workspace: str) -> Quotas | None:
        """The quotas of a workspace; None if none were ever set."""
        return next(iter(self.of(workspace)), None)
