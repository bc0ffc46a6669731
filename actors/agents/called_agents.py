"""Ordinary tasks for called agents: their host claims tasks for them, calls them, and reports the outcomes.

Agents with equal capabilities compete for the same tasks. Only a few of their claims wait at the shard at a time, for
the agents that the selection strategy would choose next. So the choice is made before the task arrives, and does not
delay it. A task that names its agent is claimed for that agent.

Nothing is claimed for an agent that may not be called: its breaker is open, or it wants to be called later. Then its claim
is withdrawn, and made again at the time at which it may be called, or when its breaker changes before. A task that was
leased in between is given back, which costs it no retry.

A process completes every task that was leased to a claim of its own, even if another host owns the agent by then. The
host that owns an agent takes over the leases of processes that have died, and of no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence, Set
from typing import Any

from actors.agents.pull_calls import ENDED_KINDS
from actors.messages import ClaimAnswer, ExtendRequest, HeartbeatRequest, ReleaseRequest, ReportRequest, undelivered
from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.breaker import Room
from cluster.domain.agents.selection import Candidate, Ranking, Strategy
from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentMalformed,
    AgentNotCalled,
    AgentUnavailable,
    CallerError,
    ControlPlaneError,
    InvalidRequest,
    PeerError,
    TryLater,
)
from cluster.domain.base.json_values import MAX_ERROR_CHARS, check_text, shown_text, write_json
from cluster.domain.base.log import HOST_PRINCIPAL, LogRow
from cluster.domain.base.names import is_visible
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import Task, TaskDetail, TaskStatus
from cluster.log.agent_directory import AgentDirectory, Key
from cluster.ports.clock import Clock
from cluster.ports.tasks import TaskStore
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal
from cluster.process.traces import traced

_logger = logging.getLogger(__name__)

#: How many claims of agents with equal capabilities wait at the shard at a time.
WAITING_PER_GROUP = 2
#: How often leases that nobody works on are looked for, even if nothing has changed.
LOOK_AGAIN_S = 15.0
RETRY_S = 0.5
#: The longest time that an agent gets no task because its own rate, of its registration, leaves no room for one.
REST_S = 60.0
CANCELLED = "cancelled"

Group = tuple[str, frozenset[str], frozenset[str], bool]
"""(workspace, capabilities, regions, chats): agents that compete for the same tasks"""

#: (request, long_poll=...) → the shard's answer
AskShard = Callable[..., Awaitable[Any]]
#: The fields of an answer that tells of an error.
_OF_ERRORS = frozenset({"error", "requeue"})
#: Gives a task to an agent and returns the fields of its report (`outcome_of`); raises PeerError, of which AgentNotCalled costs
#: the task nothing, and InvalidRequest if the answer cannot be stored.
GiveTask = Callable[[Agent, Task], Awaitable[dict[str, Any]]]


class PushTasks:
    """The planner of called agents' claims, and what works on their tasks.

    ``owned`` gives the agents that this host owns now; ``living`` reads the names of the hosts' living processes, this
    one included, or raises TryLater. ``room`` says how many calls an agent's breaker admits, and ``asked`` how many of its
    slots are not for tasks now; whoever changes them calls ``room_changed``. All state follows single changes, so that the
    cost of a change or a claim does not grow with the registry."""

    def __init__(
        self,
        *,
        directory: AgentDirectory,
        tasks: TaskStore,
        clock: Clock,
        shard: AskShard,
        give: GiveTask,
        room: Callable[[Key], Room],
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
        #: Reads of leased tasks by (workspace, id). Many leases come at once, and one query reads the tasks of all.
        self._reads: GroupCommit[tuple[str, str], tuple[Task | None, str]] = GroupCommit(self._read)
        self._clock = clock
        self._shard = shard
        self._give = give
        self._room = room
        self._asked = asked
        self._owned_agents = owned
        self._living = living
        self._strategy = strategy
        self._draw = draw
        #: This process, as its claims' ids begin. A lease whose claim id begins otherwise was claimed by another process.
        self._owner = owner
        self._heartbeat_s = heartbeat_s
        #: Numbers claims and choices: no two claims of this process have the same id, and a later choice has more.
        self._numbers = itertools.count(1)
        #: Agent → the number of its last choice, for strategies that take who was chosen longest ago. `_start` sets it; an
        #: agent that is deregistered loses it.
        self._chosen: dict[Key, int] = {}
        #: Agent → task id → the work on that task. `_start` adds it, `_work_ended` removes it, also if another host owns the
        #: agent by then. An agent without work has no entry.
        self._working: dict[Key, dict[str, asyncio.Task[None]]] = defaultdict(dict)
        #: Task id → when the work on it began, to count what was taken on since a breaker became half open. Same life as above.
        self._begun: dict[str, float] = {}
        #: Task id → what led to its submit, for its reports and for the logs of the calls. `_leased` adds; same life as above.
        self._causes: dict[str, str] = {}
        #: Agent → before when it gets no task, though its breaker may admit calls: one was given back, and another would be
        #: too. `_return_unsent` sets it; `_wake` removes it when the time is over, `apply` when the agent is deregistered.
        self._rests: dict[Key, float] = {}
        #: A heap of (time, agent): when an agent without room may have room again by time alone. `_rank` adds, `_wake` removes.
        #: A time that counts no more only ranks its agent once too often.
        self._wakes: list[tuple[float, Key]] = []
        #: Owned agents that take tasks, as the directory had them when `_update` last looked; only `_update` changes it.
        self._takers: dict[Key, Agent] = {}
        #: Takers whose leases and named tasks have not been read yet. `_update` adds them, `_adopt` removes them.
        self._new: set[Key] = set()
        #: Group → its takers in the order in which they are chosen. Each taker is in the ranking of its group and in no
        #: other. `_rank` adds and changes, `_leave` removes; no ranking is empty.
        self._rankings: dict[Group, Ranking] = {}
        #: Agent → the group under which a claim for it waits at the shard: at most one claim per agent. `_claim_for` adds
        #: it, `_waited` removes it.
        self._waiting: dict[Key, Group] = {}
        #: The same claims by group and agent id, as tasks: to count those of a group, and to cancel them.
        self._claims: dict[Group, dict[str, asyncio.Task[None]]] = defaultdict(dict)
        #: Agent → open tasks that name it, and task → agent. `_note_named` and `_forget_named` keep the two the same; a task
        #: is forgotten when it ends, or when the agent is no taker any more.
        self._named: dict[Key, set[str]] = {}
        self._names: dict[str, Key] = {}
        #: Agents that the next `_look` updates: `apply` adds those that changed.
        self._changed: set[Key] = set()
        #: Whether hosts changed since the last `_look`, which then updates all owned agents and all takers. True at first.
        self._hosts_changed = True
        #: Tasks whose work ended since `_adopt` last began to read leases: what it reads may still show them as leased.
        self._finished_tasks: set[str] = set()
        #: Set by `stop`: late replies are released instead of worked on.
        self._stopping = False
        #: Groups that may have fewer waiting claims than they could. `_rank` and `_waited` add them, `_offer` takes all.
        self._short: set[Group] = set()
        #: Agents that may claim a task that names them, because the agent or such a task has come, or a claim or a task of
        #: the agent has ended. `_offer` takes all.
        self._free: set[Key] = set()
        #: When leases are read again, even if nothing changes. 0: at the next look.
        self._look_at = 0.0
        #: Every claim, task and release under way. The event loop alone keeps no reference to them; `stop` cancels them.
        self._owned: set[asyncio.Task[None]] = set()
        self._loops = Loops(on_fatal)
        #: Set when there is something for `_look` or `_offer` to do; wakes `_forever`.
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Starts the loops."""
        self._loops.start(self._forever(), self._heartbeat_forever())

    async def stop(self) -> None:
        """Ends the loops, and cancels claims and work. Whoever owns the agents next takes over the leases."""
        self._stopping = True
        await self._loops.stop()
        for task in list(self._owned):
            task.cancel()
        await asyncio.gather(*self._owned, return_exceptions=True)

    def apply(self, rows: Sequence[LogRow]) -> None:
        """Notes what concerns claims: agents that changed, and tasks that name their agents."""
        named = set()
        for row in rows:
            if row.kind.startswith("agent."):
                self._changed.add((row.workspace, row.entity))
                self._moved.set()
                if row.kind == "agent.unregistered":
                    self._chosen.pop((row.workspace, row.entity), None)
                    self._rests.pop((row.workspace, row.entity), None)
            elif row.kind == "task.submitted" and isinstance(row.data.get("target_agent"), str):
                key = (row.workspace, row.data["target_agent"])
                agent = self._directory.known(*key)
                if agent is not None and self._takes(agent):
                    self._note_named(key, row.entity)
                    named.add(key)
            elif row.kind in ENDED_KINDS:
                self._forget_named(row.entity)
        if named:
            self._free |= named
            self._moved.set()

    def hosts_changed(self, *, lost: bool) -> None:
        """Notes that this host may own other agents than before. ``lost``: a process died, so nobody works on its leases."""
        self._hosts_changed = True
        if lost:
            self._look_at = 0.0
        self._moved.set()

    def room_changed(self, key: Key) -> None:
        """Notes that an agent may have more or fewer calls than before. Its claim is withdrawn if it may have none."""
        agent = self._takers.get(key)
        if agent is None:
            return
        self._rank(agent)
        self._free.add(key)
        self._moved.set()
        if key in self._waiting and self._load(agent) >= agent.max_concurrency:
            self._claims[self._waiting[key]][agent.agent_id].cancel()

    def release(self, answer: Any) -> None:
        """Takes a late reply, whose leases came after their claim was given up. Works on them, since they are here."""
        for request in undelivered(answer):
            agent = None if self._stopping else self._directory.known(request.workspace, request.agent_id)
            if agent is not None:
                self._start(agent, request.task_id)
            else:
                self._own(self._release(request))

    async def _release(self, request: ReleaseRequest) -> None:
        with contextlib.suppress(ControlPlaneError):
            await self._shard(request)

    @property
    def working(self) -> int:
        """How many tasks are being worked on."""
        return sum(len(tasks) for tasks in self._working.values())

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    def _takes(self, agent: Agent) -> bool:
        return agent.transport is not TransportKind.PULL and agent.takes_work and _key(agent) in self._owned_agents()

    # --- claims --------------------------------------------------------------------------------------------------

    async def _forever(self) -> None:
        """Looks and offers whenever something changed, and every ``LOOK_AGAIN_S``: leases on which nobody works are found
        only by reading them again."""
        while True:
            self._moved.clear()
            try:
                await self._look()
                self._wake()
                self._offer()
                until = min([self._look_at, *(at for at, _ in self._wakes[:1])])
                await self._moved_or(max(0.0, until - self._clock.now()))
            except TryLater as error:
                _logger.warning("tasks of called agents have to wait: %s", error)
                self._look_at = 0.0
                await self._clock.sleep(RETRY_S)

    async def _moved_or(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({sleeper, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            moved.cancel()

    def _wake(self) -> None:
        """Ranks the agents anew that may have room by now."""
        now = self._clock.now()
        while self._wakes and self._wakes[0][0] <= now:
            _, key = heapq.heappop(self._wakes)
            if self._rests.get(key, now + 1.0) <= now:
                del self._rests[key]
            if key in self._takers:
                self._rank(self._takers[key])
                self._free.add(key)

    async def _look(self) -> None:
        if self._hosts_changed:
            self._hosts_changed = False
            self._changed |= self._owned_agents() | self._takers.keys()
        changed, self._changed = self._changed, set()
        moved = {group for key in changed for group in self._update(key)}
        for claim in [claim for group in moved for claim in self._claims.get(group, {}).values()]:
            claim.cancel()  # its agent was chosen among the former agents of the group
        if self._new or self._clock.now() >= self._look_at:
            self._look_at = self._clock.now() + LOOK_AGAIN_S  # set first: a process lost meanwhile resets it
            await self._adopt()

    def _update(self, key: Key) -> Sequence[Group]:
        """Updates what is kept of one agent to the directory's present state; returns the groups that it left or joined."""
        agent, before = self._directory.known(*key), self._takers.get(key)
        if agent is not None and not self._takes(agent):
            agent = None
        if agent is before:  # an agent that has changed is another object
            return ()
        was = None if before is None else _group(before)
        now = None if agent is None else _group(agent)
        if was is not None and was != now:
            self._leave(was, key)
        if agent is None:
            del self._takers[key]
            self._new.discard(key)
            for task_id in list(self._named.get(key, ())):
                self._forget_named(task_id)
        else:
            self._takers[key] = agent
            self._rank(agent)
            if before is None:
                self._new.add(key)
            self._free.add(key)
        return [group for group in (was, now) if group is not None and was != now]

    def _leave(self, group: Group, key: Key) -> None:
        ranking = self._rankings[group]
        ranking.remove(key[1])
        if len(ranking) == 0:
            del self._rankings[group]

    def _rank(self, agent: Agent) -> None:
        """Ranks a taker anew: it has come or changed, its load has, or it was chosen."""
        current = self._takers.get(_key(agent))
        if current is None:
            return
        group = _group(current)
        if group not in self._rankings:
            self._rankings[group] = Ranking(self._strategy)
        candidate = self._candidate(current)
        self._rankings[group].put(candidate)
        self._short.add(group)
        if candidate.load >= candidate.slots:
            self._wake_later(_key(current))

    def _wake_later(self, key: Key) -> None:
        now = self._clock.now()
        until = max(self._rests.get(key, 0.0), self._room(key).until or 0.0)
        if until > now:
            heapq.heappush(self._wakes, (until, key))

    async def _adopt(self) -> None:
        """Finds leases on which nobody works: those of this process, and those of owned agents whose claimers have died. The
        same attempt is given to the agent again, under the same key. Also finds the open tasks that name a new taker."""
        new = sorted(self._new)
        self._finished_tasks.clear()
        leases = await self._tasks.held_by(HOST_PRINCIPAL)
        living = await self._living()  # read after the leases: whoever claims has joined before
        for lease in leases:
            key, owner = (lease.workspace, lease.agent_id), lease.claim_id.rpartition("-")[0]
            agent = None
            if owner == self._owner:  # this process works on it, whichever host owns the agent by now
                agent = self._directory.known(*key)
            elif owner not in living:
                agent = self._takers.get(key)
            if agent is not None and lease.task_id not in self._finished_tasks:
                self._start(agent, lease.task_id)
        for key, task_id in await self._tasks.named(new) if new else ():
            self._note_named(key, task_id)
        self._new.difference_update(new)
        self._free.update(new)

    def _offer(self) -> None:
        """Makes claims: first for tasks that name their agents, then for each group as many as may wait, for the agents that
        would be chosen next. Nothing else makes claims, so none is made after this loop has ended."""
        free, self._free = self._free, set()
        for key in free & self._takers.keys():
            self._claim_named(self._takers[key])
        short, self._short = self._short, set()
        for group in short & self._rankings.keys():
            waiting = set(self._claims.get(group, ()))
            for _ in range(WAITING_PER_GROUP - len(waiting)):
                chosen = self._rankings[group].choose(draw=self._draw(), excluded=waiting)
                if chosen is None:
                    break
                waiting.add(chosen)
                self._claim_for(self._takers[group[0], chosen])

    def _load(self, agent: Agent) -> int:
        """How many of the agent's slots are taken: all of them if it may not be called."""
        key, now = _key(agent), self._clock.now()
        if self._rests.get(key, now) > now:
            return agent.max_concurrency
        working, room = self._working.get(key, {}), self._room(key)
        taken = len(working) + self._asked(key)
        left = room.left(sum(self._begun[task_id] >= room.since for task_id in working))
        return taken if left is None else max(taken, agent.max_concurrency - left)

    def _candidate(self, agent: Agent) -> Candidate:
        key = _key(agent)
        ended = agent.tasks_completed + agent.tasks_failed
        price = agent.options.get("price")
        return Candidate(
            agent_id=agent.agent_id,
            load=self._load(agent),
            slots=agent.max_concurrency,
            latency_ms=agent.avg_latency_ms or None,
            success=agent.tasks_completed / ended if ended else None,
            cost=price.get("output_per_mtok") if isinstance(price, dict) else None,
            region=agent.region_id,
            chosen=self._chosen.get(key, 0),
        )

    def _claim_for(self, agent: Agent) -> None:
        """Makes a claim for the agent, unless one waits already or the agent has no free slot."""
        key, group = _key(agent), _group(agent)
        if key in self._waiting or self._load(agent) >= agent.max_concurrency:
            return
        task = self._claims[group][agent.agent_id] = self._own(self._claim(agent))
        self._waiting[key] = group
        task.add_done_callback(lambda _: self._waited(key, group))

    def _waited(self, key: Key, group: Group) -> None:
        """Forgets a claim that has ended. If the agent has changed its group, the new group may lack a claim too."""
        del self._waiting[key]
        del self._claims[group][key[1]]
        if not self._claims[group]:
            del self._claims[group]
        self._short.add(group)
        if key in self._takers:
            self._short.add(_group(self._takers[key]))
        self._free.add(key)
        self._moved.set()

    def _note_named(self, key: Key, task_id: str) -> None:
        self._named.setdefault(key, set()).add(task_id)
        self._names[task_id] = key

    def _forget_named(self, task_id: str) -> None:
        key = self._names.pop(task_id, None)
        if key is not None:
            self._named[key].discard(task_id)
            if not self._named[key]:
                del self._named[key]

    def _claim_named(self, agent: Agent) -> None:
        """Makes a claim for the agent if an open task names it that is not worked on here. So it asks again after a claim
        that brought nothing, and if the task has to be tried again."""
        named = self._named.get(_key(agent))
        if named and not named <= self._working.get(_key(agent), {}).keys():
            self._claim_for(agent)

    async def _claim(self, agent: Agent) -> None:
        request = ClaimRequest(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            principal=HOST_PRINCIPAL,
            capabilities=frozenset(agent.capabilities),
            max_concurrency=agent.max_concurrency,
            max_tasks=1,
            claim_id=f"{self._owner}-{next(self._numbers)}",
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
            self._start(agent, lease.head.id)

    # --- work ----------------------------------------------------------------------------------------------------

    def _start(self, agent: Agent, task_id: str) -> None:
        key = _key(agent)
        if task_id in self._working.get(key, {}):
            return
        self._chosen[key] = next(self._numbers)
        self._begun[task_id] = self._clock.now()
        work = self._working[key][task_id] = self._own(self._work(agent, task_id))
        self._rank(agent)
        work.add_done_callback(lambda _: self._work_ended(agent, task_id))

    def _work_ended(self, agent: Agent, task_id: str) -> None:
        key = _key(agent)
        self._working[key].pop(task_id, None)
        self._begun.pop(task_id, None)
        self._causes.pop(task_id, None)
        self._finished_tasks.add(task_id)
        if not self._working[key]:
            del self._working[key]
        self._rank(agent)
        self._free.add(key)
        self._moved.set()

    async def _work(self, agent: Agent, task_id: str) -> None:
        task = await self._leased(agent, task_id)
        if task is None:
            return
        with traced(self._causes.get(task_id, "")):
            if task.status_detail is TaskDetail.CANCELLING:
                await self._report(agent, task, error=CANCELLED, requeue=False)
            else:
                await self._carry_out(agent, task)

    async def _leased(self, agent: Agent, task_id: str) -> Task | None:
        """The task, or None if its lease is over already."""
        while True:
            try:
                task, cause = await self._reads.put((agent.workspace, task_id))
            except TryLater:
                await self._clock.sleep(RETRY_S)
                continue
            if cause:
                self._causes[task_id] = cause
            held = task is not None and task.status is TaskStatus.RUNNING and task.assigned_agent == agent.agent_id
            return task if held else None

    async def _read(self, keys: Sequence[tuple[str, str]]) -> Sequence[tuple[Task | None, str]]:
        """For each (workspace, task id) the task and what led to its submit."""
        ids: dict[str, list[str]] = defaultdict(list)
        for workspace, task_id in keys:
            ids[workspace].append(task_id)
        found = {workspace: await self._tasks.get_many(workspace, some) for workspace, some in ids.items()}
        causes = await self._tasks.submit_causes([task_id for _, task_id in keys])
        return [(found[workspace].get(task_id), causes.get(task_id, "")) for workspace, task_id in keys]

    async def _carry_out(self, agent: Agent, task: Task) -> None:
        try:
            outcome = await self._give(agent, task)
        except AgentNotCalled as refused:
            await self._return_unsent(agent, task, refused)
            return
        except AgentMalformed as odd:
            outcome = _malformed(odd.message)
        except InvalidRequest as odd:
            outcome = _malformed(f"Agent {agent.agent_id}: {odd.message}")
        except PeerError as error:
            outcome = _failed(error)
        except Exception as error:
            _logger.error("giving task %s to agent %s failed", task.id, agent.agent_id, exc_info=error)
            outcome = {"error": "The control plane failed to call the agent."}
        await self._report(agent, task, **outcome)

    async def _return_unsent(self, agent: Agent, task: Task, refused: AgentNotCalled) -> None:
        """Gives back a task that the agent was not asked to do. If the agent's room does not say why, the agent rests, so that
        it does not take the same task again at once."""
        key, now = _key(agent), self._clock.now()
        if self._room(key).left(0) != 0:
            wait_s = RETRY_S if refused.retry_after_s is None else min(refused.retry_after_s, REST_S)
            self._rests[key] = now + wait_s
        self.room_changed(key)
        await self._report(agent, task, error=shown_text(refused.message, MAX_ERROR_CHARS), unsent=True)

    async def _report(
        self,
        agent: Agent,
        task: Task,
        *,
        result_json: str | None = None,
        error: str | None = None,
        requeue: bool = True,
        error_class: ErrorClass = ErrorClass.RETRYABLE,
        retry_after_s: float | None = None,
        error_code: str | None = None,
        unsent: bool = False,
    ) -> None:
        """Reports until the shard takes or refuses the report. Repeating it is safe, because it names the attempt."""
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
            cause=self._causes.get(task.id, ""),
        )
        while True:
            try:
                await self._shard(report)
                if error is None or not requeue:
                    self._forget_named(task.id)
                return
            except CallerError as refused:
                _logger.info("the report of task %s was refused: %s", task.id, refused)
                return
            except ControlPlaneError:
                await self._clock.sleep(RETRY_S)

    async def report_progress(self, agent: Agent, task: Task, progress: Progress) -> None:
        """Stores what an agent of this process reports of an attempt, and renews its lease. Repeats that until the shard takes
        or refuses it. Raises: `Conflict` if the attempt is over."""
        extension = ExtendRequest(
            workspace=agent.workspace,
            task_id=task.id,
            attempt=task.attempt,
            agent_id=agent.agent_id,
            progress=progress,
        )
        while True:
            try:
                await self._shard(extension)
                return
            except CallerError:
                raise
            except ControlPlaneError:
                await self._clock.sleep(RETRY_S)

    async def _heartbeat_forever(self) -> None:
        """Renews the leases of agents at work, and stops the tasks that were cancelled."""
        while True:
            await self._clock.sleep(self._heartbeat_s)
            if not self._working:
                continue
            with contextlib.suppress(ControlPlaneError):
                answer = await self._shard(HeartbeatRequest(agents=tuple(self._working)))
                for workspace, agent_id, task_id in answer.cancelling:
                    await self._cancel_work((workspace, agent_id), task_id)

    async def _cancel_work(self, key: Key, task_id: str) -> None:
        work = self._working.get(key, {}).get(task_id)
        agent = self._directory.known(*key)
        task = await self._tasks.get(key[0], task_id)
        if work is not None and agent is not None and task is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._report(agent, task, error=CANCELLED, requeue=False)


def outcome_of(answer: Any) -> dict[str, Any]:
    """The fields of the report of an answer. An error in which nothing can be read does not count.

    Raises: `InvalidRequest` if it cannot be stored, or holds nothing but an error that does not count."""
    if isinstance(answer, dict) and isinstance(answer.get("error"), str) and is_visible(answer["error"]):
        error = answer["error"][:MAX_ERROR_CHARS]
        check_text(error, "The error that it answered")
        return {"error": error, "requeue": answer.get("requeue") is not False}
    if isinstance(answer, dict) and "error" in answer and answer.keys() <= _OF_ERRORS:
        raise InvalidRequest("The answer has neither a result nor an error that says something.")
    result = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
    return {"result_json": write_json(result, "The answer")}


def _failed(error: PeerError) -> dict[str, Any]:
    """What to report of a call without an answer: the agent's words, and when it wants to be asked again."""
    outcome: dict[str, Any] = {"error": shown_text(error.message, MAX_ERROR_CHARS), "error_code": error.code}
    if isinstance(error, AgentUnavailable | AgentFailed):
        outcome["retry_after_s"] = error.retry_after_s
    if isinstance(error, AgentLimited):
        outcome["error_class"] = ErrorClass.RATE_LIMITED
    return outcome


def _malformed(sentence: str) -> dict[str, Any]:
    return {"error": shown_text(sentence, MAX_ERROR_CHARS), "error_class": ErrorClass.MALFORMED}


def _key(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id


def _group(agent: Agent) -> Group:
    return agent.workspace, frozenset(agent.capabilities), agent.regions, agent.explicit_only
