"""Tasks: submits, the scheduler's decisions, and what readers ask for."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.domain.audit.retention import Stub
from cluster.domain.base.conditions import Search
from cluster.domain.base.errors import NotFound
from cluster.domain.base.log import LogRow
from cluster.domain.policies.violations import Violation
from cluster.domain.tasks.progress import ProgressReport
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import (
    ALL_BODIES,
    Body,
    Decided,
    IdempotencyKey,
    NewTask,
    Submitted,
    Task,
    TaskDecision,
    TaskDetail,
    TaskHead,
    TaskStatus,
)
from cluster.ports.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFence:
    """The generation under which a shard decides; a decision under an older one is refused."""

    shard: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitItem:
    """``violations`` are recorded in the commit of the task, which policies warn about. ``within_quotas``: its workspace may have
    a quota on tasks that wait, and it is stored only if that has room; such items with violations are submitted all or none.
    ``override``: why soft policies that refuse it are put aside, by somebody who may."""

    task: NewTask
    idempotency: IdempotencyKey | None = None
    violations: Sequence[Violation] = ()
    within_quotas: bool = False
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Selects tasks, newest first; with ``by_change`` those that changed last. ``before`` is (created_at, id) of the last row
    seen, or (changed_at, id). ``created_after`` (inclusive) and ``created_before`` (exclusive) bound the time of the submit,
    in epoch seconds. A delayed task counts as queued if its ``run_at`` is not after ``now``. ``bodies``: what the tasks are
    wanted with; a page has room for some megabytes of them, and each task names what was left out of it."""

    workspace: str
    statuses: tuple[TaskStatus, ...] = ()
    task_type: str | None = None
    agent_id: str | None = None
    details: tuple[TaskDetail, ...] = ()
    queue: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    limit: int = 100
    offset: int = 0
    before: tuple[float, str] | None = None
    by_change: bool = False
    now: float = 0.0
    bodies: Collection[Body] = ALL_BODIES


@dataclass(frozen=True, slots=True)
class SearchPage:
    """A page of a search. ``following`` is the ``before`` of the next one, None if this is the last. A search reads a bounded
    number of tasks for each page, so a page may be short, or empty, and not be the last."""

    tasks: Sequence[Task]
    following: tuple[float, str] | None


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease of a running task, and the claim that it was granted to."""

    workspace: str
    agent_id: str
    task_id: str
    claim_id: str


class WorkspaceTasks(Protocol):
    """What request handlers get: every method works in one workspace, which it is given (`TaskQuery` and the origin of a new
    task name it)."""

    async def submit(self, items: Sequence[SubmitItem], *, all_or_none: bool = False) -> list[Submitted]:
        """Stores new tasks. Raises: `Conflict` if ``all_or_none`` is set and an idempotency key was used with another body;
        nothing of the call is written then."""

    async def get(self, workspace: str, task_id: str) -> Task | None: ...

    async def get_many(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]: ...

    async def statuses(self, workspace: str, task_ids: Sequence[str]) -> dict[str, TaskStatus]:
        """The statuses of those of the tasks that exist, or existed until retention removed them."""

    async def rules(self, workspace: str, task_ids: Sequence[str]) -> dict[str, TaskRules | None]:
        """The rules of those of the tasks that exist; None for one without."""

    async def subjects(self, workspace: str, task_ids: Sequence[str]) -> dict[str, str]:
        """The subjects of those tasks whose metadata name one."""

    async def outcomes(self, workspace: str, task_ids: Sequence[str]) -> dict[str, Task]:
        """Those of the tasks that exist, with their results, as many of these as a page has room for (`Task.left_out`)."""

    async def stub(self, workspace: str, task_id: str) -> Stub | None:
        """What is left of a task that retention has removed."""

    async def list(self, query: TaskQuery) -> tuple[list[Task], Total]:
        """(page, how many match in all)."""

    async def search(self, query: TaskQuery, search: Search) -> SearchPage:
        """What matches the query and the search. The query's ``offset`` is not used."""

    async def oldest(
        self, workspace: str, status: TaskStatus, limit: int, bodies: Collection[Body] = ALL_BODIES
    ) -> builtins.list[Task]:
        """Pending or running tasks, oldest first. ``bodies``: as in `TaskQuery`."""

    async def open_questions(
        self, workspace: str, limit: int, before: tuple[float, str] | None = None
    ) -> tuple[builtins.list[Task], Total]:
        """(a page of the tasks that wait for people, newest first, how many there are). ``before``: as in `TaskQuery`."""

    async def events(self, workspace: str, task_id: str, after: int, limit: int) -> tuple[builtins.list[LogRow], int]:
        """(log rows of one task after its ``after``-th, how many it has). A task's rows count 1, 2, 3, ..."""


async def missing_task(tasks: WorkspaceTasks, workspace: str, task_id: str) -> NotFound:
    """The error for whoever names a task that the store does not have: `Removed` if it had it once."""
    stub = await tasks.stub(workspace, task_id)
    return NotFound(f"There is no task {task_id}.", "task_not_found") if stub is None else stub.error("task")


class TaskStore(WorkspaceTasks, Protocol):
    """What the parts of the system get, which serve all workspaces."""

    async def decide(self, fence: ShardFence, decisions: Sequence[TaskDecision]) -> list[Decided]:
        """Stores decisions; one whose task is not in the expected state any more is not applied.

        Raises: `Fenced` if the shard's generation was replaced."""

    async def store_progress(self, fence: ShardFence, reports: Sequence[ProgressReport]) -> None:
        """Stores what holders have reported of their progress, in order; what a report leaves out stays as it was.

        Raises: `Fenced` if the shard's generation was replaced."""

    async def take_generation(self, shard: str, owner: str) -> ShardFence:
        """Takes a new, higher generation. From now on decisions under older ones fail with `Fenced`."""

    async def confirm(self, fence: ShardFence) -> None:
        """Returns if nobody else may have decided anything since this generation was taken.

        Raises: `Fenced` if the generation was replaced."""

    async def open_tasks(self, shard: str) -> tuple[int, AsyncIterator[Sequence[TaskHead]]]:
        """(log cursor, batches of all pending and running tasks), read in one snapshot, which ends at the cursor."""

    async def held_by(self, principal: str) -> builtins.list[HeldLease]:
        """The present leases, of all agents, that were claimed by a principal."""

    async def named(self, agents: Sequence[tuple[str, str]]) -> builtins.list[tuple[tuple[str, str], str]]:
        """Open tasks (pending or running) that name one of these agents (workspace, id): the agent and the task's id."""

    async def bodies(self, workspace: str, task_ids: Sequence[str]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
        """(payload, metadata) by id: what leases do not contain."""

    async def submit_causes(self, task_ids: Sequence[str]) -> dict[str, str]:
        """What led to each task's submit (``LogRecord.cause``); the submit's row, if nothing that has a name did. A task whose
        row the retention took is left out."""

    async def waiting(self) -> Mapping[int, int]:
        """How many tasks wait, in all workspaces, by priority."""

    async def forget_keys(self, before: float) -> None:
        """Deletes idempotency keys that were stored before ``before``."""
