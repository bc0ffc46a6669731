"""Schedules: their definitions, and the commits that advance them together with the runs that they start."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.schedules.schedule import Schedule
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.tasks import SubmitItem
from cluster.ports.totals import Total
from cluster.ports.workflows import NewRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """A schedule with its next revision, the rows that say what became of it, and the runs that start with it. ``defined``: its
    definition has changed, and its first row is the cause of its runs from now on."""

    schedule: Schedule
    records: Sequence[LogRecord]
    tasks: Sequence[SubmitItem] = ()
    deliberations: Sequence[NewDeliberation] = ()
    workflow_runs: Sequence[NewRun] = ()
    defined: bool = False


class WorkspaceSchedules(Protocol):
    """What request handlers get: every method works in one workspace, which it is given or which the schedule names.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def create(self, schedule: Schedule, record: LogRecord, key: IdempotencyKey | None) -> str:
        """Stores a new schedule, and returns its id, which is that of the first call if the key was used before.

        Raises: `Conflict` if the key was used with another body (``idempotency_conflict``), or the workspace has
        ``MOST_SCHEDULES`` (``too_many_schedules``)."""

    async def get(self, workspace: str, schedule_id: str) -> Schedule | None: ...

    async def list(self, workspace: str, limit: int, offset: int) -> tuple[list[Schedule], Total]:
        """(page, the newest first, and how many there are)."""

    async def change(self, changes: Sequence[ScheduleChange]) -> None:
        """Stores all of the changes with their rows and runs in one commit, or nothing.

        Raises: `Conflict` (``schedule_changed``) if one of the schedules has another revision than the one before."""

    async def remove(self, workspace: str, records: Sequence[LogRecord]) -> builtins.list[str]:
        """Deletes the schedules that the records name, and returns the ids of those that there were."""

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        """Some schedules whose runs would be of a subject or (None) of anybody, by id."""

    async def open_runs(self, workspace: str, runs: Sequence[str]) -> frozenset[str]:
        """Those of the tasks, deliberations and runs of workflows that have not ended."""

    async def has_run(self, workspace: str, run: str) -> bool:
        """Whether there is a task, a deliberation or a run of a workflow of this id, ended or not."""


class Schedules(WorkspaceSchedules, Protocol):
    """What fires them gets, of all workspaces."""

    async def due(self, now: float, limit: int) -> builtins.list[Schedule]:
        """Schedules whose next run is to start by ``now`` (epoch seconds), what has waited longest first. Those of workspaces
        that are suspended or deleted are left out."""
