"""Ordinary tasks for called agents: their host claims tasks for them, calls them, and reports the outcomes.

For which agents claims wait, and whose work is begun, is decided by the planner (`cluster/domain/agents/claim_planner.py`).
This carries out what it says, and tells it what became of it. A task that was leased to an agent that may not be called is
given back, which costs it no retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence, Set
from typing import Any

from actors.agents.leased_tasks import LeasedTasks
from actors.agents.pull_calls import ENDED_KINDS
from actors.agents.task_reports import RETRY_S, AskShard, TaskReports, reporter
from actors.agents.traced_calls import attempt_span
from cluster.domain.agents import claim_events as events
from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.claim_plan import ClaimPlan
from cluster.domain.agents.claim_planner import next_at, step
from cluster.domain.agents.selection import Strategy
from cluster.domain.base.errors import (
    AgentMalformed,
    AgentNotCalled,
    ControlPlaneError,
    InvalidRequest,
    PeerError,
    TryLater,
)
from cluster.domain.base.log import HOST_PRINCIPAL, LogRow
from cluster.domain.scheduling.answers import ClaimAnswer, undelivered
from cluster.domain.scheduling.requests import ClaimRequest, HeartbeatRequest, ReleaseRequest
from cluster.domain.tasks.agent_outcomes import Outcome, cancelled, failed, is_final, malformed
from cluster.domain.tasks.agent_waits import AgentWait
from cluster.domain.tasks.events import Fail, ReportEvent, Undelivered
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.task import Task, TaskDetail
from cluster.log.agent_directory import AgentDirectory, Key
from cluster.ports.clock import Clock
from cluster.ports.tasks import TaskStore
from cluster.process import spans
from cluster.process.loops import Loops, OnFatal, ended
from cluster.process.traces import traced

_logger = logging.getLogger(__name__)

#: Gives a task to an agent, with the children that it has waited for, and returns what becomes of the attempt (`outcome_of`);
#: raises PeerError, of which AgentNotCalled costs the task nothing, and InvalidRequest if the answer cannot be stored.
GiveTask = Callable[[Agent, Task, Sequence[Task]], Awaitable[Outcome]]


class PushTasks:
    """Claims tasks for called agents, and works on them.

    ``owned`` gives the agents that this host owns now; ``living`` reads the names of the hosts' living processes, this
    one included, or raises TryLater. ``breaker`` gives an agent's breaker, and ``asked`` how many of its slots are not for tasks
    now; whoever changes them calls ``bounds_changed``."""

    def __init__(
        self,
        *,
        directory: AgentDirectory,
        tasks: TaskStore,
        clock: Clock,
        shard: AskShard,
        give: GiveTask,
        breaker: Callable[[Key], Breaker | None],
        asked: Callable[[Key], int],
        owned: Callable[[], Set[Key]],
        living: Callable[[], Awaitable[Collection[str]]],
        strategy: Strategy,
        draw: Callable[[], float],
        owner: str,
        heartbeat_s: float,
        on_fatal: OnFatal,
    ) -> None:
        #: The host's copy of the registry; the host has applied rows to it before `apply` sees them.
        self._directory = directory
        self._tasks = tasks
        self._leases = LeasedTasks(tasks, clock)
        self._clock = clock
        self._shard = shard
        self._reports = TaskReports(shard, clock)
        self._give = give
        self._breaker = breaker
        self._asked = asked
        self._owned_agents = owned
        self._living = living
        self._draw = draw
        self._heartbeat_s = heartbeat_s
        #: Whose claims wait and who works on what. Only `_tell` changes it.
        self._plan = ClaimPlan(owner=owner, strategy=strategy)
        #: What the plan asks to be read, if anything. `_carry_out` sets it, `_read_leases` takes it.
        self._reading: events.ReadLeases | None = None
        #: Agent → the claim that waits for it. `_claim` adds it, its end removes it.
        self._claims: dict[Key, asyncio.Task[None]] = {}
        #: (agent, task id) → the work on that task. `_begin` adds it, its end removes it.
        self._works: dict[tuple[Key, str], asyncio.Task[None]] = {}
        #: Task id → what led to its submit, for its reports and for the logs of the calls. `_leased` adds; same life as above.
        self._causes: dict[str, str] = {}
        #: Agents that the next `_look` tells the plan of: `apply` adds those that changed.
        self._changed: set[Key] = set()
        #: Whether hosts changed since the last `_look`, which then looks at all owned agents and all takers. True at first.
        self._hosts_changed = True
        #: Set by `stop`: late replies are released instead of worked on.
        self._stopping = False
        #: Every claim, task and release under way. The event loop alone keeps no reference to them; `stop` cancels them.
        self._owned: set[asyncio.Task[None]] = set()
        self._loops = Loops(on_fatal)
        #: Set when there may be something for `_look` to do; wakes `_forever`.
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Starts the loops."""
        self._loops.start(self._forever(), self._heartbeat_forever())

    async def stop(self) -> None:
        """Ends the loops, and cancels claims and work. Whoever owns the agents next takes over the leases."""
        self._stopping = True
        await self._loops.stop()
        await ended(*self._owned)

    def apply(self, rows: Sequence[LogRow]) -> None:
        """Notes what concerns claims: agents that changed, and tasks that name their agents."""
        for row in rows:
            key = (row.workspace, row.entity)
            if row.kind.startswith("agent."):
                self._changed.add(key)
                self._moved.set()
                if row.kind == "agent.unregistered":
                    self._note(events.AgentDeregistered(key=key))
            elif row.kind == "task.submitted" and isinstance(named := row.data.get("target_agent"), str):
                self._note(events.TaskNamed(key=(row.workspace, named), task_id=row.entity))
            elif row.kind in ENDED_KINDS:
                self._note(events.TaskOver(task_id=row.entity))

    def hosts_changed(self, *, lost: bool) -> None:
        """Notes that this host may own other agents than before. ``lost``: a process died, so nobody works on its leases."""
        self._hosts_changed = True
        self._moved.set()
        if lost:
            self._note(events.ProcessLost())

    def bounds_changed(self, key: Key) -> None:
        """Notes that an agent may have more or fewer calls than before. Its claim is withdrawn if it may have none."""
        self._note(events.BoundsChanged(key=key, breaker=self._breaker(key), asked=self._asked(key)))

    def release(self, answer: Any) -> None:
        """Takes a late reply, whose leases came after their claim was given up. Works on them, since they are here."""
        for request in undelivered(answer):
            agent = None if self._stopping else self._directory.known(request.workspace, request.agent_id)
            if agent is not None:
                self._note(events.TaskLeased(agent=agent, task_id=request.task_id))
            else:
                self._own(self._release(request))

    async def _release(self, request: ReleaseRequest) -> None:
        with contextlib.suppress(ControlPlaneError):
            await self._shard(request)

    @property
    def working(self) -> int:
        """How many tasks are being worked on."""
        return self._plan.tasks

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    # --- the plan ------------------------------------------------------------------------------------------------

    def _tell(self, event: events.Event) -> None:
        """Tells the plan what happened, and carries out what follows at once."""
        self._plan, effects = step(self._plan, event, self._clock.now())
        for effect in effects:
            self._carry_out(effect)

    def _note(self, event: events.Event) -> None:
        """Tells the plan what happened, and wakes the loop if a claim may follow."""
        self._tell(event)
        if self._plan.due:
            self._moved.set()

    def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.MakeClaim():
                self._claim(effect)
            case events.WithdrawClaim():
                self._claims[effect.key].cancel()
            case events.DoTask():
                self._begin(effect.agent, effect.task_id)
            case events.ReadLeases():
                self._reading = effect

    async def _forever(self) -> None:
        """Tells the plan that time has passed whenever something changed, or when it wants to know."""
        while True:
            self._moved.clear()
            try:
                await self._look()
                await self._moved_or(max(0.0, next_at(self._plan) - self._clock.now()))
            except TryLater as error:
                _logger.warning("tasks of called agents have to wait: %s", error)
                self._tell(events.ReadingFailed())
                await self._clock.sleep(RETRY_S)

    async def _moved_or(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({sleeper, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            moved.cancel()

    async def _look(self) -> None:
        """Only this tells of `ClaimsDue`, so no claim is made after the loop has ended."""
        if self._hosts_changed:
            self._hosts_changed = False
            self._changed |= self._owned_agents() | self._plan.takers.keys()
        changed, self._changed = self._changed, set()
        self._tell(events.AgentsSeen(agents={key: self._taker(key) for key in changed}))
        self._tell(events.TimePassed())
        await self._read_leases()
        self._tell(events.ClaimsDue(draw=self._draw()))

    def _taker(self, key: Key) -> Agent | None:
        """The agent, if it takes tasks and this host owns it."""
        agent = self._directory.known(*key)
        if agent is None or agent.transport is TransportKind.PULL or not agent.takes_work:
            return None
        return agent if key in self._owned_agents() else None

    async def _read_leases(self) -> None:
        """Reads what the plan asked for. Raises: `TryLater` if that cannot be read now."""
        reading, self._reading = self._reading, None
        if reading is None:
            return
        leases = await self._tasks.held_by(HOST_PRINCIPAL)
        living = await self._living()  # read after the leases: whoever claims has joined before
        named = await self._tasks.named(reading.unread) if reading.unread else ()
        held = [
            events.Held(
                key=(lease.workspace, lease.agent_id),
                task_id=lease.task_id,
                claim_id=lease.claim_id,
                agent=self._directory.known(lease.workspace, lease.agent_id),
            )
            for lease in leases
        ]
        self._tell(events.LeasesRead(unread=reading.unread, leases=held, living=living, named=named))

    def _claim(self, effect: events.MakeClaim) -> None:
        key = _key(effect.agent)
        claim = self._claims[key] = self._own(self._ask_for_work(effect.agent, effect.claim_id))
        claim.add_done_callback(lambda _: self._claim_ended(key))

    def _claim_ended(self, key: Key) -> None:
        del self._claims[key]
        self._note(events.ClaimEnded(key=key))

    async def _ask_for_work(self, agent: Agent, claim_id: str) -> None:
        request = ClaimRequest(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            principal=HOST_PRINCIPAL,
            capabilities=frozenset(agent.capabilities),
            max_concurrency=agent.max_concurrency,
            max_tasks=1,
            claim_id=claim_id,
            client_claim_id=True,
            wait=True,
            regions=agent.regions,
            explicit_only=agent.explicit_only,
            version=agent.version,
        )
        try:
            answer: ClaimAnswer = await self._shard(request, long_poll=True)
        except ControlPlaneError as error:
            _logger.info("a claim for agent %s was not answered: %s", agent.agent_id, error)
            await self._clock.sleep(RETRY_S)
            return
        for lease in answer.leases:
            self._note(events.TaskLeased(agent=agent, task_id=lease.head.id))

    # --- work ----------------------------------------------------------------------------------------------------

    def _begin(self, agent: Agent, task_id: str) -> None:
        key = _key(agent)
        work = self._works[key, task_id] = self._own(self._work(agent, task_id))
        work.add_done_callback(lambda _: self._work_ended(key, task_id))

    def _work_ended(self, key: Key, task_id: str) -> None:
        del self._works[key, task_id]
        self._causes.pop(task_id, None)
        self._note(events.WorkEnded(key=key, task_id=task_id))

    async def _work(self, agent: Agent, task_id: str) -> None:
        task = await self._leased(agent, task_id)
        if task is None:
            return
        cause = self._causes.get(task_id, "")
        with traced(cause) if spans.tracer is None else attempt_span(task, cause):
            if task.status_detail is TaskDetail.CANCELLING:
                await self._report(task, cancelled(reporter(agent, task)))
            else:
                await self._give_it(agent, task)

    async def _leased(self, agent: Agent, task_id: str) -> Task | None:
        """The task, or None if its lease is over already."""
        task, cause = await self._leases.held(agent, task_id)
        if cause:
            self._causes[task_id] = cause
        return task

    async def _give_it(self, agent: Agent, task: Task) -> None:
        children = await self._leases.waited_for(task)
        by = reporter(agent, task)
        try:
            outcome = await self._give(agent, task, children)
            if isinstance(outcome, AgentWait):
                if outcome.children:
                    await self._leases.check_children(task, outcome.children)
                await self._reports.wait(agent, task, self._causes.get(task.id, ""), outcome)
                return
        except AgentNotCalled as refused:
            await self._return_unsent(agent, task, refused)
            return
        except AgentMalformed as odd:
            outcome = malformed(odd.message, by)
        except InvalidRequest as odd:
            outcome = malformed(f"Agent {agent.agent_id}: {odd.message}", by)
        except PeerError as error:
            outcome = failed(error, by)
        except Exception as error:
            _logger.error("giving task %s to agent %s failed", task.id, agent.agent_id, exc_info=error)
            outcome = Fail(by=by, error="The control plane failed to call the agent.")
        await self._report(task, outcome)

    async def _return_unsent(self, agent: Agent, task: Task, refused: AgentNotCalled) -> None:
        """Gives back a task that the agent was not asked to do."""
        self._note(events.TaskUnsent(key=_key(agent), retry_after_s=refused.retry_after_s))
        await self._report(task, Undelivered(by=reporter(agent, task)))

    async def _report(self, task: Task, outcome: ReportEvent) -> None:
        taken = await self._reports.report(task, self._causes.get(task.id, ""), outcome)
        if taken and is_final(outcome):
            self._note(events.TaskOver(task_id=task.id))

    async def report_progress(self, agent: Agent, task: Task, progress: Progress) -> None:
        """Stores what an agent of this process reports of an attempt, and renews its lease. Raises: `Conflict` if the attempt is
        over."""
        await self._reports.report_progress(agent, task, progress)

    async def _heartbeat_forever(self) -> None:
        """Renews the leases of agents at work, and stops the tasks that were cancelled."""
        while True:
            await self._clock.sleep(self._heartbeat_s)
            if not self._plan.working:
                continue
            with contextlib.suppress(ControlPlaneError):
                answer = await self._shard(HeartbeatRequest(agents=tuple(self._plan.working)))
                for workspace, agent_id, task_id in answer.cancelling:
                    await self._cancel_work((workspace, agent_id), task_id)

    async def _cancel_work(self, key: Key, task_id: str) -> None:
        work = self._works.get((key, task_id))
        agent = self._directory.known(*key)
        task = await self._tasks.get(key[0], task_id)
        if work is not None and agent is not None and task is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._report(task, cancelled(reporter(agent, task)))


def _key(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id
