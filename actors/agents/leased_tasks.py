"""What the store has of the tasks that called agents hold: each read goes on until the store answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from actors.agents.task_reports import RETRY_S
from cluster.domain.agents.agent import Agent
from cluster.domain.base.errors import Conflict, InvalidRequest, TryLater
from cluster.domain.tasks.children import check_children
from cluster.domain.tasks.task import Task, TaskStatus
from cluster.ports.clock import Clock
from cluster.ports.tasks import TaskStore
from cluster.process.group_commit import GroupCommit

T = TypeVar("T")


class LeasedTasks:
    """Reads of one host. Many leases come at once, and one query reads the tasks of all."""

    def __init__(self, tasks: TaskStore, clock: Clock) -> None:
        self._tasks = tasks
        self._clock = clock
        #: Reads by (workspace, id).
        self._reads: GroupCommit[tuple[str, str], tuple[Task | None, str]] = GroupCommit(self._read)

    async def held(self, agent: Agent, task_id: str) -> tuple[Task | None, str]:
        """The task, or None if the agent's lease is over already; and what led to its submit."""
        task, cause = await self._until_read(lambda: self._reads.put((agent.workspace, task_id)))
        held = task is not None and task.status is TaskStatus.RUNNING and task.assigned_agent == agent.agent_id
        return (task if held else None), cause

    async def waited_for(self, task: Task) -> Sequence[Task]:
        """The children that an earlier attempt has waited for last, in the order in which it named them."""
        if task.parked is None:
            return ()
        named = task.parked.children
        found = await self._until_read(lambda: self._tasks.outcomes(task.workspace, named))
        return [found[child] for child in named if child in found]

    async def check_children(self, task: Task, children: Sequence[str]) -> None:
        """Raises: `InvalidRequest` if the task cannot wait for one of them."""
        rules = await self._until_read(lambda: self._tasks.rules(task.workspace, children))
        try:
            check_children(task.id, children, rules)
        except Conflict as stranger:
            raise InvalidRequest(stranger.message, stranger.code) from None

    async def _until_read(self, read: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await read()
            except TryLater:
                await self._clock.sleep(RETRY_S)

    async def _read(self, keys: Sequence[tuple[str, str]]) -> Sequence[tuple[Task | None, str]]:
        """For each (workspace, task id) the task and what led to its submit."""
        ids: dict[str, list[str]] = defaultdict(list)
        for workspace, task_id in keys:
            ids[workspace].append(task_id)
        found = {workspace: await self._tasks.get_many(workspace, some) for workspace, some in ids.items()}
        causes = await self._tasks.submit_causes([task_id for _, task_id in keys])
        return [(found[workspace].get(task_id), causes.get(task_id, "")) for workspace, task_id in keys]
