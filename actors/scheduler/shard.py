"""The scheduler shard: the single writer of leases, and a cache over Postgres.

Its core is ``cluster.domain.scheduling.core``. This shell gives it the clock, the log, the store and an exchange with the
API's replicas. If a commit fails or is fenced, the shard drops its state and reads it again from the store under a new
generation. If another shard is published by then, it waits instead (stands by).

A bug is answered to the request that met it. If it came up before memory was changed, or while memory was only read, nothing
else is affected. If it came up in the middle of a change, memory is half-changed, so the shard drops its state then too.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.messages import (
    ClaimAnswer,
    Done,
    ExplainRequest,
    ExtendRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    Lease,
    Recorded,
    ReleaseRequest,
    ReportRequest,
    SchedulerRequest,
    undelivered,
)
from actors.scheduler.causes import with_causes
from actors.scheduler.newest_claims import ClaimAsker, NewestClaims, superseded
from actors.scheduler.request_events import EXTENSION, event_of, prepare
from actors.scheduler.rereads import Count, Rereads, uncounted
from actors.scheduler.settled_memory import settled_memory
from actors.scheduler.unstorable import UnstorableReports, commit_up_to_culprit, malformed
from cluster.domain.base.errors import (
    ActorUnavailable,
    Conflict,
    ControlPlaneError,
    Fenced,
    InternalError,
    InvalidRequest,
    TryLater,
    Unstorable,
    is_bug,
)
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling.core import Missing, SchedulerCore
from cluster.domain.scheduling.explain import TaskView
from cluster.domain.scheduling.progress_buffer import ProgressBuffer
from cluster.domain.scheduling.requests import ClaimRequest, Grant
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.progress import ProgressReport
from cluster.domain.tasks.refusals import LEASE_LOST
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import PULL_CALL_TYPE, LeaseToken, Task, TaskDecision, TaskHead, TaskStatus
from cluster.log.follower import LogFollower
from cluster.ports.access import WorkspaceStates
from cluster.ports.agents import AgentStore
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter, Region
from cluster.ports.operations import ControlStore
from cluster.ports.tasks import ShardFence, TaskStore, missing_task
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.process.traces import traced
from cluster.rpc.exchange import ExchangeCall, ExchangeReply, ExchangeServer

_logger = logging.getLogger(__name__)

TOPICS = (WakeTopic.TASKS, WakeTopic.AGENTS, WakeTopic.CONTROLS, WakeTopic.ACCESS)
REBUILD_RETRY_S = 0.5
STAND_BY_S = 1.0
LOOK_UP_RETRY_S = 0.5
#: A caller that has had no call parked here for so long has expired, and its claims are withdrawn. A killed caller has none from
#: that moment on, and must not be granted leases that it cannot take. One that was only slow asks again.
CALLER_SILENT_S = 2.0
HOUSEKEEPING_S = 1.0
#: A shard that has not looked at the clock for longer stood still: it was stopped, or paused with its container or machine.
STANDSTILL_S = 5.0
_SHARD_AWAY = "The scheduler is reading its state again; try again in a moment."
_SYSTEM = "system:api"
_BUG = "The scheduler failed on this request; its log says why."

Asked = tuple[str, int, SchedulerRequest]
"""(caller, correlation number, request)"""


@dataclass(frozen=True, slots=True)
class _Write:
    """Decisions to commit in order, reports of progress to store before them, and what may be answered once all of it is
    durable."""

    decisions: Sequence[TaskDecision]
    answers: Sequence[tuple[str, int, Any]]
    progress: Sequence[ProgressReport] = ()


@dataclass(slots=True)
class _State:
    """Everything that belongs to one generation, and is dropped when a commit fails.

    ``_build`` makes it. Loops, commits and look-ups keep a reference to the one that they began with, so that what they bring
    back late never reaches another.
    """

    # The generation under which all decisions of this state are written; the store refuses them once there is a newer one.
    fence: ShardFence
    # Tasks, leases and waiting claims, ahead of the store by the commits in flight.
    core: SchedulerCore
    # Ticket of a claim that waits in the core → its asker (caller, correlation number). ``_claim`` adds; ``_output``, when the
    # claim is answered, ``_withdraw`` and ``forget`` remove.
    tickets: dict[int, tuple[str, int]] = field(default_factory=dict)
    # The same pairs the other way round, to find a claim that is withdrawn or was sent twice.
    by_caller: dict[tuple[str, int], int] = field(default_factory=dict)
    # Task id → the report that was decided last and is not known to be durable. ``_change`` adds, ``_commit`` removes. If the
    # store refuses a decision, this says whose report it was.
    reports: dict[str, ReportRequest] = field(default_factory=dict)
    # What holders have reported of their progress and is not on its way to the store, with (caller, correlation number, answer)
    # of each report. ``_extend`` adds, ``_output`` takes.
    progress: ProgressBuffer[tuple[str, int, Any]] = field(default_factory=ProgressBuffer)
    # Set once, by ``forget``: whoever has waited must look at it before it uses the state again.
    failed: bool = False
    # Reads the log on from the row up to which this state was read, and gives the rows to ``_apply``.
    follower: LogFollower = field(init=False)
    # Writes that wait for the next commit, in the order of their decisions.
    commit_queue: GroupCommit[_Write, None] = field(init=False)

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


async def _always() -> bool:
    return True


class SchedulerShard:
    """The shell around the core. ``is_published`` says whether this shard may serve: it is the published one, or none is."""

    def __init__(
        self,
        *,
        shard: str,
        owner: str,
        tasks: TaskStore,
        log: Log,
        region: Region,
        doorbell: Doorbell,
        clock: Clock,
        lease_ttl_s: float,
        is_published: Callable[[], Awaitable[bool]] = _always,
        on_fatal: OnFatal = unwatched,
        policy: RetryPolicy | None = None,
        controls: ControlStore,
        workspaces: WorkspaceStates,
        agents: AgentStore,
        idempotency_window_s: float = 86_400.0,
        cleanup_s: float = 60.0,
        count_reread: Count = uncounted,
    ) -> None:
        # Which shard this is, and the actor's name, which the store notes beside the generation that it takes.
        self._shard = shard
        self._owner = owner
        # The stores, the doorbell and the clock.
        self._tasks = tasks
        self._log = log
        self._region = region
        self._doorbell = doorbell
        self._clock = clock
        self._controls = controls
        self._workspaces = workspaces
        self._agents = agents
        # Settings: how long leases last, how long idempotency keys are kept and how often expired ones are dropped, and how
        # failed attempts are retried.
        self._lease_ttl_s = lease_ttl_s
        self._idempotency_window_s = idempotency_window_s
        self._cleanup_s = cleanup_s
        self._policy = policy or RetryPolicy()
        # Asked before a failed state is built again: a shard that another has replaced must not take the generation back.
        self._is_published = is_published
        # The requests of all callers and the answers on their way to them. It outlives the states.
        self._exchange = ExchangeServer(self._handle, self._withdraw, clock, self._undeliverable)
        # The next ticket of a waiting claim. One count for all states, so that no ticket means two claims.
        self._numbers = itertools.count(1)
        # The present generation's state. None before the first one and while a new one is loaded; until then one that has failed
        # stays here. ``_serving`` returns it only if it has not failed.
        self._state: _State | None = None
        # Reports that the store has refused. They outlive the state, since each of them ends one.
        self._unstorable = UnstorableReports()
        # Askers of claims that wait until the newest rows of the log are read, since memory contradicts them. ``_handle`` adds;
        # ``_look_up`` and ``_withdraw`` remove, and whichever is first answers the claim.
        self._behind: set[tuple[str, int]] = set()
        # The newest unanswered claim under each id that a client chose, whatever it waits for. ``_decide`` notes it, ``_tell``
        # removes it.
        self._claims = NewestClaims()
        # When the state was read again: operators are told if it is often.
        self._rereads, self._count_reread = Rereads(), count_reread
        # True while ``_rebuild`` runs, so that several failures start it once.
        self._rebuilding = False
        # Loops that run as long as the actor, and tasks that end by themselves (commits, look-ups). An error that nobody expected
        # in either ends the process.
        self._loops, self._work = Loops(on_fatal), Loops(on_fatal)
        # When the clock was last looked at, at least each ``HOUSEKEEPING_S``.
        self._looked_at = clock.now()
        # When ``_run_timers`` wakes up by itself, and what wakes it before: ``_send`` sets it as soon as the core has a timer
        # that is due earlier. It does not ask whether anything was decided, as a delayed task or a rate brings a timer
        # without a decision.
        self._wakes_at = -math.inf
        self._timer_moved = asyncio.Event()

    async def start(self) -> None:
        """Takes the shard under a new generation, reads its state and begins to serve."""
        await self._build()
        self._loops.start(self._follow(), self._run_timers(), self._housekeeping(), self._forget_keys())

    async def stop(self) -> None:
        """Ends the loops, and then the commits and look-ups that are under way."""
        await self._loops.stop()
        await self._work.stop()

    async def exchange(self, call: ExchangeCall) -> ExchangeReply:
        """One call of a process's exchange: takes its requests and returns the answers that are ready."""
        return await self._exchange.call(call)

    async def status(self) -> dict[str, Any]:
        """Figures for operators. Raises: `ActorUnavailable` if the shard is reading its state."""
        state = self._serving()
        return {
            "shard": self._shard,
            "generation": state.fence.generation,
            "open_tasks": state.core.open_tasks,
            "waiting_claims": state.core.waiting_claims,
            "cursor": state.follower.cursor,
            **self._rereads.status(self._clock.now()),
        }

    # --- building and losing state -------------------------------------------------------------------------------

    async def _build(self) -> None:
        """Reads a new state from the store. It takes a new generation first, so that no older one can still change what is
        read."""
        await self._region.epoch()
        fence = await self._tasks.take_generation(self._shard, self._owner)
        cursor, batches = await self._tasks.open_tasks(self._shard)
        core = SchedulerCore(lease_ttl_s=self._lease_ttl_s, policy=self._policy)
        core.load_controls(await self._controls.load(), self._clock.now())
        core.load_states(await self._workspaces.closed())
        self._state = None  # frees the state that is replaced before the new one is loaded
        with settled_memory():
            async for batch in batches:
                core.load(batch, self._clock.now())
        core.load_agents(await self._agents.unschedulable())
        core.loaded(fence.generation)
        core.end_deleted(self._clock.now())
        state = _State(fence, core)
        # Each state has its own follower and commit queue: rows that an older follower still brings are in this state already,
        # and what an older state decided and could not commit must never reach the store.
        apply = functools.partial(self._apply, state)
        only = LogFilter(kinds=core.FOLLOWS)
        state.follower = LogFollower(self._log, self._doorbell, self._clock, after=cursor, apply=apply, only=only)
        state.commit_queue = GroupCommit(functools.partial(self._flush, state), max_batch=256, max_waiting=100_000)
        self._state = state
        self._send([])
        self._timer_moved.set()
        _logger.info("shard %s serves %d tasks, generation %d", self._shard, core.open_tasks, fence.generation)

    def _serving(self) -> _State:
        if self._state is None or self._state.failed:
            raise ActorUnavailable(_SHARD_AWAY)
        return self._state

    def _fail(self, state: _State, pause_s: float = 0.0) -> None:
        """Drops a state that is ahead of the store: tells all who wait to ask again, and starts to read a new state."""
        if state.failed:
            return
        askers = [*state.tickets.values(), *(asker[:2] for asker in state.progress.askers())]
        state.forget()
        for caller, number in askers:
            self._tell(caller, number, ActorUnavailable(_SHARD_AWAY))
        if not self._rebuilding:
            self._rebuilding = True
            self._loops.start(self._rebuild(pause_s))

    def _broke(self, state: _State, error: Exception) -> None:
        """Drops a state that a bug has left half-changed. The pause bounds the cost of a bug that comes up again at once."""
        _logger.error("shard %s forgets its state, which a bug has left half-changed", self._shard, exc_info=error)
        self._fail(state, REBUILD_RETRY_S)

    async def _rebuild(self, pause_s: float) -> None:
        """Builds a new state under a new generation. While another shard is published, that one owns the tasks and this one
        waits."""
        await self._clock.sleep(pause_s)
        while True:
            try:
                if await self._is_published():
                    await self._build()
                    self._rereads.add(self._clock.now())
                    self._work.start(self._count_reread())
                    if self._state is not None and not self._state.failed:
                        break
                    await self._clock.sleep(REBUILD_RETRY_S)
                    continue
                _logger.info("shard %s is served by another, standing by", self._shard)
                await self._clock.sleep(STAND_BY_S)
            except TryLater as error:
                _logger.warning("shard %s cannot read its state yet: %s", self._shard, error)
                await self._clock.sleep(REBUILD_RETRY_S)
        self._rebuilding = False

    # --- loops ---------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Runs the follower of the present state, whichever that is."""
        while True:
            state = self._state
            if state is None or state.failed:
                await self._clock.sleep(REBUILD_RETRY_S)
                continue
            try:
                full = await state.follower.catch_up()
            except TryLater as error:
                _logger.warning("the log cannot be read, will try again: %s", error)
                await self._clock.sleep(REBUILD_RETRY_S)
                continue
            if not full:
                await self._doorbell.wait(1.0, TOPICS)

    async def _apply(self, state: _State, rows: Sequence[LogRow]) -> None:
        """Applies rows of the log to a state, unless it has failed while the store was asked."""
        changed = {(row.workspace, row.entity) for row in rows if row.kind.startswith("agent.")}
        unschedulable = await self._agents.unschedulable(changed) if changed else frozenset[tuple[str, str]]()
        if not state.failed:
            try:
                state.core.apply(rows, self._clock.now(), unschedulable=unschedulable)
            except Exception as error:
                self._broke(state, error)
            self._send([])

    async def _run_timers(self) -> None:
        """Applies the core's timers when they are due."""
        while True:
            state = self._state
            due = None if state is None or state.failed else state.next_timer()
            now = self._clock.now()
            if state is not None and due is not None and due <= now:
                self._look_for_standstill(now)
                try:
                    state.core.tick(now)
                except Exception as error:
                    self._broke(state, error)
                self._send([])
                continue
            self._timer_moved.clear()
            self._wakes_at = now + HOUSEKEEPING_S if due is None else due
            sleeper = asyncio.ensure_future(self._sleep_until(self._wakes_at))
            moved = asyncio.ensure_future(self._timer_moved.wait())
            try:
                await asyncio.wait({sleeper, moved}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeper.cancel()
                moved.cancel()

    def _look_for_standstill(self, now: float) -> None:
        """Before timers are applied after a standstill, leases get their time again. Else all of them would end although their
        holders' heartbeats wait to be read, and work that is nearly done would run twice."""
        still_s, self._looked_at = now - self._looked_at, now
        if still_s > STANDSTILL_S and self._state is not None and not self._state.failed:
            _logger.warning("shard %s stood still for %.0f s; leases get their full time again", self._shard, still_s)
            self._state.core.restart_leases(now)

    async def _sleep_until(self, at: float) -> None:
        await self._clock.sleep(at - self._clock.now())

    async def _housekeeping(self) -> None:
        """Withdraws the claims of callers that have expired."""
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            self._look_for_standstill(self._clock.now())
            for caller in self._exchange.expired(CALLER_SILENT_S):
                state = self._state
                claims = [*self._behind, *(state.by_caller if state else ())]
                for _, number in [asker for asker in claims if asker[0] == caller]:
                    self._withdraw(caller, number)

    async def _forget_keys(self) -> None:
        """Drops idempotency keys whose window is over."""
        while True:
            await self._clock.sleep(self._cleanup_s)
            try:
                await self._tasks.forget_keys(self._clock.now() - self._idempotency_window_s)
            except TryLater as error:
                _logger.warning("expired keys cannot be dropped, will try again: %s", error)

    # --- requests ------------------------------------------------------------------------------------------------

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        missing = self._decide([(caller, number, self._read(request)) for number, request in requests])
        if missing:
            self._behind.update(asked[:2] for asked in missing if isinstance(asked[2], ClaimRequest))
            self._work.start(self._look_up(missing))

    def _read(self, request: SchedulerRequest) -> SchedulerRequest:
        """The request, or what is decided in the place of a report that the store has refused."""
        return self._unstorable.read(request) if isinstance(request, ReportRequest) else request

    def _decide(self, batch: Sequence[Asked], *, caught_up: bool = False) -> list[Asked]:
        """Answers requests about open tasks and returns the rest. Each request is decided by itself: the error of one does not
        affect the others.

        It awaits nothing between a change of memory and its way to the store. An answer would else outlive the state that it
        was decided in."""
        answers: list[tuple[str, int, Any]] = []
        missing: list[Asked] = []
        for caller, number, request in batch:
            try:
                if isinstance(request, ClaimRequest):
                    self._replace_older((caller, number), request)
                answer = self._answer(caller, number, request, caught_up)
            except Missing:
                missing.append((caller, number, request))
                continue
            except Exception as error:
                answer = self._refusal(request, error)
            if answer is not None:
                answers.append((caller, number, answer))
        self._send(answers)
        return missing

    def _replace_older(self, newest: ClaimAsker, request: ClaimRequest) -> None:
        """Tells the asker of an older claim under the same id at once that this one replaces it, wherever that one is on its way.
        Leases in an answer that is being committed for it go over to this one, which gets them again.

        Raises: `Conflict` (``superseded``) if this claim is itself the older one."""
        asker = self._claims.arrives(newest, request)
        if asker is None:
            return
        state = self._state
        ticket = state.by_caller.pop(asker, None) if state is not None else None
        if asker in self._behind:
            self._behind.discard(asker)
        elif state is not None and ticket is not None:
            state.core.withdraw(ticket)
            del state.tickets[ticket]
        else:
            self._claims.overtake(asker)
        self._exchange.answer(*asker, superseded(request))

    def _tell(self, caller: str, number: int, answer: Any) -> None:
        """Gives an answer, unless a newer claim has replaced the asker's: then leases in it have reached nobody."""
        if self._claims.answered((caller, number)):
            self._undeliverable(answer)
        else:
            self._exchange.answer(caller, number, answer)

    def _refusal(self, request: Any, error: Exception) -> ControlPlaneError:
        """The error that the asker gets. A bug is logged, and answered without its text."""
        if isinstance(error, ControlPlaneError) and not is_bug(error):
            return error
        with traced(getattr(request, "cause", "")):
            _logger.error("shard %s failed on a %s", self._shard, type(request).__name__, exc_info=error)
        return InternalError(_BUG)

    def _answer(self, caller: str, number: int, request: SchedulerRequest, caught_up: bool) -> Any:
        """The answer to a request, or None for a claim that waits now. ``caught_up``: the newest rows have been read for it."""
        state, now = self._serving(), self._clock.now()
        if isinstance(request, ClaimRequest) and not caught_up:
            self._check_known(state, request)
        if isinstance(request, ExplainRequest):
            return state.core.view(request.task_id, request.workspace, now)
        prepared = prepare(state.core, request, now)
        try:
            return self._change(state, (caller, number), request, prepared, now)
        except Exception as error:
            if is_bug(error):
                self._broke(state, error)
            raise

    def _check_known(self, state: _State, claim: ClaimRequest) -> None:
        """Raises `Missing` if memory contradicts the claim about its agent, or lacks tasks that the claim might get. A
        registration, a resume and a submit count from the moment that they are answered, also here, where their rows may not have
        been read yet."""
        if state.core.doubts((claim.workspace, claim.agent_id), claim.unschedulable):
            raise Missing(f"The newest rows about agent {claim.agent_id} have not been read.", "agent_changed")
        # With tasks enough for it in memory, reading on first would only delay the claim. Tasks of others do not count: with a
        # backlog of theirs, an agent that submits three tasks and claims three got one.
        if state.follower.cursor < claim.after_seq and not state.core.can_satisfy(claim):
            raise Missing("The newest submits have not been read.", "submits_unread")

    def _change(self, state: _State, asker: tuple[str, int], request: Any, prepared: Any, now: float) -> Any:
        """Changes memory and returns the answer. ``prepared`` is what ``_prepared`` found out."""
        core = state.core
        if isinstance(request, ClaimRequest):
            return self._claim(state, asker, request, now)
        if isinstance(request, HeartbeatRequest):
            return HeartbeatAnswer(cancelling=tuple(core.heartbeat(request.agents, now, request.processes)))
        if isinstance(request, ExtendRequest):
            return self._extend(state, asker, request, now)
        if isinstance(request, ReleaseRequest):
            _release(state, request, now)
            return HeartbeatAnswer()
        head, transition = prepared
        if isinstance(request, ReportRequest):
            state.reports[head.id] = request
        return _reported(request, core.carry_out(head, transition, now))

    def _claim(self, state: _State, asker: tuple[str, int], request: ClaimRequest, now: float) -> Any:
        if asker in state.by_caller:
            # It arrived twice, because its call was lost after it had arrived: it waits already, and gets one answer.
            return None
        ticket = next(self._numbers) if request.wait else None
        grants = state.core.claim(request, ticket, now)
        if grants is not None:
            return _claim_answer(grants, state.core.stopping(request.agent, now), state.fence)
        assert ticket is not None
        state.tickets[ticket] = asker
        state.by_caller[asker] = ticket
        return None

    def _extend(self, state: _State, asker: tuple[str, int], request: ExtendRequest, now: float) -> Done | None:
        """The answer to an extension; None if it has to wait until what it reports is durable."""
        core = state.core
        expires_at = core.extend(request.task_id, request.workspace, request.attempt, request.agent_id, now)
        if expires_at is None:
            raise Conflict(
                f"You do not hold the lease on task {request.task_id}; drop this attempt and claim again.", "lease_lost"
            )
        done = Done(head=core.head(request.task_id), lease_expires_at=expires_at)
        if request.progress is None:
            return done
        report = ProgressReport(
            workspace=request.workspace,
            task_id=request.task_id,
            attempt=request.attempt,
            at=now,
            progress=request.progress,
        )
        state.progress.add(report, (*asker, done))
        return None

    def _withdraw(self, caller: str, number: int) -> None:
        """Answers a withdrawn claim, with no leases. If it is being answered already, that answer stands, and the asker releases
        the leases in it."""
        state = self._state
        if (caller, number) in self._behind:
            self._behind.discard((caller, number))
            self._tell(caller, number, ClaimAnswer())
            return
        ticket = state.by_caller.pop((caller, number), None) if state is not None else None
        if state is not None and ticket is not None and state.core.withdraw(ticket):
            del state.tickets[ticket]
            self._tell(caller, number, ClaimAnswer())

    def _undeliverable(self, answer: Any) -> None:
        """Releases the leases of an answer whose caller has expired before it took the answer."""
        requests = list(undelivered(answer))
        state = self._state
        if state is None or state.failed or not requests:
            return
        try:
            for request in requests:
                _release(state, request, self._clock.now())
        except Exception as error:
            self._broke(state, error)
        self._send([])

    async def _look_up(self, missing: Sequence[Asked]) -> None:
        """Answers requests that memory could not. It reads the newest rows of the log, since the task may be that new, and
        decides again; what is still not open is answered from the store."""
        try:
            await self._serving().follower.catch_up_to(await self._log.head())
        except Exception as error:
            refused = self._refusal(missing[0][2], error)
            for caller, number, _ in missing:
                self._tell(caller, number, refused)
            return
        finally:
            behind = self._behind & {asked[:2] for asked in missing}
            self._behind -= behind
        # A claim that was withdrawn meanwhile has its answer.
        unanswered = [asked for asked in missing if asked[:2] in behind or not isinstance(asked[2], ClaimRequest)]
        for caller, number, request in self._decide(unanswered, caught_up=True):
            self._tell(caller, number, await self._ended(request))

    async def _ended(self, request: Any) -> Any:
        """The machine's answer about a task that has ended: a repeated report is answered as before, any other is refused. It
        rests on the store alone, so it can be given at once."""
        try:
            task = await self._tasks.get(request.workspace, request.task_id)
            if task is None:
                raise await missing_task(self._tasks, request.workspace, request.task_id)
            return self._end_of(request, task)
        except Exception as error:
            return self._refusal(request, error)

    def _end_of(self, request: Any, task: Task) -> Any:
        if not task.status.terminal:
            raise ActorUnavailable(_SHARD_AWAY)
        head = task.head()
        if isinstance(request, ExplainRequest):
            return TaskView(head=head, replayed_as=task.replayed_as, purged=task.purged_at is not None)
        if isinstance(request, ExtendRequest):
            raise LEASE_LOST.error(head, EXTENSION)
        return _reported(request, step(head, event_of(request), self._clock.now(), self._policy).head)

    async def _look_up_ends(self, state: _State, unresolved: Mapping[str, Sequence[str]]) -> None:
        """Asks the store how tasks ended that others wait for and that were not open here when those came. A task that is open in
        the store has just been submitted: its row will be read soon, and its end will be seen here."""
        while not state.failed:
            try:
                # Waits for all that memory has decided: a task that ends here at this moment must have ended in the store.
                await state.commit_queue.put(_Write((), ()))
                ends = [end for item in unresolved.items() for end in await self._ends(*item)]
                break
            except TryLater as error:
                _logger.warning("ended tasks cannot be read, will try again: %s", error)
                await self._clock.sleep(LOOK_UP_RETRY_S)
        else:
            return
        try:
            state.core.ended_before(ends, self._clock.now())
        except Exception as error:
            self._broke(state, error)
        self._send([])

    async def _ends(self, workspace: str, task_ids: Sequence[str]) -> list[tuple[str, TaskStatus]]:
        """(task id, status) of those of the tasks that have ended. One that is not in the store counts as cancelled."""
        found = await self._tasks.statuses(workspace, task_ids)
        expired = [(task_id, TaskStatus.CANCELLED) for task_id in task_ids if task_id not in found]
        return expired + [(task_id, status) for task_id, status in found.items() if status.terminal]

    # --- commits -------------------------------------------------------------------------------------------------

    def _send(self, answers: Sequence[tuple[str, int, Any]]) -> None:
        """Takes what the core has decided on its way to the store. The answers are given when all decisions up to now are
        durable, also an answer without a decision: it may rest on what others have changed."""
        state = self._state
        try:
            written = None if state is None or state.failed else self._output(state, answers)
        except Exception as error:
            assert state is not None
            self._broke(state, error)
            written = None
        if state is None or written is None:
            for caller, number, answer in answers:
                self._tell(caller, number, _undone(answer))
            return
        write, unresolved = written
        if unresolved:
            self._work.start(self._look_up_ends(state, unresolved))
        if write.decisions or write.answers or write.progress:
            self._work.start(self._write(state, write))
        due = state.next_timer()
        if due is not None and due < self._wakes_at:
            self._timer_moved.set()

    def _output(
        self, state: _State, answers: Sequence[tuple[str, int, Any]]
    ) -> tuple[_Write, Mapping[str, Sequence[str]]]:
        """What has to be written, with the answers that depend on it; and tasks whose ends must be looked up, by workspace."""
        decisions, answered = state.core.take_output(self._clock.now())
        told = list(answers)
        for claim in answered:
            asker = state.tickets.pop(claim.ticket, None)
            if asker is not None:
                state.by_caller.pop(asker, None)
                told.append((*asker, _claim_answer(claim.grants, claim.stopping, state.fence)))
        return _Write(
            decisions, told, _due_progress(state, decisions, told, self._clock.now())
        ), state.core.take_unresolved()

    async def _write(self, state: _State, write: _Write) -> None:
        """Waits for the commit and gives the answers. If the commit fails, the state is dropped and all are told to ask again."""
        error: ControlPlaneError | None = None
        try:
            await state.commit_queue.put(write)
        except Fenced as fenced:
            error = ActorUnavailable(_SHARD_AWAY)
            _logger.info("shard %s was taken over: %s", self._shard, fenced)
        except TryLater as failed:
            error = failed
        except Exception as failed:
            _logger.error("a commit of shard %s failed", self._shard, exc_info=failed)
            error = ActorUnavailable(_SHARD_AWAY)
        if error is not None:
            self._fail(state)
        for caller, number, answer in write.answers:
            self._tell(caller, number, answer if error is None else error)

    async def _flush(self, state: _State, writes: Sequence[_Write]) -> Sequence[None]:
        """One commit of the group: all decisions of all writes, in order. Progress is stored before: the last of an attempt
        comes before its end."""
        if state.failed:
            raise ActorUnavailable(_SHARD_AWAY)
        progress = [report for write in writes for report in write.progress]
        if progress:
            await self._tasks.store_progress(state.fence, progress)
        decisions = [decision for write in writes for decision in write.decisions]
        if decisions:
            try:
                await self._commit(state, decisions)
            except Unstorable as error:
                await self._refuse_culprit(state, decisions, error)
        return [None] * len(writes)

    async def _commit(self, state: _State, decisions: Sequence[TaskDecision]) -> None:
        """Raises: ``ActorUnavailable`` if memory is not as the store, `Unstorable`, ``TryLater``."""
        decisions = await with_causes(decisions, self._tasks)
        outcomes = await self._tasks.decide(state.fence, decisions)
        for decision, outcome in zip(decisions, outcomes, strict=True):
            if not outcome.applied:
                raise ActorUnavailable(f"Task {decision.head.id} is not in the store as it is in memory.")
            state.reports.pop(decision.head.id, None)
        if any(map(_ends_pull_call, decisions)):
            self._work.start(self._doorbell.notify(WakeTopic.PULL_CALLS))

    async def _refuse_culprit(self, state: _State, decisions: Sequence[TaskDecision], error: Unstorable) -> None:
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
        self._fail(state, 0.0 if report is not None else REBUILD_RETRY_S)
        raise ActorUnavailable(_SHARD_AWAY)


def _due_progress(
    state: _State, decisions: Sequence[TaskDecision], told: list[tuple[str, int, Any]], now: float
) -> Sequence[ProgressReport]:
    """The reports to store now: those that are due, and the last ones of attempts that ``decisions`` end. Adds to ``told`` who
    waits for them. Costs nothing while no running task has reported."""
    if not state.progress:
        return ()
    for decision in decisions:
        if decision.expect_status is TaskStatus.RUNNING and decision.head.status is not TaskStatus.RUNNING:
            state.progress.end(decision.head.id)
    reports, askers = state.progress.take(now)
    told += askers
    return reports


def _ends_pull_call(decision: TaskDecision) -> bool:
    return decision.head.status.terminal and decision.head.task_type == PULL_CALL_TYPE


def _undone(answer: Any) -> ControlPlaneError:
    """The answer to a request whose decision was dropped: ask again, or the bug if it was this request that met it."""
    return answer if isinstance(answer, InternalError) else ActorUnavailable(_SHARD_AWAY)


def _reported(request: Any, head: TaskHead) -> Done | Recorded | InvalidRequest:
    if isinstance(request, ReportRequest) and request.unstorable:
        return malformed(request.task_id)
    return Recorded() if isinstance(request, ReportRequest) and request.brief else Done(head=head)


def _claim_answer(grants: Sequence[Grant], stopping: tuple[str, ...], fence: ShardFence) -> ClaimAnswer:
    return ClaimAnswer(leases=tuple(_lease(grant, fence.generation) for grant in grants), cancelling=stopping)


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


def _release(state: _State, request: ReleaseRequest, now: float) -> None:
    """Releases a lease that this generation answered to nobody. One that a predecessor answered is kept: it alone knew whether
    another answer carried the lease, and an agent may be working on it. If none is, the lease is answered again or expires."""
    generation, delivery = request.delivery
    if generation == state.fence.generation:
        state.core.undelivered(
            request.task_id, request.workspace, request.attempt, request.agent_id, delivery, _SYSTEM, now
        )
