"""The scheduler shard: the single writer of leases, and a cache over Postgres.

Its core is ``cluster.domain.scheduling.core``; this shell gives it the clock, the log, the store and a standing exchange with
the API's replicas. A commit that fails or is fenced makes it forget everything and start again from the store under a
new generation; where another is published in its place, it stands by instead.

A bug is answered to the one request that met it. Met before memory is touched, or while it is only read, it concerns
nobody else; out of the middle of a change it leaves memory that is right for nobody, which is forgotten too.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from actors.messages import (
    CancelRequest,
    ClaimAnswer,
    Done,
    ExplainRequest,
    ExtendRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    Lease,
    PrioritizeRequest,
    Recorded,
    ReleaseRequest,
    ReportRequest,
    SchedulerRequest,
    undelivered,
)
from cluster.domain.base.errors import (
    ActorUnavailable,
    Conflict,
    ControlPlaneError,
    Fenced,
    InternalError,
    NotFound,
    TryLater,
    is_bug,
)
from cluster.domain.base.json_values import check_json, check_text, read_json
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling.core import Missing, SchedulerCore
from cluster.domain.scheduling.explain import TaskView
from cluster.domain.scheduling.requests import ClaimRequest, Grant
from cluster.domain.tasks.events import (
    CancelAcknowledged,
    CancelRequested,
    Complete,
    Event,
    Fail,
    Prioritized,
    Reporter,
)
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.refusals import LEASE_LOST
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import PULL_CALL_TYPE, LeaseToken, Priority, Task, TaskDecision, TaskHead, TaskStatus
from cluster.log.follower import LogFollower
from cluster.ports.agents import AgentStore
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter, Region
from cluster.ports.operations import ControlStore
from cluster.ports.tasks import ShardFence, TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.rpc.exchange import ExchangeCall, ExchangeReply, ExchangeServer

_logger = logging.getLogger(__name__)

TOPICS = (WakeTopic.TASKS, WakeTopic.AGENTS, WakeTopic.CONTROLS)
REBUILD_RETRY_S = 0.5
STAND_BY_S = 1.0
LOOK_UP_RETRY_S = 0.5
#: Without a call parked here. A caller that is killed has none from that moment on, and must not be granted what it
#: cannot take; one that was only slow asks again.
CALLER_SILENT_S = 2.0
HOUSEKEEPING_S = 1.0
_SHARD_AWAY = "The scheduler is reading its state again; try again in a moment."
_SYSTEM = "system:api"
_BUG = "The scheduler failed on this request; its log says why."

Asked = tuple[str, int, SchedulerRequest]
"""(caller, correlation number, request)"""


@dataclass(frozen=True, slots=True)
class _Write:
    """Decisions to commit in order, and what may be answered once they are durable."""

    decisions: Sequence[TaskDecision]
    answers: Sequence[tuple[str, int, Any]]


@dataclass(slots=True)
class _State:
    """Everything that is thrown away when a commit fails."""

    fence: ShardFence
    core: SchedulerCore
    tickets: dict[int, tuple[str, int]] = field(default_factory=dict)
    by_caller: dict[tuple[str, int], int] = field(default_factory=dict)
    failed: bool = False
    follower: LogFollower = field(init=False)
    commit_queue: GroupCommit[_Write, None] = field(init=False)

    def forget(self) -> None:
        """Frees the memory at once: loops and calls that still have this state in a variable find nothing in it."""
        self.failed = True
        self.core = SchedulerCore(lease_ttl_s=1.0)
        self.tickets, self.by_caller = {}, {}


async def _always() -> bool:
    return True


class SchedulerShard:
    """``is_published`` says whether this is the shard that is published, or nobody is."""

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
        agents: AgentStore,
        idempotency_window_s: float = 86_400.0,
        cleanup_s: float = 60.0,
    ) -> None:
        self._shard = shard
        self._owner = owner
        self._tasks = tasks
        self._log = log
        self._region = region
        self._doorbell = doorbell
        self._clock = clock
        self._lease_ttl_s = lease_ttl_s
        self._controls = controls
        self._agents = agents
        self._idempotency_window_s = idempotency_window_s
        self._cleanup_s = cleanup_s
        self._is_published = is_published
        self._policy = policy or RetryPolicy()
        self._exchange = ExchangeServer(self._handle, self._withdraw, clock, self._undeliverable)
        self._numbers = itertools.count(1)
        self._state: _State | None = None
        #: Claims for which rows are being read, until these are there or the claims are withdrawn.
        self._behind: set[tuple[str, int]] = set()
        self._rebuilding = False
        self._loops, self._work = Loops(on_fatal), Loops(on_fatal)
        self._timer_moved = asyncio.Event()

    async def start(self) -> None:
        await self._build()
        self._loops.start(self._follow(), self._run_timers(), self._housekeeping(), self._forget_keys())

    async def stop(self) -> None:
        await self._loops.stop()
        await self._work.stop()

    async def exchange(self, call: ExchangeCall) -> ExchangeReply:
        return await self._exchange.call(call)

    async def status(self) -> dict[str, Any]:
        state = self._serving()
        return {
            "shard": self._shard,
            "generation": state.fence.generation,
            "open_tasks": state.core.open_tasks,
            "waiting_claims": state.core.waiting_claims,
            "cursor": state.follower.cursor,
        }

    # --- building and losing state -------------------------------------------------------------------------------

    async def _build(self) -> None:
        """A new generation first: from then on no older one can change what is read here."""
        await self._region.epoch()
        fence = await self._tasks.take_generation(self._shard, self._owner)
        cursor, batches = await self._tasks.open_tasks(self._shard)
        core = SchedulerCore(lease_ttl_s=self._lease_ttl_s, policy=self._policy)
        core.load_controls(await self._controls.load(), self._clock.now())
        self._state = None  # nothing keeps the state that is replaced
        with _settled_memory():
            async for batch in batches:
                core.load(batch, self._clock.now())
        core.load_agents(await self._agents.unschedulable())
        core.loaded(fence.generation)
        state = _State(fence, core)
        # A follower and a commit queue per state: rows that an older one was reading are known here, and what it decided and
        # could not commit must never reach the store.
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
        """Memory is ahead of the store: drop it, tell everybody who waits to ask again, read the store."""
        if state.failed:
            return
        askers = list(state.tickets.values())
        state.forget()
        for caller, number in askers:
            self._exchange.answer(caller, number, ActorUnavailable(_SHARD_AWAY))
        if not self._rebuilding:
            self._rebuilding = True
            self._loops.start(self._rebuild(pause_s))

    def _broke(self, state: _State, error: Exception) -> None:
        """A change of memory was not carried through. The pause bounds what a bug costs that is met again at once."""
        _logger.error("shard %s forgets its state, which a bug has left half-changed", self._shard, exc_info=error)
        self._fail(state, REBUILD_RETRY_S)

    async def _rebuild(self, pause_s: float) -> None:
        """Takes the shard back by a new generation, unless another is published in its place: that one owns it."""
        await self._clock.sleep(pause_s)
        while True:
            try:
                if await self._is_published():
                    await self._build()
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
        """Runs the present state's follower; a new state brings its own."""
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
        changed = {(row.workspace, row.entity) for row in rows if row.kind.startswith("agent.")}
        unschedulable = await self._agents.unschedulable(changed) if changed else frozenset[tuple[str, str]]()
        if not state.failed:
            try:
                state.core.apply(rows, self._clock.now(), unschedulable=unschedulable)
            except Exception as error:
                self._broke(state, error)
            self._send([])

    async def _run_timers(self) -> None:
        while True:
            state = self._state
            due = None if state is None or state.failed else state.core.next_timer()
            now = self._clock.now()
            if state is not None and due is not None and due <= now:
                try:
                    state.core.tick(now)
                except Exception as error:
                    self._broke(state, error)
                self._send([])
                continue
            self._timer_moved.clear()
            sleeper = asyncio.ensure_future(self._sleep_until(now + HOUSEKEEPING_S if due is None else due))
            moved = asyncio.ensure_future(self._timer_moved.wait())
            try:
                await asyncio.wait({sleeper, moved}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeper.cancel()
                moved.cancel()

    async def _sleep_until(self, at: float) -> None:
        await self._clock.sleep(at - self._clock.now())

    async def _housekeeping(self) -> None:
        """Claims of replicas that have died are withdrawn."""
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            for caller in self._exchange.expired(CALLER_SILENT_S):
                state = self._state
                claims = [*self._behind, *(state.by_caller if state else ())]
                for one, number in [key for key in claims if key[0] == caller]:
                    self._withdraw(one, number)

    async def _forget_keys(self) -> None:
        """Idempotency keys whose window is over."""
        while True:
            await self._clock.sleep(self._cleanup_s)
            try:
                await self._tasks.forget_keys(self._clock.now() - self._idempotency_window_s)
            except TryLater as error:
                _logger.warning("expired keys cannot be dropped, will try again: %s", error)

    # --- requests ------------------------------------------------------------------------------------------------

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        missing = self._decide([(caller, number, request) for number, request in requests])
        if missing:
            self._behind.update(asked[:2] for asked in missing if isinstance(asked[2], ClaimRequest))
            self._work.start(self._look_up(missing))

    def _decide(self, batch: Sequence[Asked], *, caught_up: bool = False) -> list[Asked]:
        """Answers what is open here, each request for itself; what is not is returned. Nothing is awaited between a
        change of memory and its way to the store: an answer must not outlive the state that it was decided in."""
        answers: list[tuple[str, int, Any]] = []
        missing: list[Asked] = []
        for caller, number, request in batch:
            try:
                answer = self._one(caller, number, request, caught_up)
            except Missing:
                missing.append((caller, number, request))
                continue
            except Exception as error:
                answer = self._refusal(request, error)
            if answer is not None:
                answers.append((caller, number, answer))
        self._send(answers)
        return missing

    def _refusal(self, request: Any, error: Exception) -> ControlPlaneError:
        if isinstance(error, ControlPlaneError) and not is_bug(error):
            return error
        _logger.error("shard %s failed on a %s", self._shard, type(request).__name__, exc_info=error)
        return InternalError(_BUG)

    def _one(self, caller: str, number: int, request: SchedulerRequest, caught_up: bool) -> Any:
        """The answer, or None for a claim that waits now."""
        state, now = self._serving(), self._clock.now()
        if isinstance(request, ClaimRequest) and not caught_up:
            self._check_known(state, request)
        if isinstance(request, ExplainRequest):
            return state.core.view(request.task_id, request.workspace, now)
        prepared = _prepared(state.core, request, now)
        try:
            return self._change(state, (caller, number), request, prepared, now)
        except Exception as error:
            if is_bug(error):
                self._broke(state, error)
            raise

    def _check_known(self, state: _State, claim: ClaimRequest) -> None:
        """A registration and a resume count from their answers on, also where their rows have not been read yet."""
        if state.core.doubts((claim.workspace, claim.agent_id), claim.unschedulable):
            raise Missing(f"What became of agent {claim.agent_id} has to be read.", "agent_changed")

    def _change(self, state: _State, asker: tuple[str, int], request: Any, prepared: Any, now: float) -> Any:
        core = state.core
        if isinstance(request, ClaimRequest):
            return self._claim(state, asker, request, now)
        if isinstance(request, HeartbeatRequest):
            return HeartbeatAnswer(cancelling=tuple(core.heartbeat(request.agents, now)))
        if isinstance(request, ExtendRequest):
            return self._extend(core, request, now)
        if isinstance(request, ReleaseRequest):
            _release(state, request, now)
            return HeartbeatAnswer()
        head, transition = prepared
        return _reported(request, core.carry_out(head, transition, now))

    def _claim(self, state: _State, asker: tuple[str, int], request: ClaimRequest, now: float) -> Any:
        if asker in state.by_caller:
            return None  # sent twice, because a call was lost that had arrived: it waits already, and has one answer
        ticket = next(self._numbers) if request.wait else None
        grants = state.core.claim(request, ticket, now)
        if grants is not None:
            return _claim_answer(grants, state.core.stopping(request.agent, now), state.fence)
        assert ticket is not None
        state.tickets[ticket] = asker
        state.by_caller[asker] = ticket
        return None

    def _extend(self, core: SchedulerCore, request: ExtendRequest, now: float) -> Done:
        expires_at = core.extend(request.task_id, request.workspace, request.attempt, request.agent_id, now)
        if expires_at is None:
            raise Conflict(f"The lease on task {request.task_id} is not yours (any more).", "lease_lost")
        return Done(head=core.head(request.task_id), lease_expires_at=expires_at)

    def _withdraw(self, caller: str, number: int) -> None:
        """Answers empty; a lease that is already on its way is answered as it is and given back by the asker."""
        state = self._state
        if (caller, number) in self._behind:
            self._behind.discard((caller, number))
            self._exchange.answer(caller, number, ClaimAnswer())
            return
        ticket = state.by_caller.pop((caller, number), None) if state is not None else None
        if state is not None and ticket is not None and state.core.withdraw(ticket):
            del state.tickets[ticket]
            self._exchange.answer(caller, number, ClaimAnswer())

    def _undeliverable(self, answer: Any) -> None:
        """An answer to a caller that has been forgotten."""
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
        """What is not open here: perhaps so new that its log row has not been read, else as the store has it."""
        try:
            await self._serving().follower.catch_up_to(await self._log.head())
        except Exception as error:
            refused = self._refusal(missing[0][2], error)
            for caller, number, _ in missing:
                self._exchange.answer(caller, number, refused)
            return
        finally:
            behind = self._behind & {asked[:2] for asked in missing}
            self._behind -= behind
        is_published = [asked for asked in missing if asked[:2] in behind or not isinstance(asked[2], ClaimRequest)]
        for caller, number, request in self._decide(is_published, caught_up=True):
            self._exchange.answer(caller, number, await self._ended(request))

    async def _ended(self, request: Any) -> Any:
        """The machine's answer for a task that has ended: a repeat is answered alike, anything else is refused. Only the
        store is asked, so it may be told at once."""
        try:
            return self._end_of(request, await self._tasks.get(request.workspace, request.task_id))
        except Exception as error:
            return self._refusal(request, error)

    def _end_of(self, request: Any, task: Task | None) -> Any:
        if task is None:
            raise NotFound(f"There is no task {request.task_id}.", "task_not_found")
        if not task.status.terminal:
            raise ActorUnavailable(_SHARD_AWAY)
        head = task.head()
        if isinstance(request, ExplainRequest):
            return TaskView(head=head)
        if isinstance(request, ExtendRequest):
            raise LEASE_LOST.error(head, _EXTENSION)
        return _reported(request, step(head, _event(request), self._clock.now(), self._policy).head)

    async def _look_up_ends(self, state: _State, unresolved: Mapping[str, Sequence[str]]) -> None:
        """How tasks ended that others wait for and that were over before those came. What memory has decided must be in
        the store first; a task that is still open there has just been submitted, and its row will be read soon."""
        while not state.failed:
            try:
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
        found = await self._tasks.get_many(workspace, task_ids)
        expired = [(task_id, TaskStatus.CANCELLED) for task_id in task_ids if task_id not in found]
        return expired + [(task.id, task.status) for task in found.values() if task.status.terminal]

    # --- commits -------------------------------------------------------------------------------------------------

    def _send(self, answers: Sequence[tuple[str, int, Any]]) -> None:
        """Takes what the core has decided; answers follow when everything before them is durable."""
        state = self._state
        try:
            written = None if state is None or state.failed else self._output(state, answers)
        except Exception as error:
            assert state is not None
            self._broke(state, error)
            written = None
        if state is None or written is None:
            for caller, number, answer in answers:
                self._exchange.answer(caller, number, _undone(answer))
            return
        write, unresolved = written
        if unresolved:
            self._work.start(self._look_up_ends(state, unresolved))
        if write.decisions or write.answers:
            self._work.start(self._write(state, write))
        if write.decisions:
            self._timer_moved.set()

    def _output(
        self, state: _State, answers: Sequence[tuple[str, int, Any]]
    ) -> tuple[_Write, Mapping[str, Sequence[str]]]:
        """What is to be written, and whose ends must be looked up."""
        decisions, answered = state.core.take_output(self._clock.now())
        told = list(answers)
        for one in answered:
            asker = state.tickets.pop(one.ticket, None)
            if asker is not None:
                state.by_caller.pop(asker, None)
                told.append((*asker, _claim_answer(one.grants, one.stopping, state.fence)))
        return _Write(decisions, told), state.core.take_unresolved()

    async def _write(self, state: _State, write: _Write) -> None:
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
            self._exchange.answer(caller, number, answer if error is None else error)

    async def _flush(self, state: _State, writes: Sequence[_Write]) -> Sequence[None]:
        if state.failed:
            raise ActorUnavailable(_SHARD_AWAY)
        decisions = [decision for write in writes for decision in write.decisions]
        if decisions:
            outcomes = await self._tasks.decide(state.fence, decisions)
            for decision, outcome in zip(decisions, outcomes, strict=True):
                if not outcome.applied:
                    raise ActorUnavailable(f"Task {decision.head.id} is not in the store as it is in memory.")
            if any(one.head.status.terminal and one.head.task_type == PULL_CALL_TYPE for one in decisions):
                self._work.start(self._doorbell.notify(WakeTopic.PULL_CALLS))
        return [None] * len(writes)


#: Objects that a collection looks at in a millisecond; some 3,000 tasks.
_FEW_OBJECTS = 10_000
_frozen = False


@contextmanager
def _settled_memory() -> Iterator[None]:
    """What is built inside stays: a million heads are not worth looking at again in every collection. What was built
    before and is no longer needed is looked at once more: frozen, a state that was forgotten would never be freed.

    A state of a few objects is left to ordinary collections. To settle it would take two full ones, which look at the
    whole process and keep everybody waiting for a shard that has hardly anything to read.
    """
    global _frozen
    gc.disable()
    try:
        if _frozen:
            gc.unfreeze()
            gc.collect()
            _frozen = False
        before = gc.get_count()[0]
        yield
        if gc.get_count()[0] - before > _FEW_OBJECTS:
            gc.collect()
            gc.freeze()
            _frozen = True
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension(Event):
    """Names an extension in an error; it is not an event of the task's machine."""


_EXTENSION = _Extension()


def _undone(answer: Any) -> ControlPlaneError:
    """Whatever was decided has been forgotten: all but the request that broke it is to be asked again."""
    return answer if isinstance(answer, InternalError) else ActorUnavailable(_SHARD_AWAY)


def _reported(request: Any, head: TaskHead) -> Done | Recorded:
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
    """What a predecessor answered is not given back here. It alone knew whether it had answered the lease again; a lease
    that somebody works on would be taken away, while one that lies idle is answered again or expires."""
    generation, delivery = request.delivery
    if generation == state.fence.generation:
        state.core.release(
            request.task_id, request.workspace, request.attempt, request.agent_id, delivery, _SYSTEM, now
        )


def _prepared(core: SchedulerCore, request: SchedulerRequest, now: float) -> Any:
    """All that can be found out before memory is changed."""
    if isinstance(request, ClaimRequest):
        check_text(f"{request.agent_id}{request.claim_id}{request.principal}", "a claim")
        return request
    if isinstance(request, ReportRequest):
        _check_report(request)
    if isinstance(request, PrioritizeRequest):
        priority = None if request.priority is None else Priority(request.priority)
        return core.consider_priority(
            request.task_id, request.workspace, request.principal, priority, request.position, now, request.cause
        )
    if isinstance(request, ReportRequest | CancelRequest):
        return core.consider(request.task_id, request.workspace, _event(request), now)
    return None


def _check_report(request: ReportRequest) -> None:
    """The last door: what the store refuses would fail the commit of everybody whose decisions share it. Results are long
    and there are many, so those that a door of ours has written are not read again."""
    check_text(f"{request.error or ''}{request.principal}", "error")
    check_json(request.retry_after_s, "retry_after_seconds")
    if request.result_json is not None:
        (check_text if request.checked else read_json)(request.result_json, "result")


def _event(request: Any) -> Event:
    if isinstance(request, CancelRequest):
        return CancelRequested(principal=request.principal, cause=request.cause)
    if isinstance(request, PrioritizeRequest):
        return Prioritized(principal=request.principal, cause=request.cause)
    by = Reporter(principal=request.principal, agent_id=request.agent_id, attempt=request.attempt)
    if request.stopped:
        return CancelAcknowledged(by=by, cause=request.cause)
    if request.error is None:
        return Complete(by=by, result_json=request.result_json, cause=request.cause)
    return Fail(
        by=by,
        error=request.error,
        error_class=request.error_class,
        requeue=request.requeue,
        retry_after_s=request.retry_after_s,
        cause=request.cause,
    )
