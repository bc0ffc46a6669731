"""Workspaces, and who has which role in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cluster.domain.base.log import SYSTEM, LogRow, caused_by_row

#: In a binding or a key: every workspace, those included that are made later.
ALL_WORKSPACES = "*"


class WorkspaceState(StrEnum):
    """What a workspace admits."""

    ACTIVE = "active"
    #: Reads are answered, and what runs may end; nothing is submitted, claimed or changed. Open work waits.
    SUSPENDED = "suspended"
    #: Nothing is answered. Its open work is cancelled.
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """``created_at`` and ``changed_at`` are epoch seconds. ``zone``: where it is resident (`cluster.domain.residency`), from its
    creation on; None: nowhere."""

    id: str
    name: str
    state: WorkspaceState
    created_at: float
    changed_at: float
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """The last change of a workspace's state. ``principal`` and ``cause``: in whose name, and because of which row, what runs
    there is ended if it was deleted."""

    state: WorkspaceState
    principal: str = SYSTEM
    cause: str = ""

    @classmethod
    def of(cls, row: LogRow) -> StateChange:
        """From a row ``access.workspace_changed``."""
        state = WorkspaceState(row.data["state"])
        return cls(state=state, principal=row.principal, cause=caused_by_row(row.seq))


def all_deleted(known: Iterable[Workspace | None]) -> bool:
    """Whether all of the workspaces of something were deleted, so that it can act nowhere. One that is not known counts as
    active: that of the settings is not stored before it is changed."""
    states = [workspace is not None and workspace.state is WorkspaceState.DELETED for workspace in known]
    return bool(states) and all(states)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBinding:
    """``subject`` has ``role`` in ``workspace`` (or ``*``). Subjects: ``user:EMAIL`` (lower case), ``group:NAME``,
    ``key:ID``, ``agent:ID``."""

    workspace: str
    subject: str
    role: str
    created_at: float
    created_by: str
