"""Tasks that memory does not have: what the store knows of their ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from actors.scheduler.generations import shard_away
from actors.scheduler.handlers import HANDLERS
from actors.scheduler.state import ShardState, Write
from cluster.domain.base.errors import TryLater
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskStatus
from cluster.ports.clock import Clock
from cluster.ports.tasks import TaskStore, missing_task

_logger = logging.getLogger(__name__)

RETRY_S: Final = 0.5

Ends = Sequence[tuple[str, TaskStatus]]
"""(task id, how it ended)"""


class EndedTasks:
    """It changes no memory. What it answers rests on the store alone, so it can be given at once."""

    def __init__(self, tasks: TaskStore, clock: Clock, policy: RetryPolicy) -> None:
        self._tasks = tasks
        self._clock = clock
        self._policy = policy

    async def answer(self, request: Any) -> Any:
        """The answer about a task that has ended: the machine's, or for an explanation how it ended.

        Raises: `NotFound` if there is no such task, or none any more, `ActorUnavailable` if it has not ended in the store, the
        machine's refusals, what the store raises."""
        task = await self._tasks.get(request.workspace, request.task_id)
        if task is None:
            raise await missing_task(self._tasks, request.workspace, request.task_id)
        if not task.status.terminal:
            raise shard_away()
        ended = HANDLERS[type(request)].ended
        assert ended is not None, "only requests about a task miss one"
        return ended(request, task, self._clock.now(), self._policy)

    async def ends(self, state: ShardState, unresolved: Mapping[str, Sequence[str]]) -> Ends | None:
        """How those of the tasks, by workspace, have ended that blocked tasks wait for and that were not open in memory; None if
        the state fails meanwhile. One that is open in the store has just been submitted: its row will be read soon, and its
        end will be seen then."""
        while not state.failed:
            try:
                # Waits for all that memory has decided: a task that ends there at this moment must have ended in the store.
                await state.commit_queue.put(Write())
                return [end for item in unresolved.items() for end in await self._ends(*item)]
            except TryLater as error:
                _logger.warning("ended tasks cannot be read, will try again: %s", error)
                await self._clock.sleep(RETRY_S)
        return None

    async def _ends(self, workspace: str, task_ids: Sequence[str]) -> Ends:
        """One that is not in the store counts as cancelled."""
        found = await self._tasks.statuses(workspace, task_ids)
        expired = [(task_id, TaskStatus.CANCELLED) for task_id in task_ids if task_id not in found]
        return expired + [(task_id, status) for task_id, status in found.items() if status.terminal]
