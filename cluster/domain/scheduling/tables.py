"""The tables of a scheduler shard's core: whatever one of them holds can be read again from the store, or may be lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.domain.scheduling.cancellations import PendingCancellations
from cluster.domain.scheduling.dependencies import Dependencies
from cluster.domain.scheduling.families import Families
from cluster.domain.scheduling.last_claims import LastClaims
from cluster.domain.scheduling.lease_table import LeaseTable
from cluster.domain.scheduling.preferred_agents import PreferredAgents
from cluster.domain.scheduling.ready_queue import ReadyQueue
from cluster.domain.scheduling.sticky_keys import StickyKeys
from cluster.domain.scheduling.timers import Timers
from cluster.domain.scheduling.waiting_claims import WaitingClaims
from cluster.domain.scheduling.workspace_ends import WorkspaceEnds
from cluster.domain.tasks.task import TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The parts of a core share one object of this, and say which of them changes what."""

    #: Pending tasks whose ``run_at`` has come and that are not blocked. The effects Enqueue and Dequeue and a claim's ``take``
    #: change it. Delayed tasks are in ``timers`` only, blocked ones in ``dependencies`` only.
    queue: ReadyQueue
    #: The lease of every running task, by agent, and what is known of agents. StartLease and ``OpenTasks.add`` add, EndLease
    #: removes.
    leases: LeaseTable
    #: Which agents hold sticky keys, and which tasks of the queue wait for them. StartLease and EndLease change who holds a key;
    #: a task waits from Enqueue to Dequeue, or until ``OpenTasks.free``.
    sticky: StickyKeys
    #: Which agents claim from which regions, for tasks that prefer some. The dispatch notes it, a deregistration forgets it.
    preferred: PreferredAgents
    #: Task id → head of every task that has not ended, as of the last step, committed or not. ``OpenTasks`` alone changes it.
    #: Every entry of the queue, lease and pending cancellation is of a task in here.
    open: dict[str, TaskHead] = field(default_factory=dict)
    #: Running tasks that are being cancelled. StartGrace adds, EndLease removes.
    cancellations: PendingCancellations = field(default_factory=PendingCancellations)
    #: The edges of every blocked task, and of each that waits for its children. ``OpenTasks`` changes it: ``settle`` removes the
    #: edges to a task that has ended, the end of a waiting task its own.
    dependencies: Dependencies = field(default_factory=Dependencies)
    #: The children of every task that has open ones. ``OpenTasks`` changes it.
    families: Families = field(default_factory=Families)
    #: Claims that found nothing and wait (long polls), and what they are to be offered.
    waiting: WaitingClaims = field(default_factory=WaitingClaims)
    #: What agents' claims leave out, for explanations. The dispatch notes it, a deregistration forgets it.
    last_claims: LastClaims = field(default_factory=LastClaims)
    #: Everything that time brings: ends of delays, leases, run times, graces, queue times and total times.
    timers: Timers = field(default_factory=Timers)
    #: Deleted workspaces, whose tasks are ended.
    workspace_ends: WorkspaceEnds = field(default_factory=WorkspaceEnds)
