"""The gateway: the stores, the exchange with the scheduler and the copies of the log that a replica's routes use.

The composition root builds one per replica. Frequent writes of one kind share a group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import HTTPConnection

from cluster.domain.agents.breaker import Breaker
from cluster.domain.base.errors import TryLater
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import Admitted, NewDeliberation
from cluster.domain.policies.violations import Violation
from cluster.domain.residency import RegionZones
from cluster.domain.scheduling.answers import HeartbeatAnswer, undelivered
from cluster.domain.scheduling.requests import HeartbeatRequest, ReportRequest
from cluster.domain.tasks.chunks import NewChunks, Written
from cluster.domain.tasks.task import Submitted, Task
from cluster.learning.weight_learner import Learner, owners_from
from cluster.log.access_directory import AccessDirectory
from cluster.log.archived_story import ArchivedStories
from cluster.log.audit import AuditPart
from cluster.log.budget_directory import BudgetDirectory
from cluster.log.policy_directory import PolicyDirectory
from cluster.log.quota_directory import QuotaDirectory
from cluster.log.task_tally import TaskTally
from cluster.ports.access import AccessStore
from cluster.ports.agents import KnownAgents, Registered, RegisterItem, WorkspaceAgents
from cluster.ports.audit import WorkspaceAudit
from cluster.ports.breakers import WorkspaceBreakers
from cluster.ports.budgets import WorkspaceBudgets
from cluster.ports.chunks import Chunks
from cluster.ports.clock import Clock
from cluster.ports.credentials import WorkspaceCredentials
from cluster.ports.deliberations import WorkspaceDeliberations
from cluster.ports.erasure import Erasures
from cluster.ports.hooks import WorkspaceHooks
from cluster.ports.idempotency import Answers
from cluster.ports.leases import HeldLeases
from cluster.ports.log import WorkspaceLog
from cluster.ports.notifications import WorkspaceNotifications
from cluster.ports.operations import DeadLetterStore, WorkspaceControls
from cluster.ports.outcomes import OutcomeStore
from cluster.ports.policies import WorkspacePolicies
from cluster.ports.presence import HeartbeatRecord, WorkspaceHeartbeats
from cluster.ports.pushes import WorkspacePushes
from cluster.ports.quotas import WorkspaceQuotas
from cluster.ports.retention import WorkspaceRetention
from cluster.ports.schedules import WorkspaceSchedules
from cluster.ports.tasks import SubmitItem, WorkspaceTasks
from cluster.ports.wake_ups import Doorbell, WakeTopic, topics_for
from cluster.ports.workflows import WorkspaceWorkflows
from cluster.process.group_commit import GroupCommit
from cluster.process.waits import AWAY_S
from cluster.rpc.exchange import ExchangeClient
from cluster.settings import Settings
from cluster.telemetry.observations import PolicyObservations
from serve_app.attendance import Attendance
from serve_app.auth.open_calls import OpenCalls
from serve_app.components import Components
from serve_app.signing import ReceiptSigner
from serve_app.streams.chunks import ChunkHub
from serve_app.streams.endings import StreamEndings
from serve_app.streams.hub import StreamHub

T = TypeVar("T")
R = TypeVar("R")

#: Heartbeats that a replica records within one heartbeat time-out for an agent whose call stays open.
RECORDS_PER_TIMEOUT = 4


@dataclass(kw_only=True)
class Gateway:
    """Its stores are the ports of request handlers: none can be asked without a workspace, nor for all of them at once
    (tests/unit/serve_app/test_workspace_ports.py)."""

    settings: Settings
    clock: Clock
    tasks: WorkspaceTasks
    chunks: Chunks
    tally: TaskTally
    dead_letters: DeadLetterStore
    controls: WorkspaceControls
    answers: Answers
    agents: WorkspaceAgents
    deliberations: WorkspaceDeliberations
    credentials: WorkspaceCredentials
    signing: ReceiptSigner
    schedules: WorkspaceSchedules
    workflows: WorkspaceWorkflows
    hooks: WorkspaceHooks
    notifications: WorkspaceNotifications
    pushes: WorkspacePushes
    outcomes: OutcomeStore
    budgets: WorkspaceBudgets
    budget_view: BudgetDirectory
    quotas: WorkspaceQuotas
    quota_view: QuotaDirectory
    policies: WorkspacePolicies
    policy_view: PolicyDirectory
    heartbeats: WorkspaceHeartbeats
    doorbell: Doorbell
    directory: KnownAgents
    access: AccessDirectory
    access_store: AccessStore
    scheduler: ExchangeClient
    hub: StreamHub
    chunk_hub: ChunkHub
    log: WorkspaceLog
    archived_stories: ArchivedStories
    components: Components
    audit: WorkspaceAudit
    erasures: Erasures
    retention: WorkspaceRetention
    verify_audit: Callable[[int, int | None], Awaitable[AuditPart]]
    """Verifies rows of the log, of all workspaces, and shows none of them."""
    sealed: Callable[[], Awaitable[tuple[int, str | None]]]
    """The last sealed row of the log, and its entry hash in hex."""
    metrics_text: Callable[[bool], Awaitable[tuple[str, str]]]
    """The metrics, if they should be so in the format of OpenMetrics, and the content type."""
    region_status: Callable[[], Awaitable[dict[str, Any]]]
    """What the region's leader says of itself, and of the zone if the region is one of several."""
    started_at: float
    breakers: WorkspaceBreakers
    database: Callable[[], Breaker]
    """This replica's own breaker of the database: a database that is away cannot store its breaker."""
    leases: HeldLeases
    submit_causes: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    """What led to the submits of tasks, by their ids. For their spans alone: no answer shows it."""
    catch_up: Callable[[], Awaitable[None]]
    """Returns when this replica's copies hold everything that was committed when it was called."""
    submits: GroupCommit[SubmitItem, Submitted] = field(init=False)
    chunk_writes: GroupCommit[NewChunks, Written] = field(init=False)
    violations: GroupCommit[tuple[Violation, LogRecord], None] = field(init=False)
    registrations: GroupCommit[RegisterItem, Registered] = field(init=False)
    admissions: GroupCommit[NewDeliberation, Admitted] = field(init=False)
    activity: GroupCommit[HeartbeatRecord, None] = field(init=False)
    renewals: GroupCommit[HeartbeatRecord, HeartbeatAnswer] = field(init=False)
    draining: bool = field(default=False, init=False)
    """Whether this replica is ending and should get no more traffic."""
    endings: StreamEndings = field(default_factory=StreamEndings, init=False)
    open_calls: OpenCalls = field(init=False)
    attended: Attendance = field(init=False)
    """Agents with an open call at this replica."""
    reported: Attendance = field(init=False)
    """Tasks with an open report at this replica that names no agent."""
    task_reads: GroupCommit[tuple[str, str], Task | None] = field(init=False)
    learner: Learner = field(init=False)
    breakers_read: dict[str, Sequence[Breaker]] = field(default_factory=dict, init=False)
    """By workspace: the stored breakers as they were last read, shown while the database is away."""
    zones: RegionZones = field(init=False)
    policy_checks: PolicyObservations = field(default_factory=PolicyObservations, init=False)
    newest_submit: int = field(default=0, init=False)
    """The newest log row of a submit that this replica has acknowledged. ``acknowledged`` raises it."""
    _background: set[asyncio.Task[Any]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.zones = self.settings.zones()
        self.submits = GroupCommit(self._notifying(self.tasks.submit, topics_for), wait_s=AWAY_S)
        self.chunk_writes = GroupCommit(
            self._notifying(self.chunks.write, lambda _: (WakeTopic.CHUNKS,)),
            max_batch=100,
            max_waiting=2_000,
            wait_s=AWAY_S,
        )
        self.registrations = GroupCommit(
            self._notifying(self.agents.register, lambda _: (WakeTopic.AGENTS,)), wait_s=AWAY_S
        )
        self.admissions = GroupCommit(
            self._notifying(self.deliberations.admit, lambda _: (WakeTopic.DELIBERATIONS,)), wait_s=AWAY_S
        )
        self.violations = GroupCommit(self._record_violations, wait_s=AWAY_S)
        self.activity = GroupCommit(self._record_many, max_batch=5000, wait_s=AWAY_S)
        self.renewals = GroupCommit(
            self._renew,
            max_batch=5000,
            wait_s=AWAY_S,
            longest_s=lambda: self.scheduler.patience_s,
            late=lambda: self.scheduler.late(),
        )
        every_s = self.settings.heartbeat_timeout / RECORDS_PER_TIMEOUT
        self.attended = Attendance(self.clock, every_s)
        self.reported = Attendance(self.clock, every_s)
        self.task_reads = GroupCommit(self._read_tasks, wait_s=AWAY_S)
        self.open_calls = OpenCalls(self.access, self.clock)
        self.learner = Learner(self.outcomes, owners_from(self.agents), self.clock)

    def _notifying(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        topics: Callable[[Sequence[T]], Sequence[WakeTopic]],
    ) -> Callable[[Sequence[T]], Awaitable[Sequence[R]]]:
        """``write`` that notifies ``topics`` after its commit. The answer does not wait for the doorbell."""

        async def write_and_notify(items: Sequence[T]) -> Sequence[R]:
            outcomes = await write(items)
            self.notify(*topics(items))
            return outcomes

        return write_and_notify

    def acknowledged(self, outcomes: Sequence[Submitted]) -> None:
        """Notes submits that are durable, so that a claim that comes next does not miss their tasks."""
        self.newest_submit = max(self.newest_submit, *(outcome.seq or 0 for outcome in outcomes))

    def notify(self, *topics: WakeTopic) -> None:
        self.spawn(self.doorbell.notify(*topics))

    def spawn(self, work: Awaitable[Any]) -> None:
        """Starts and owns a background task. asyncio's handler logs its error; nobody waits for its result."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def new_id(self, prefix: str) -> str:
        return sortable_id(prefix, self.clock.now(), os.urandom(10))

    async def heartbeat(self, heartbeats: Sequence[HeartbeatRecord]) -> Sequence[HeartbeatAnswer]:
        """Stores heartbeats and renews the leases of their agents; returns the tasks that each agent should stop.

        Both are done at the same time: neither a slow heartbeat store nor a scheduler that is away may make an agent
        look silent.
        """
        with self.attended.of((heartbeat.workspace, heartbeat.agent_id) for heartbeat in heartbeats):
            _, answers = await asyncio.gather(self._record_activity(heartbeats), self.renewals.put_many(heartbeats))
        return answers

    async def _renew(self, heartbeats: Sequence[HeartbeatRecord]) -> Sequence[HeartbeatAnswer]:
        keys = {(heartbeat.workspace, heartbeat.agent_id, heartbeat.process) for heartbeat in heartbeats}
        renewals = HeartbeatRequest(
            agents=tuple(sorted((workspace, agent_id) for workspace, agent_id, process in keys if process is None)),
            processes=tuple(
                sorted((workspace, agent_id, process) for workspace, agent_id, process in keys if process is not None)
            ),
        )
        answer = await self.scheduler.request(renewals)
        cancelling: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for entry in answer.cancelling:
            cancelling.setdefault(entry[:2], []).append(entry)
        return [
            HeartbeatAnswer(cancelling=tuple(cancelling.get((heartbeat.workspace, heartbeat.agent_id), ())))
            for heartbeat in heartbeats
        ]

    async def report(self, report: ReportRequest) -> Any:
        """Sends a report to the scheduler and returns its answer. The agent that reports counts as alive meanwhile."""
        attendance, subject = self.attended, report.event.by.agent_id
        if subject is None:
            attendance, subject = self.reported, report.task_id
        with attendance.of([(report.workspace, subject)]):
            return await self.scheduler.request(report)

    async def attend_forever(self) -> None:
        while True:
            await self.clock.sleep(self.attended.every_s)
            with contextlib.suppress(TryLater):
                await self.attend()

    async def attend(self) -> None:
        """Records a heartbeat for every agent whose call has been open here for ``attended.every_s``."""
        keys = self.attended.take_due()
        unnamed = self.reported.take_due()
        if unnamed:
            # Only the store knows who holds these tasks, and reports that stay open for so long are few.
            tasks = await self._read_tasks(unnamed)
            keys += [(task.workspace, task.assigned_agent) for task in tasks if task and task.assigned_agent]
        now = self.clock.now()
        await self.activity.put_many(
            [
                HeartbeatRecord(workspace=workspace, agent_id=agent_id, at=now, working=True)
                for workspace, agent_id in keys
            ]
        )

    async def _record_many(self, heartbeats: Sequence[HeartbeatRecord]) -> Sequence[None]:
        await self.heartbeats.record_activity(heartbeats)
        return [None] * len(heartbeats)

    async def _record_violations(self, found: Sequence[tuple[Violation, LogRecord]]) -> Sequence[None]:
        await self.policies.record([violation for violation, _ in found], [record for _, record in found])
        return [None] * len(found)

    def record_activity(self, workspace: str, agent_id: str) -> None:
        """Records a heartbeat for a claim or a report, in the background: it delays no answer and may be lost."""
        self.spawn(
            self._record_activity(
                [HeartbeatRecord(workspace=workspace, agent_id=agent_id, at=self.clock.now(), working=True)]
            )
        )

    async def _record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        """No call fails because heartbeats wait behind others for a store that hangs; they are dropped then."""
        with contextlib.suppress(TryLater):
            await self.activity.put_many(heartbeats)

    async def _read_tasks(self, keys: Sequence[tuple[str, str]]) -> Sequence[Task | None]:
        by_workspace: dict[str, list[str]] = {}
        for workspace, task_id in keys:
            by_workspace.setdefault(workspace, []).append(task_id)
        found: dict[tuple[str, str], Task] = {}
        for workspace, ids in by_workspace.items():
            for task_id, task in (await self.tasks.get_many(workspace, ids)).items():
                found[workspace, task_id] = task
        return [found.get(key) for key in keys]

    async def all_breakers(self, workspace: str) -> tuple[Sequence[Breaker], bool]:
        """Breakers of agents and dependencies, and whether they are current.

        If the database is away, the stored breakers are returned as they were last read, with False. The database's own
        breaker is listed once it has failed, like every other breaker.
        """
        current = True
        try:
            self.breakers_read[workspace] = [stored.breaker for stored in await self.breakers.load(workspace)]
        except TryLater:
            current = False
        database = self.database()
        own = [database] if database.last_failure is not None else []
        return [*own, *self.breakers_read.get(workspace, ())], current

    def release(self, answer: Any) -> None:
        """Releases the leases of an answer that reached nobody, so that they do not stay idle until they expire."""
        for request in undelivered(answer):
            self.spawn(self.scheduler.request(request))

    async def close(self) -> None:
        await self.components.close()
        await self.scheduler.close()
        await self.learner.close()
        for task in list(self._background):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._background, return_exceptions=True)


def body_digest(body: Any) -> bytes:
    """SHA-256 of the canonical body. Requests under one idempotency key are the same if their digests are equal."""
    return hashlib.sha256(canonical_json(body).encode()).digest()


def gateway(connection: HTTPConnection) -> Gateway:
    """The gateway of the replica that serves a request or a WebSocket."""
    found: Gateway = connection.app.state.gateway
    return found
