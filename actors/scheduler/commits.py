"""How what a shard has decided becomes durable: one commit after the other, each of many decisions.

A commit that fails leaves memory ahead of the store. Whoever asked for it drops the state; what is said here of that is the one
case in which somebody is to blame: the store refuses the data of a report, which is then remembered.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

from actors.scheduler.causes import with_causes
from actors.scheduler.generations import REBUILD_RETRY_S, shard_away
from actors.scheduler.state import ShardState, Write
from actors.scheduler.unstorable import UnstorableReports, commit_up_to_culprit
from cluster.domain.base.errors import ActorUnavailable, Unstorable
from cluster.domain.scheduling.requests import ReportRequest
from cluster.domain.tasks.task import PERSON_TYPE, PULL_CALL_TYPE, TaskDecision, TaskStatus
from cluster.domain.workflows.stored import ends_task_of_run
from cluster.ports.tasks import TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops

_logger = logging.getLogger(__name__)

Drop = Callable[[ShardState, float], None]
"""Drops a state that is ahead of the store, and reads it again after so many seconds."""


class Commits:
    """The commits of all states of a shard. ``work`` runs what follows a commit and nobody waits for."""

    def __init__(self, tasks: TaskStore, doorbell: Doorbell, work: Loops, drop: Drop) -> None:
        self._tasks = tasks
        self._doorbell = doorbell
        self._work = work
        self._drop = drop
        # Reports that the store has refused. They outlive the state, since each of them ends one.
        self._unstorable = UnstorableReports()

    def read(self, request: ReportRequest) -> ReportRequest:
        """The report, or what is decided in the place of one that the store has refused."""
        return self._unstorable.read(request)

    async def flush(self, state: ShardState, writes: Sequence[Write]) -> Sequence[None]:
        """One commit of the group: all decisions of all writes, in order. Progress is stored before: the last of an attempt comes
        before its end.

        Raises: `ActorUnavailable` if memory is not as the store, `Fenced` if there is a newer generation; what the store
        raises."""
        if state.failed:
            raise shard_away()
        progress = [report for write in writes for report in write.progress]
        if progress:
            await self._tasks.store_progress(state.fence, progress)
        decisions = [decision for write in writes for decision in write.decisions]
        if decisions:
            try:
                await self._commit(state, decisions)
            except Unstorable as error:
                await self._refuse_culprit(state, decisions, error)
        elif any(write.refuses for write in writes):
            # A shard that was replaced does not know it before it writes. Its memory lacks what its successor has granted, so it
            # would refuse the report of a holder, whose work was lost.
            await self._tasks.confirm(state.fence)
        return [None] * len(writes)

    async def _commit(self, state: ShardState, decisions: Sequence[TaskDecision]) -> None:
        """Raises: ``ActorUnavailable`` if memory is not as the store, `Unstorable`, ``TryLater``."""
        decisions = await with_causes(decisions, self._tasks)
        outcomes = await self._tasks.decide(state.fence, decisions)
        for decision, outcome in zip(decisions, outcomes, strict=True):
            if not outcome.applied:
                raise ActorUnavailable(f"Task {decision.head.id} is not in the store as it is in memory.")
            state.reports.pop(decision.head.id, None)
        ended_types = {decision.head.task_type for decision in decisions if decision.head.status.terminal}
        for topic in (topic for task_type, topic in _HEARD_OF.items() if task_type in ended_types):
            self._work.start(self._doorbell.notify(topic))
        if any(
            decision.head.status.terminal and decision.head.status is not TaskStatus.COMPLETED for decision in decisions
        ):
            # What completes is heard of by the next poll: it is most of what ends, and nobody is called at night for it.
            self._work.start(self._doorbell.notify(WakeTopic.NOTIFICATIONS))
        if any(map(ends_task_of_run, decisions)):
            self._work.start(self._doorbell.notify(WakeTopic.WORKFLOWS))

    async def _refuse_culprit(self, state: ShardState, decisions: Sequence[TaskDecision], error: Unstorable) -> None:
        """Commits what comes before the decision that the store refuses, remembers the report that led to it, and drops the
        state, which is ahead of the store by that decision and by all that rests on it.

        Raises: ``ActorUnavailable`` unless the store takes all of them now."""
        culprit = await commit_up_to_culprit(decisions, functools.partial(self._commit, state))
        if culprit is None:
            return
        report = state.reports.get(culprit.head.id)
        _logger.error(
            "the store refuses a decision about task %s (%s)", culprit.head.id, culprit.record.kind, exc_info=error
        )
        if report is not None:
            self._unstorable.add(report)
        # Dropped before the next group is flushed. Without a report nothing keeps the same decision from being made again,
        # so the pause bounds what that costs.
        self._drop(state, 0.0 if report is not None else REBUILD_RETRY_S)
        raise shard_away()


#: Types of tasks whose ends somebody waits for → what tells of them.
_HEARD_OF = {PULL_CALL_TYPE: WakeTopic.PULL_CALLS, PERSON_TYPE: WakeTopic.PEOPLE}
