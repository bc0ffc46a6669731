"""Pull calls: a question to an agent without an endpoint becomes a task for it, and the task's result is the answer.

The task's idempotency key is the call's, so a call that is repeated after a crash finds the task of the first call. The
task has one attempt: an agent that loses the lease cannot answer the call any more, just as a call to an endpoint is
lost if the connection breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.base.errors import (
    AgentMalformed,
    AgentRefused,
    AgentTimeout,
    AgentUnavailable,
    ControlPlaneError,
)
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.log import HOST_PRINCIPAL, LogRow, Origin
from cluster.domain.deliberation.numbers import exact_json
from cluster.domain.scheduling.requests import CancelRequest
from cluster.domain.tasks.events import CancelRequested
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import PULL_CALL_TYPE, IdempotencyKey, NewTask, Priority, Task, TaskStatus
from cluster.ports.agent_transport import THE_ANSWER, Ask, contract_reply, judged
from cluster.ports.clock import Clock
from cluster.ports.tasks import SubmitItem, TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process import spans
from cluster.process.large import in_thread_if_large, rough_size
from cluster.process.loops import ended

#: Under which the calls' idempotency keys are stored. (A stored name: "turn" was a word for a pull call.)
ROUTE = "turns"
ENDED_KINDS = frozenset({"task.completed", "task.failed", "task.dead_lettered", "task.timeout", "task.cancelled"})

#: Sends a request to the scheduler shard.
AskShard = Callable[[Any], Awaitable[Any]]


class PullCalls:
    """The pull calls of one host."""

    def __init__(self, *, tasks: TaskStore, doorbell: Doorbell, clock: Clock, shard: AskShard, region: str) -> None:
        self._tasks = tasks
        self._doorbell = doorbell
        self._clock = clock
        self._shard = shard
        self._region = region
        #: Task id → events of the calls that wait for its end; several if a call was repeated. `_end_of` adds and removes.
        self._waiting: dict[str, list[asyncio.Event]] = {}
        #: Cancellations under way, for which no call waits; `stop` ends what is left.
        self._cancels: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Gives up the cancellations that are under way."""
        await ended(*self._cancels)

    def apply(self, rows: Sequence[LogRow]) -> None:
        """Wakes the calls whose tasks have ended."""
        for row in rows:
            if row.kind in ENDED_KINDS:
                for woken in self._waiting.get(row.entity, ()):
                    woken.set()

    async def ask(self, agent: Agent, call: AgentCall) -> Reply:
        """Returns the agent's answer. If the call ends without one, or its asker is cancelled, the task is cancelled.

        Raises: `AgentTimeout` if the time is over; `AgentUnavailable` if the call's key belongs to another agent or the
        task is gone; `AgentRefused` if the task failed; `AgentMalformed` if its result is no answer."""
        submitted = asyncio.ensure_future(self._submit(agent, call))
        ended = False
        try:
            async with asyncio.timeout(call.timeout_s):
                task = await self._end_of(agent.workspace, await asyncio.shield(submitted))
            ended = True
        except TimeoutError:
            raise AgentTimeout(f"Agent {call.agent_id} did not answer within {call.timeout_s:.1f} s.") from None
        finally:
            if not ended:
                self._cancel(agent.workspace, submitted, call.cause)
        return await in_thread_if_large(rough_size(task.result), _reply, task, call)

    async def _submit(self, agent: Agent, call: AgentCall) -> str:
        now = self._clock.now()
        payload = {
            "messages": [dict(message) for message in call.messages],
            "schema": dict(call.schema),
            "max_tokens": call.max_tokens,
            "deadline": now + call.timeout_s,
            "timeout_seconds": call.timeout_s,
            "idempotency_key": call.key,
        }
        if spans.tracer is not None and spans.header():
            payload["traceparent"] = spans.header()
        task = NewTask(
            id=sortable_id("task", now, os.urandom(10)),
            origin=Origin(workspace=agent.workspace, principal=HOST_PRINCIPAL, cause=call.cause),
            task_type=PULL_CALL_TYPE,
            created_at=now,
            payload=payload,
            priority=Priority.HIGH,
            timeout_s=call.timeout_s,
            max_retries=0,
            target_agent=agent.agent_id,
            origin_region=self._region,
            rules=TaskRules(total_timeout_s=call.timeout_s),
        )
        digest = hashlib.sha256(f"{agent.agent_id}\x1f{call.key}".encode()).digest()
        key = IdempotencyKey(route=ROUTE, key=call.key, body_digest=digest)
        (outcome,) = await self._tasks.submit([SubmitItem(task=task, idempotency=key)])
        if outcome.conflict:
            raise AgentUnavailable(f"The key of this call belongs to another agent than {agent.agent_id}.")
        if spans.tracer is not None and outcome.task_id == task.id:
            told: dict[str, spans.Value] = {"aragora.task.id": task.id, "aragora.task.type": PULL_CALL_TYPE}
            spans.submitted("task.submit", call.cause, task.id, told)
        await self._doorbell.notify(WakeTopic.TASKS)
        return outcome.task_id

    async def _end_of(self, workspace: str, task_id: str) -> Task:
        """Waits for the task's end, which the log tells of. Reads the task first: a repeated call may come after its end."""
        woken = asyncio.Event()
        self._waiting.setdefault(task_id, []).append(woken)
        try:
            while True:
                woken.clear()
                task = await self._tasks.get(workspace, task_id)
                if task is None:
                    raise AgentUnavailable(f"The task {task_id} that asked the agent is gone.")
                if task.status.terminal:
                    return task
                await woken.wait()
        finally:
            self._waiting[task_id].remove(woken)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    def _cancel(self, workspace: str, submitted: asyncio.Future[str], cause: str) -> None:
        """Cancels a call's task. Waits for a submit that is still under way, which may be committed already. A task that
        another call waits for goes on: if a deliberation worker was killed, its successor repeats the same calls."""

        async def cancel() -> None:
            with contextlib.suppress(ControlPlaneError):
                task_id = await submitted
                if task_id not in self._waiting:
                    event = CancelRequested(principal=HOST_PRINCIPAL, cause=cause)
                    request = CancelRequest(workspace=workspace, task_id=task_id, event=event)
                    await self._shard(request)

        task = asyncio.create_task(cancel())
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)


def _reply(task: Task, call: AgentCall) -> Reply:
    if task.status is TaskStatus.TIMEOUT:
        raise AgentTimeout(f"Agent {call.agent_id} did not complete its task in time.")
    if task.status is not TaskStatus.COMPLETED:
        raise AgentRefused(f"Agent {call.agent_id} did not complete its task: {task.error or task.status.value}"[:500])
    if task.result is None:
        raise AgentMalformed(f"Agent {call.agent_id} completed its task without an answer.")
    result = {"text": task.result} if isinstance(task.result, str) else task.result
    ask = Ask(
        transport=TransportKind.PULL,
        endpoint="",
        model="",
        messages=call.messages,
        schema=call.schema,
        max_tokens=call.max_tokens,
        timeout_s=call.timeout_s,
        key=call.key,
    )
    with judged():
        reply = contract_reply(ask, result, len(exact_json(result, THE_ANSWER).encode()))
    return Reply(
        text=reply.text,
        tokens=reply.tokens,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        estimated=reply.estimated,
    )
