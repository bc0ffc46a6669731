"""A process's copy of all policies, kept up to date by the log, so that a submit costs no read of the database."""

from __future__ import annotations

from cluster.domain.policies.policy import CHANGES, Policy
from cluster.log.workspace_copies import WorkspaceCopies
from cluster.ports.log import LogFilter
from cluster.ports.policies import Policies

#: The rows that a follower has to read to keep a directory.
POLICY_ROWS = LogFilter(kinds=CHANGES)


class PolicyDirectory(WorkspaceCopies[Policy]):
    """The policies that count for a workspace, by memory."""

    def __init__(self, store: Policies) -> None:
        super().__init__(store, CHANGES)
