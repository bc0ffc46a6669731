"""What a host reports to the shard about tasks of called agents: outcomes and progress, until the shard takes or refuses them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from actors.messages import AskRequest, ExtendRequest, ParkRequest, ReportRequest
from cluster.domain.agents.agent import Agent
from cluster.domain.base.errors import CallerError, Conflict, ControlPlaneError
from cluster.domain.base.log import HOST_PRINCIPAL
from cluster.domain.tasks.agent_waits import AgentWait
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import Task
from cluster.ports.clock import Clock

_logger = logging.getLogger(__name__)

RETRY_S = 0.5

#: (request, long_poll=...) → the shard's answer
AskShard = Callable[..., Awaitable[Any]]


class TaskReports:
    """Repeating a report is safe, because it names the attempt."""

    def __init__(self, shard: AskShard, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock

    async def report(
        self,
        agent: Agent,
        task: Task,
        cause: str,
        *,
        result_json: str | None = None,
        error: str | None = None,
        requeue: bool = True,
        error_class: ErrorClass = ErrorClass.RETRYABLE,
        retry_after_s: float | None = None,
        error_code: str | None = None,
        unsent: bool = False,
    ) -> bool:
        """Reports the outcome of an attempt (`task_outcomes`); returns whether the shard took it. ``cause`` is what led to the
        task's submit."""
        report = ReportRequest(
            workspace=agent.workspace,
            principal=HOST_PRINCIPAL,
            task_id=task.id,
            attempt=task.attempt,
            agent_id=agent.agent_id,
            result_json=result_json,
            error=error,
            requeue=requeue,
            error_class=error_class,
            retry_after_s=retry_after_s,
            error_code=error_code,
            unsent=unsent,
            brief=True,
            checked=True,
            cause=cause,
        )
        try:
            await self._until_taken(report)
        except CallerError as refused:
            _logger.info("the report of task %s was refused: %s", task.id, refused)
            return False
        return True

    async def wait(self, agent: Agent, task: Task, cause: str, wait: AgentWait) -> None:
        """Ends an attempt with a question, or until children have ended. Who has lost the lease waits for nothing.

        Raises: `InvalidRequest` if the shard cannot store it."""
        names: dict[str, Any] = {
            "workspace": agent.workspace,
            "principal": HOST_PRINCIPAL,
            "task_id": task.id,
            "attempt": task.attempt,
            "agent_id": agent.agent_id,
            "progress": wait.progress,
            "cause": cause,
        }
        request: AskRequest | ParkRequest
        if wait.question is not None:
            request = AskRequest(question=wait.question, **names)
        else:
            request = ParkRequest(children=wait.children, **names)
        try:
            await self._until_taken(request)
        except Conflict as refused:
            _logger.info("task %s does not wait: %s", task.id, refused)

    async def report_progress(self, agent: Agent, task: Task, progress: Progress) -> None:
        """Stores what an agent reports of an attempt, and renews its lease. Raises: `Conflict` if the attempt is over."""
        extension = ExtendRequest(
            workspace=agent.workspace,
            task_id=task.id,
            attempt=task.attempt,
            agent_id=agent.agent_id,
            progress=progress,
        )
        await self._until_taken(extension)

    async def _until_taken(self, request: ReportRequest | ExtendRequest | AskRequest | ParkRequest) -> None:
        while True:
            try:
                await self._shard(request)
                return
            except CallerError:
                raise
            except ControlPlaneError:
                await self._clock.sleep(RETRY_S)
