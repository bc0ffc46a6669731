"""What a shard holds in memory under one generation, and drops as one when a commit fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.scheduling.answers import ClaimAnswer, Grant, Lease
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.progress_buffer import ProgressBuffer
from cluster.domain.scheduling.requests import ReleaseRequest, ReportRequest
from cluster.domain.tasks.progress import ProgressReport
from cluster.domain.tasks.task import LeaseToken, TaskDecision, TaskHead, TaskStatus
from cluster.log.follower import LogFollower
from cluster.ports.tasks import ShardFence
from cluster.process.group_commit import GroupCommit

_SYSTEM = "system:api"

Asker = tuple[str, int]
"""(caller, correlation number)"""
Answer = tuple[str, int, Any]
"""(caller, correlation number, answer)"""


@dataclass(frozen=True, slots=True)
class Write:
    """Decisions to commit in order, reports of progress to store before them, and what may be answered once all of it is
    durable. ``refuses``: something is refused for what memory has, though nothing is decided."""

    decisions: Sequence[TaskDecision] = ()
    answers: Sequence[Answer] = ()
    progress: Sequence[ProgressReport] = ()
    refuses: bool = False

    def __bool__(self) -> bool:
        return bool(self.decisions or self.answers or self.progress)


@dataclass(slots=True)
class ShardState:
    """Everything that belongs to one generation.

    The shard makes it. Loops, commits and look-ups keep a reference to the one that they began with, so that what they bring
    back late never reaches another.
    """

    # The generation under which all decisions of this state are written; the store refuses them once there is a newer one.
    fence: ShardFence
    # Tasks, leases and waiting claims, ahead of the store by the commits in flight.
    core: SchedulerCore
    # Numbers for claims that wait in the core.
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    # Ticket of a claim that waits in the core → its asker. ``await_claim`` adds; ``take_output``, when the claim is answered,
    # ``withdraw`` and ``forget`` remove.
    tickets: dict[int, Asker] = field(default_factory=dict)
    # The same pairs the other way round, to find a claim that is withdrawn or was sent twice.
    by_caller: dict[Asker, int] = field(default_factory=dict)
    # Task id → the report that was decided last and is not known to be durable. Its handler adds, a commit removes. If the
    # store refuses a decision, this says whose report it was.
    reports: dict[str, ReportRequest] = field(default_factory=dict)
    # What holders have reported of their progress and is not on its way to the store, with the answer to each report. The handler
    # of extensions adds, ``take_output`` takes.
    progress: ProgressBuffer[Answer] = field(default_factory=ProgressBuffer)
    # Set once, by ``forget``: whoever has waited must look at it before it uses the state again.
    failed: bool = False
    # Reads the log on from the row up to which this state was read.
    follower: LogFollower = field(init=False)
    # Writes that wait for the next commit, in the order of their decisions.
    commit_queue: GroupCommit[Write, None] = field(init=False)

    def forget(self) -> None:
        """Marks the state as failed and frees its memory at once, though loops and calls may still refer to it."""
        self.failed = True
        self.core = SchedulerCore(lease_ttl_s=1.0)
        self.tickets, self.by_caller, self.reports = {}, {}, {}
        self.progress = ProgressBuffer()

    def next_timer(self) -> float | None:
        """When there is something to do that nobody asks for, in epoch seconds; None if there is nothing."""
        timers = [at for at in (self.core.next_timer(), self.progress.next_due()) if at is not None]
        return min(timers, default=None)

    # --- claims that wait -----------------------------------------------------------------------------------------

    def await_claim(self, ticket: int, asker: Asker) -> None:
        """Notes whose claim waits in the core under a ticket."""
        self.tickets[ticket] = asker
        self.by_caller[asker] = ticket

    def withdraw(self, asker: Asker) -> bool:
        """Removes an asker's waiting claim from the core; False if none waits there, so that its answer is on its way."""
        ticket = self.by_caller.pop(asker, None)
        if ticket is None or not self.core.withdraw(ticket):
            return False
        del self.tickets[ticket]
        return True

    def askers(self) -> list[Asker]:
        """Whoever waits for something that is in memory alone."""
        return [*self.tickets.values(), *(answer[:2] for answer in self.progress.askers())]

    # --- answers with leases --------------------------------------------------------------------------------------

    def claim_answer(self, grants: Sequence[Grant], stopping: tuple[str, ...]) -> ClaimAnswer:
        """The answer that carries these leases, and tasks to stop."""
        return ClaimAnswer(leases=tuple(_lease(grant, self.fence.generation) for grant in grants), cancelling=stopping)

    def release(self, request: ReleaseRequest, now: float) -> None:
        """Releases a lease that this generation answered to nobody. One that a predecessor answered is kept: it alone knew
        whether another answer carried the lease, and an agent may be working on it. If none is, the lease is answered again or
        expires."""
        generation, delivery = request.delivery
        if generation == self.fence.generation:
            self.core.undelivered(
                request.task_id, request.workspace, request.attempt, request.agent_id, delivery, _SYSTEM, now
            )

    # --- what goes out --------------------------------------------------------------------------------------------

    def take_output(
        self, answers: Sequence[Answer], now: float, *, refuses: bool = False
    ) -> tuple[Write, Mapping[str, Sequence[str]]]:
        """What has to be written, with ``answers`` and those to waiting claims, which depend on it; and tasks whose ends must be
        looked up, by workspace. ``refuses``: one of the answers is a refusal."""
        decisions, answered = self.core.take_output(now)
        told = list(answers)
        for claim in answered:
            asker = self.tickets.pop(claim.ticket, None)
            if asker is not None:
                self.by_caller.pop(asker, None)
                told.append((*asker, self.claim_answer(claim.grants, claim.stopping)))
        progress = self._due_progress(decisions, told, now)
        return Write(decisions, told, progress, refuses), self.core.take_unresolved()

    def _due_progress(
        self, decisions: Sequence[TaskDecision], told: list[Answer], now: float
    ) -> Sequence[ProgressReport]:
        """The reports to store now: those that are due, and the last ones of attempts that ``decisions`` end. Adds to ``told``
        who waits for them. Costs nothing while no running task has reported."""
        if not self.progress:
            return ()
        for decision in decisions:
            if decision.expect_status is TaskStatus.RUNNING and decision.head.status is not TaskStatus.RUNNING:
                self.progress.end(decision.head.id)
        reports, askers = self.progress.take(now)
        told += askers
        return reports


def _lease(grant: Grant, generation: int) -> Lease:
    head: TaskHead = grant.head
    assert head.assigned_agent is not None
    token = LeaseToken(task_id=head.id, attempt=head.attempt, agent_id=head.assigned_agent)
    return Lease(
        head=head,
        token=token.encode(),
        expires_at=grant.expires_at,
        redelivered=grant.redelivered,
        delivery=(generation, grant.delivery),
    )
