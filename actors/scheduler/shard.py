"""The scheduler shard: the single writer of leases, and a cache over Postgres.

Its core is ``cluster.domain.scheduling.core``. This shell gives it the clock, the log, the store and an exchange with the
API's replicas. If a commit fails or is fenced, the shard drops its state and reads it again from the store under a new
generation. If another shard is published by then, it waits instead (stands by).

A bug is answered to the request that met it. If it came up before memory was changed, or while memory was only read, nothing
else is affected. If it came up in the middle of a change, memory is half-changed, so the shard drops its state then too.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from actors.scheduler.alarm import Alarm
from actors.scheduler.answers import Answers
from actors.scheduler.budget_levels import tell_levels
from actors.scheduler.commits import Commits
from actors.scheduler.ended_tasks import EndedTasks
from actors.scheduler.generations import REBUILD_RETRY_S, Generations, StateSource, shard_away
from actors.scheduler.handlers import HANDLERS, Occasion
from actors.scheduler.rereads import Count, uncounted
from actors.scheduler.state import Answer, Asker, ShardState, Write
from cluster.domain.base.errors import ControlPlaneError, Fenced, InternalError, TryLater, is_bug
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling.core import Missing, SchedulerCore
from cluster.domain.scheduling.requests import ReleaseRequest, SchedulerRequest
from cluster.domain.tasks.retries import RetryPolicy
from cluster.log.follower import LogFollower
from cluster.ports.access import WorkspaceStates
from cluster.ports.agents import AgentStore
from cluster.ports.budgets import Budgets
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter, Region
from cluster.ports.operations import ControlStore
from cluster.ports.quotas import AllQuotas
from cluster.ports.tasks import TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.process.traces import traced
from cluster.rpc.exchange import ExchangeReply, SentCall

_logger = logging.getLogger(__name__)

TOPICS: Final = (WakeTopic.TASKS, WakeTopic.AGENTS, WakeTopic.CONTROLS, WakeTopic.ACCESS)
#: A caller that has had no call parked here for so long has expired, and its claims are withdrawn. A killed caller has none from
#: that moment on, and must not be granted leases that it cannot take. One that was only slow asks again.
CALLER_SILENT_S: Final = 2.0
HOUSEKEEPING_S: Final = 1.0
_BUG: Final = "The scheduler failed on this request; its log says why."

Asked = tuple[str, int, SchedulerRequest]
"""(caller, correlation number, request)"""


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
        budgets: Budgets,
        quotas: AllQuotas,
        idempotency_window_s: float = 86_400.0,
        cleanup_s: float = 60.0,
        count_reread: Count = uncounted,
    ) -> None:
        self._shard = shard
        # The stores, the doorbell and the clock.
        self._tasks = tasks
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._agents = agents
        self._budgets = budgets
        # Settings: how long idempotency keys are kept, and how often expired ones are dropped.
        self._idempotency_window_s = idempotency_window_s
        self._cleanup_s = cleanup_s
        # Loops that run as long as the actor, and tasks that end by themselves (commits, look-ups). An error that nobody expected
        # in either ends the process.
        self._loops, self._work = Loops(on_fatal), Loops(on_fatal)
        # When ``_run_timers`` wakes up.
        self._alarm = Alarm(clock)
        policy = policy or RetryPolicy()
        source = StateSource(
            shard=shard,
            owner=owner,
            tasks=tasks,
            region=region,
            controls=controls,
            workspaces=workspaces,
            agents=agents,
            budgets=budgets,
            quotas=quotas,
            clock=clock,
            lease_ttl_s=lease_ttl_s,
            policy=policy,
        )
        # What outlives the states: which of them is present, the answers on their way, the commits, and reads of ended tasks.
        self._generations = Generations(
            source,
            serve=self._serve,
            drop=self._ask_again,
            is_published=is_published,
            count_reread=count_reread,
            loops=self._loops,
            work=self._work,
        )
        self._answers = Answers(clock, handle=self._handle, present=lambda: self._state, release=self._release)
        self._commits = Commits(tasks, doorbell, self._work, self._generations.fail)
        self._ended_tasks = EndedTasks(tasks, clock, policy)

    async def start(self) -> None:
        """Takes the shard under a new generation, reads its state and begins to serve."""
        await self._generations.read()
        self._loops.start(self._follow(), self._run_timers(), self._housekeeping(), self._forget_keys())
        self._loops.start(tell_levels(self._budgets, self._clock, lambda: self._state))

    async def stop(self) -> None:
        """Ends the loops, and then the commits and look-ups that are under way."""
        await self._loops.stop()
        await self._work.stop()

    async def exchange(self, call: SentCall) -> ExchangeReply:
        """One call of a process's exchange: takes its requests and returns the answers that are ready."""
        return await self._answers.exchange.call(call)

    async def status(self) -> dict[str, Any]:
        """Figures for operators. Raises: `ActorUnavailable` if the shard is reading its state."""
        state = self._generations.serving()
        return {
            "shard": self._shard,
            "generation": state.fence.generation,
            "open_tasks": state.core.open_tasks,
            "waiting_claims": state.core.waiting_claims,
            "cursor": state.follower.cursor,
            "log_lag_s": {"scheduler": max(0.0, self._clock.now() - state.follower.whole_at)},
            **self._generations.status(),
        }

    # --- states --------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> ShardState | None:
        return self._generations.present

    def _serve(self, state: ShardState, cursor: int) -> None:
        # Each state has its own follower and commit queue: rows that an older follower still brings are in this state already,
        # and what an older state decided and could not commit must never reach the store.
        apply, flush = functools.partial(self._apply, state), functools.partial(self._commits.flush, state)
        only = LogFilter(kinds=SchedulerCore.FOLLOWS)
        state.follower = LogFollower(self._log, self._doorbell, self._clock, after=cursor, apply=apply, only=only)
        state.commit_queue = GroupCommit(flush, max_batch=256, max_waiting=100_000)
        self._send([])
        self._alarm.wake()

    def _ask_again(self, askers: Sequence[Asker]) -> None:
        for asker in askers:
            self._answers.tell(asker, shard_away())

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

    async def _apply(self, state: ShardState, rows: Sequence[LogRow]) -> None:
        """Applies rows of the log to a state, unless it has failed while the store was asked."""
        changed = {(row.workspace, row.entity) for row in rows if row.kind.startswith("agent.")}
        unschedulable = await self._agents.unschedulable(changed) if changed else frozenset[tuple[str, str]]()
        if not state.failed:
            self._change(state, lambda: state.core.apply(rows, self._clock.now(), unschedulable=unschedulable))

    async def _run_timers(self) -> None:
        """Applies the core's timers when they are due."""
        while True:
            state = self._state
            due = None if state is None or state.failed else state.next_timer()
            now = self._clock.now()
            if state is not None and due is not None and due <= now:
                self._look_for_standstill()
                self._change(state, functools.partial(state.core.tick, now))
            else:
                await self._alarm.sleep(due)

    def _look_for_standstill(self) -> None:
        """Before timers are applied after a standstill, leases get their time again. Else all of them would end although their
        holders' heartbeats wait to be read, and work that is nearly done would run twice."""
        still_s = self._alarm.stood_still_s()
        if still_s and self._state is not None and not self._state.failed:
            _logger.warning("shard %s stood still for %.0f s; leases get their full time again", self._shard, still_s)
            self._state.core.restart_leases(self._clock.now())

    async def _housekeeping(self) -> None:
        """Withdraws the claims of callers that have expired."""
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            self._look_for_standstill()
            self._answers.expire(CALLER_SILENT_S)

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
            self._answers.are_behind(asked[:2] for asked in missing if HANDLERS[type(asked[2])].claims)
            self._work.start(self._look_up(missing))

    def _read(self, request: Any) -> SchedulerRequest:
        """The request, or what is decided in the place of a report that the store has refused."""
        handler = HANDLERS.get(type(request))
        found: SchedulerRequest = self._commits.read(request) if handler is not None and handler.reports else request
        return found

    def _decide(self, batch: Sequence[Asked], *, caught_up: bool = False) -> list[Asked]:
        """Answers requests about open tasks and returns the rest. Each request is decided by itself: the error of one does not
        affect the others.

        It awaits nothing between a change of memory and its way to the store. An answer would else outlive the state that it
        was decided in."""
        answers: list[Answer] = []
        missing: list[Asked] = []
        refuses = False
        request: Any
        for caller, number, request in batch:
            try:
                if HANDLERS[type(request)].claims:
                    self._answers.replace_older((caller, number), request)
                answer = self._answer(caller, number, request, caught_up)
            except Missing:
                missing.append((caller, number, request))
                continue
            except Exception as error:  # noqa: BLE001 - one request's bug must not fail the others; logged by _refusal
                answer = self._refusal(request, error)
                refuses = True
            if answer is not None:
                answers.append((caller, number, answer))
        self._send(answers, refuses)
        return missing

    def _refusal(self, request: Any, error: Exception) -> ControlPlaneError:
        """The error that the asker gets. A bug is logged, and answered without its text."""
        if isinstance(error, ControlPlaneError) and not is_bug(error):
            return error
        with traced(getattr(request, "cause", "")):
            _logger.error("shard %s failed on a %s", self._shard, type(request).__name__, exc_info=error)
        return InternalError(_BUG)

    def _answer(self, caller: str, number: int, request: SchedulerRequest, caught_up: bool) -> Any:
        """The answer to a request, or None if it waits now. ``caught_up``: the newest rows have been read for it."""
        state, handler = self._generations.serving(), HANDLERS[type(request)]
        occasion = Occasion(asker=(caller, number), now=self._clock.now(), caught_up=caught_up)
        prepared = handler.prepare(state, request, occasion)
        try:
            return handler.change(state, request, prepared, occasion)
        except Exception as error:
            if is_bug(error):
                self._generations.broke(state, error)
            raise

    def _release(self, requests: Sequence[ReleaseRequest]) -> None:
        """Releases leases that were answered to nobody."""
        state = self._state
        if state is None or state.failed:
            return
        now = self._clock.now()

        def release() -> None:
            for request in requests:
                state.release(request, now)

        self._change(state, release)

    async def _look_up(self, missing: Sequence[Asked]) -> None:
        """Answers requests that memory could not. It reads the newest rows of the log, since the task may be that new, and
        decides again; what is still not open is answered from the store."""
        try:
            await self._generations.serving().follower.catch_up_to(await self._log.head())
        except Exception as error:  # noqa: BLE001 - as above, for those that wait for the look-up
            refused = self._refusal(missing[0][2], error)
            for caller, number, _ in missing:
                self._answers.tell((caller, number), refused)
            return
        finally:
            behind = self._answers.catch_up({asked[:2] for asked in missing})
        # A claim that was withdrawn meanwhile has its answer.
        unanswered = [asked for asked in missing if asked[:2] in behind or not HANDLERS[type(asked[2])].claims]
        for caller, number, request in self._decide(unanswered, caught_up=True):
            self._answers.tell((caller, number), await self._ended(request))

    async def _ended(self, request: SchedulerRequest) -> Any:
        try:
            return await self._ended_tasks.answer(request)
        except Exception as error:  # noqa: BLE001 - as above
            return self._refusal(request, error)

    async def _look_up_ends(self, state: ShardState, unresolved: Mapping[str, Sequence[str]]) -> None:
        """Settles the tasks that wait for others which were not open here when those came."""
        ends = await self._ended_tasks.ends(state, unresolved)
        if ends is not None:
            self._change(state, lambda: state.core.ended_before(ends, self._clock.now()))

    # --- commits -------------------------------------------------------------------------------------------------

    def _change(self, state: ShardState, change: Callable[[], None]) -> None:
        """Changes memory for a reason that nobody waits for, and takes what follows on its way to the store."""
        try:
            change()
        except Exception as error:  # noqa: BLE001 - whatever it is, memory is half-changed and read again
            self._generations.broke(state, error)
        self._send([])

    def _send(self, answers: Sequence[Answer], refuses: bool = False) -> None:
        """Takes what the core has decided on its way to the store. The answers are given when all decisions up to now are
        durable, also an answer without a decision: it may rest on what others have changed. ``refuses``: one of them is a
        refusal."""
        state = self._state
        try:
            now = self._clock.now()
            written = None if state is None or state.failed else state.take_output(answers, now, refuses=refuses)
        except Exception as error:  # noqa: BLE001 - as above
            assert state is not None
            self._generations.broke(state, error)
            written = None
        if state is None or written is None:
            for caller, number, answer in answers:
                self._answers.tell((caller, number), _undone(answer))
            return
        write, unresolved = written
        if unresolved:
            self._work.start(self._look_up_ends(state, unresolved))
        if write:
            self._work.start(self._write(state, write))
        self._alarm.timer_is(state.next_timer())

    async def _write(self, state: ShardState, write: Write) -> None:
        """Waits for the commit and gives the answers. If the commit fails, the state is dropped and all are told to ask again."""
        error: ControlPlaneError | None = None
        try:
            await state.commit_queue.put(write)
        except Fenced as fenced:
            error = shard_away()
            _logger.info("shard %s was taken over: %s", self._shard, fenced)
        except TryLater as failed:
            error = failed
        except Exception as failed:
            _logger.error("a commit of shard %s failed", self._shard, exc_info=failed)
            error = shard_away()
        if error is not None:
            self._generations.fail(state)
        for caller, number, answer in write.answers:
            self._answers.tell((caller, number), answer if error is None else error)


def _undone(answer: Any) -> ControlPlaneError:
    """The answer to a request whose decision was dropped: ask again, or the bug if it was this request that met it."""
    return answer if isinstance(answer, InternalError) else shard_away()
