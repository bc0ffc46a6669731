"""The people whom the deliberations of a worker ask: each question is a task that people do, which the worker waits for.

A question is journalled before its task is submitted, under an id and a key that are derived from the deliberation. So a worker
that is killed in between asks once; and one that has lost the deliberation meanwhile cannot ask again after its end.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from cluster.domain.base.errors import ActorUnavailable, Conflict, NotFound, StoreUnavailable
from cluster.domain.base.log import Origin
from cluster.domain.deliberation.person import (
    PRINCIPAL,
    PersonAnswered,
    answer_of,
    call_key,
    question_task,
    question_task_id,
)
from cluster.domain.deliberation.state import State
from cluster.domain.deliberation.stored import Deliberation
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.tasks.task import IdempotencyKey, Task
from cluster.ports.clock import Clock
from cluster.ports.tasks import SubmitItem, TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic

_logger = logging.getLogger(__name__)

#: Under which the keys of questions are stored.
ROUTE = "deliberations/ask"
#: Between two looks at the questions that are waited for. The doorbell makes it quick.
LOOK_S = 5.0
#: Questions that are looked at in one statement.
PAGE = 1000

#: Sends a request to the scheduler shard.
AskShard = Callable[[Any], Awaitable[Any]]


class People:
    """The questions of one worker."""

    def __init__(self, *, tasks: TaskStore, doorbell: Doorbell, clock: Clock, shard: AskShard, region: str) -> None:
        self._tasks = tasks
        self._doorbell = doorbell
        self._clock = clock
        self._shard = shard
        self._region = region
        #: By task id, while a deliberation waits: its workspace, and what wakes its run. `awaited` adds and removes.
        self._waiting: dict[str, tuple[str, Callable[[], None]]] = {}

    async def run(self) -> None:
        """Wakes the runs whose questions were answered, or ended otherwise."""
        while True:
            await self._doorbell.wait(LOOK_S, (WakeTopic.PEOPLE,))
            try:
                await self._look()
            except StoreUnavailable as error:
                _logger.warning("questions to people cannot be read, will try again: %s", error)
                await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        of_workspaces: dict[str, list[str]] = {}
        for task_id, (workspace, _) in self._waiting.items():
            of_workspaces.setdefault(workspace, []).append(task_id)
        for workspace, ids in of_workspaces.items():
            for n in range(0, len(ids), PAGE):
                await self._look_at(workspace, ids[n : n + PAGE])

    async def _look_at(self, workspace: str, ids: Sequence[str]) -> None:
        statuses = await self._tasks.statuses(workspace, ids)
        for task_id in ids:
            status, waits = statuses.get(task_id), self._waiting.get(task_id)
            if waits is not None and (status is None or status.terminal):
                waits[1]()

    @asynccontextmanager
    async def awaited(self, record: Deliberation, wake: Callable[[], None]) -> AsyncGenerator[None]:
        """Calls ``wake`` when the deliberation's question has ended, or if it had before the block, for as long as that runs.

        Raises: `StoreUnavailable`."""
        task_id = question_task_id(record.request_id)
        self._waiting[task_id] = (record.workspace, wake)
        try:
            await self._look_at(record.workspace, [task_id])
            yield
        finally:
            self._waiting.pop(task_id, None)

    async def answer(self, record: Deliberation, state: State) -> PersonAnswered | None:
        """What has come of the question of a deliberation that waits for a person, which is asked if it was not; None while it is
        open.

        Raises: `StoreUnavailable`; `ActorUnavailable` if it cannot be read yet."""
        return answer_of(await self._asked(record, state))

    async def withdraw(self, record: Deliberation, state: State) -> None:
        """Returns when the question is not open any more. It is asked first if it was not: whoever took the deliberation before,
        and is about to ask, finds it then.

        Raises: `TryLater` if that cannot be done now."""
        task = await self._asked(record, state)
        if task.status.terminal:
            return
        event = CancelRequested(principal=PRINCIPAL, cause=record.cause)
        request = CancelRequest(workspace=record.workspace, task_id=task.id, event=event)
        with suppress(Conflict, NotFound):
            await self._shard(request)
        if not (await self._asked(record, state)).status.terminal:
            raise ActorUnavailable(f"The question {task.id} could not be withdrawn yet.")

    async def _asked(self, record: Deliberation, state: State) -> Task:
        """The task that asks.

        Raises: `StoreUnavailable`; `ActorUnavailable` if it cannot be read yet."""
        task_id = question_task_id(record.request_id)
        task = await self._tasks.get(record.workspace, task_id)
        if task is None:
            origin = Origin(workspace=record.workspace, principal=PRINCIPAL, cause=record.cause)
            new = question_task(state, origin, self._clock.now(), self._region)
            key = call_key(record.request_id)
            idempotency = IdempotencyKey(route=ROUTE, key=key, body_digest=hashlib.sha256(key.encode()).digest())
            await self._tasks.submit([SubmitItem(task=new, idempotency=idempotency)])
            await self._doorbell.notify(WakeTopic.TASKS)
            task = await self._tasks.get(record.workspace, task_id)
        if task is None:
            raise ActorUnavailable(f"The question {task_id} cannot be read yet.")
        return task
