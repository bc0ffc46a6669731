"""What a host reports to the shard about tasks of called agents: outcomes and progress, until the shard takes or refuses them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from cluster.domain.agents.agent import Agent
from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import CallerError, Conflict, ControlPlaneError
from cluster.domain.base.log import HOST_PRINCIPAL
from cluster.domain.scheduling.requests import AskRequest, ExtendRequest, ParkRequest, ReportRequest
from cluster.domain.tasks.agent_waits import AgentWait
from cluster.domain.tasks.events import Asked, ParkAsked, Reporter, ReportEvent
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.task import Task
from cluster.ports.clock import Clock

_logger = logging.getLogger(__name__)

RETRY_S = 0.5

#: (request, long_poll=...) → the shard's answer
AskShard = Callable[..., Awaitable[Any]]


def reporter(agent: Agent, task: Task) -> Reporter:
    """Who reports on an attempt of a called agent: its host."""
    return Reporter(principal=HOST_PRINCIPAL, agent_id=agent.agent_id, attempt=task.attempt)


class TaskReports:
    """Repeating a report is safe, because it names the attempt."""

    def __init__(self, shard: AskShard, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock

    async def report(self, task: Task, cause: str, outcome: ReportEvent) -> bool:
        """Reports the outcome of an attempt (`agent_outcomes`); returns whether the shard took it. ``cause`` is what led to the
        task's submit."""
        event = evolve(outcome, cause=cause)
        report = ReportRequest(workspace=task.workspace, task_id=task.id, event=event, brief=True, checked=True)
        try:
            await self._until_taken(report)
        except CallerError as refused:
            _logger.info("the report of task %s was refused: %s", task.id, refused)
            return False
        return True

    async def wait(self, agent: Agent, task: Task, cause: str, wait: AgentWait) -> None:
        """Ends an attempt with a question, or until children have ended. Who has lost the lease waits for nothing.

        Raises: `InvalidRequest` if the shard cannot store it."""
        workspace, progress, by = agent.workspace, wait.progress, reporter(agent, task)
        request: AskRequest | ParkRequest
        if wait.question is not None:
            asked = Asked(by=by, question=wait.question, cause=cause)
            request = AskRequest(workspace=workspace, task_id=task.id, event=asked, progress=progress)
        else:
            parked = ParkAsked(by=by, children=wait.children, cause=cause)
            request = ParkRequest(workspace=workspace, task_id=task.id, event=parked, progress=progress)
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
