"""The output of tasks that called agents work on: what a model writes, as it writes it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aragora_worker.emitting import Emitter
from aragora_worker.repeating import Patience
from cluster.domain.agents.agent import Agent
from cluster.domain.tasks.chunks import NewChunks, Written, next_number, written_contents
from cluster.domain.tasks.task import LeaseToken, Task
from cluster.ports.chunks import Chunks
from cluster.ports.clock import Clock
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.group_commit import GroupCommit


class TaskOutputs:
    """The outputs of one host's tasks."""

    def __init__(self, chunks: Chunks, doorbell: Doorbell, clock: Clock) -> None:
        self._chunks = chunks
        self._doorbell = doorbell
        self._clock = clock
        self._writes: GroupCommit[NewChunks, Written] = GroupCommit(self._write, max_batch=100)

    @contextlib.asynccontextmanager
    async def of(self, agent: Agent, task: Task) -> AsyncIterator[Callable[[str], None] | None]:
        """What takes the pieces of an agent's answer to a task; None if the agent does not stream. When the block ends it waits a
        little for the last ones, since the report follows."""
        if not agent.options.stream:
            yield None
            return
        token = LeaseToken(task_id=task.id, attempt=task.attempt, agent_id=agent.agent_id)
        emitter = Emitter(task.id, partial(self._send, agent.workspace, token), Patience())
        try:
            yield emitter.offer
        finally:
            await emitter.flush()

    async def _send(self, workspace: str, token: LeaseToken, body: Mapping[str, Any]) -> None:
        new = NewChunks(
            workspace=workspace,
            token=token,
            first=body["first"],
            contents=written_contents(body["chunks"]),
            at=self._clock.now(),
            skip=body.get("skip", False),
        )
        next_number(new, await self._writes.put(new))

    async def _write(self, items: Sequence[NewChunks]) -> Sequence[Written]:
        written = await self._chunks.write(items)
        await self._doorbell.notify(WakeTopic.CHUNKS)
        return written
