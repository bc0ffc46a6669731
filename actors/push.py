"""Ordinary tasks for agents that are called: their host claims for them, calls them, and reports what came of it.

Agents with equal capabilities compete for the same tasks. Only a few of their claims wait at the shard at a time, those
of the agents that the selection strategy would choose next, so that the choice is made before the task is there and
costs it nothing. A task that names its agent is claimed for that agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from actors.messages import BeatRequest, ClaimAnswer, ClaimRequest, GiveBackRequest, Lease, ReportRequest
from cluster.directory import AgentDirectory, Key
from cluster.domain.agents import Agent, TransportKind
from cluster.domain.errors import CallerError, ControlPlaneError, PeerError, TryLater
from cluster.domain.log import LogRow
from cluster.domain.selection import Candidate, Ranking, Strategy
from cluster.domain.tasks import Task
from cluster.loops import Died, Loops
from cluster.ports import AgentStore, Clock, TaskStore

_logger = logging.getLogger(__name__)

PRINCIPAL = "system:agent-host"
#: Claims that wait for agents with equal capabilities at a time.
WAITING_PER_GROUP = 2
LOOK_AGAIN_S = 15.0
RETRY_S = 0.5
CANCELLED = "cancelled"
#: Agents that understand a task; language models are asked in deliberations only.
TAKERS = (TransportKind.HTTP, TransportKind.IMPORT)

Group = tuple[str, frozenset[str]]
"""(workspace, capabilities): agents that compete for the same tasks"""

#: (request, patient) → the shard's answer
AskShard = Callable[..., Awaitable[Any]]
#: The parsed answer of an agent that was given a task; raises PeerError.
GiveTask = Callable[[Agent, Task], Awaitable[Any]]


class PushTasks:
    """``mine`` says which agents this host carries now."""

    def __init__(
        self,
        *,
        directory: AgentDirectory,
        agents: AgentStore,
        tasks: TaskStore,
        clock: Clock,
        shard: AskShard,
        give: GiveTask,
        mine: Callable[[Agent], bool],
        strategy: Strategy,
        draw: Callable[[], float],
        owner: str,
        beat_s: float,
        died: Died,
    ) -> None:
        self._directory = directory
        self._agents = agents
        self._tasks = tasks
        self._clock = clock
        self._shard = shard
        self._give = give
        self._mine = mine
        self._strategy = strategy
        self._draw = draw
        self._owner = owner
        self._beat_s = beat_s
        self._numbers = itertools.count(1)
        self._chosen: dict[Key, int] = {}
        self._waiting: dict[Key, tuple[Group, asyncio.Task[None]]] = {}
        self._working: dict[Key, dict[str, asyncio.Task[None]]] = defaultdict(dict)
        self._carried: set[Key] = set()
        self._groups: dict[Group, dict[str, Agent]] = {}
        self._rankings: dict[Group, Ranking] = {}
        self._dirty = True
        self._look_at = 0.0
        self._owned: set[asyncio.Task[None]] = set()
        self._loops = Loops(died)
        self._moved = asyncio.Event()

    async def start(self) -> None:
        self._loops.start(self._forever(), self._beat_forever())

    async def stop(self) -> None:
        await self._loops.stop()
        for task in list(self._owned):
            task.cancel()
        await asyncio.gather(*self._owned, return_exceptions=True)

    def apply(self, rows: Sequence[LogRow]) -> None:
        """What concerns claims: agents that changed, tasks that name their agent."""
        for row in rows:
            if row.kind.startswith("agent."):
                self.changed()
            elif row.kind == "task.submitted" and isinstance(row.data.get("target_agent"), str):
                agent = self._directory.known(row.workspace, row.data["target_agent"])
                if agent is not None and self._takes(agent):
                    self._claim_for(agent, wait=True)

    def changed(self) -> None:
        """Agents, or the hosts that carry them, are not what they were."""
        self._dirty = True
        self._moved.set()

    def give_back(self, request: Any, answer: Any) -> None:
        """A lease that came after its claim had been given up."""
        if isinstance(request, ClaimRequest) and isinstance(answer, ClaimAnswer):
            for lease in answer.leases:
                if lease.head.id not in self._working.get((request.workspace, request.agent_id), {}):
                    self._own(self._give_back(request, lease))

    async def _give_back(self, claim: ClaimRequest, lease: Lease) -> None:
        with contextlib.suppress(ControlPlaneError):
            await self._shard(
                GiveBackRequest(
                    workspace=claim.workspace,
                    task_id=lease.head.id,
                    attempt=lease.head.attempt,
                    agent_id=claim.agent_id,
                )
            )

    @property
    def working(self) -> int:
        return sum(len(tasks) for tasks in self._working.values())

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)
        return task

    def _takes(self, agent: Agent) -> bool:
        return agent.transport in TAKERS and agent.takes_work and self._mine(agent)

    # --- claims --------------------------------------------------------------------------------------------------

    async def _forever(self) -> None:
        """Whatever is missed (a retry of a task that names its agent) is found by looking again."""
        while True:
            self._moved.clear()
            try:
                await self._look()
                self._offer()
                await self._moved_or(max(0.0, self._look_at - self._clock.now()))
            except TryLater as error:
                _logger.warning("tasks of called agents have to wait: %s", error)
                self._dirty = True
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
        due = self._clock.now() >= self._look_at
        if not (self._dirty or due):
            return
        self._dirty = False
        takers = [agent for agent in self._directory.agents() if self._takes(agent)]
        before, self._groups = self._groups, defaultdict(dict)
        for agent in takers:
            self._groups[agent.workspace, frozenset(agent.capabilities)][agent.agent_id] = agent
        self._rank_again(before)
        self._choose_again(before)
        await self._adopt(takers)
        if due:
            self._look_at = self._clock.now() + LOOK_AGAIN_S
            for agent in takers:
                self._claim_for(agent, wait=False)

    def _rank_again(self, before: Mapping[Group, Mapping[str, Agent]]) -> None:
        """Only what is not as it was: an agent that has changed is another object."""
        for group in [group for group in self._rankings if group not in self._groups]:
            del self._rankings[group]
        for group, agents in self._groups.items():
            ranking = self._rankings.get(group)
            if ranking is None:
                ranking = self._rankings[group] = Ranking(self._strategy)
            known = before.get(group, {})
            for agent_id in known.keys() - agents.keys():
                ranking.remove(agent_id)
            for agent_id, agent in agents.items():
                if known.get(agent_id) is not agent:
                    ranking.put(self._candidate(agent))

    def _rank(self, agent: Agent) -> None:
        """Its load, or the time of its last choice, is not what it was."""
        group = (agent.workspace, frozenset(agent.capabilities))
        current = self._groups.get(group, {}).get(agent.agent_id)
        if current is not None:
            self._rankings[group].put(self._candidate(current))

    def _choose_again(self, before: Mapping[Group, Mapping[str, Agent]]) -> None:
        """Claims that wait were chosen among the agents of their group as they were then."""
        for group, claim in list(self._waiting.values()):
            if self._groups.get(group, {}).keys() != before.get(group, {}).keys():
                claim.cancel()

    async def _adopt(self, takers: Sequence[Agent]) -> None:
        """Leases of agents that this host did not carry before: whoever held them for the agent is gone, and asks no
        more. The same attempt is given to the agent again, under the same key."""
        new = [(a.workspace, a.agent_id) for a in takers if (a.workspace, a.agent_id) not in self._carried]
        for key, agent in (await self._agents.get_many(new)).items():
            known = self._working.get(key, {})
            ids = [task_id for task_id in agent.running_task_ids if task_id not in known]
            for task in (await self._tasks.get_many(key[0], ids)).values() if ids else ():
                self._start(agent, task)
        self._carried = {(agent.workspace, agent.agent_id) for agent in takers}

    def _offer(self) -> None:
        """As many claims of a group as may wait, of the agents that would be chosen next."""
        waiting: Counter[Group] = Counter(group for group, _ in self._waiting.values())
        waiting_ids: dict[str, set[str]] = defaultdict(set)
        for workspace, agent_id in self._waiting:
            waiting_ids[workspace].add(agent_id)
        for group, agents in self._groups.items():
            missing = WAITING_PER_GROUP - waiting[group]
            if missing <= 0:
                continue
            ranking = self._rankings[group]
            for _ in range(missing):
                chosen = ranking.choose(draw=self._draw(), excluded=waiting_ids[group[0]])
                if chosen is None:
                    break
                waiting_ids[group[0]].add(chosen)
                self._claim_for(agents[chosen], wait=True)

    def _candidate(self, agent: Agent) -> Candidate:
        key = (agent.workspace, agent.agent_id)
        ended = agent.tasks_completed + agent.tasks_failed
        price = agent.options.get("price")
        return Candidate(
            agent_id=agent.agent_id,
            load=len(self._working.get(key, ())),
            slots=agent.max_concurrency,
            latency_ms=agent.avg_latency_ms or None,
            success=agent.tasks_completed / ended if ended else None,
            cost=price.get("output_per_mtok") if isinstance(price, dict) else None,
            region=agent.region_id,
            chosen=self._chosen.get(key, 0),
        )

    def _claim_for(self, agent: Agent, *, wait: bool) -> None:
        key = (agent.workspace, agent.agent_id)
        if key in self._waiting or len(self._working.get(key, ())) >= agent.max_concurrency:
            return
        task = self._own(self._claim(agent, wait))
        self._waiting[key] = ((agent.workspace, frozenset(agent.capabilities)), task)
        task.add_done_callback(lambda _: self._waited(key))

    def _waited(self, key: Key) -> None:
        self._waiting.pop(key, None)
        self._moved.set()

    async def _claim(self, agent: Agent, wait: bool) -> None:
        request = ClaimRequest(
            workspace=agent.workspace,
            agent_id=agent.agent_id,
            principal=PRINCIPAL,
            capabilities=frozenset(agent.capabilities),
            max_concurrency=agent.max_concurrency,
            max_tasks=1,
            claim_id=f"{self._owner}-{next(self._numbers)}",
            own_claim_id=True,
            wait=wait,
        )
        try:
            answer: ClaimAnswer = await self._shard(request, patient=wait)
        except ControlPlaneError as error:
            _logger.info("a claim for agent %s was not answered: %s", agent.agent_id, error)
            await self._clock.sleep(RETRY_S)
            return
        for lease in answer.leases:
            await self._take(agent, lease)

    async def _take(self, agent: Agent, lease: Lease) -> None:
        key = (agent.workspace, agent.agent_id)
        self._chosen[key] = next(self._numbers)
        self._rank(agent)
        while True:
            try:
                task = await self._tasks.get(agent.workspace, lease.head.id)
                break
            except TryLater:
                await self._clock.sleep(RETRY_S)
        if task is not None and lease.head.id not in self._working.get(key, {}):
            self._start(agent, task)

    # --- work ----------------------------------------------------------------------------------------------------

    def _start(self, agent: Agent, task: Task) -> None:
        key = (agent.workspace, agent.agent_id)
        work = self._own(self._work(agent, task))
        self._working[key][task.id] = work
        self._rank(agent)
        work.add_done_callback(lambda _: self._worked(agent, task.id))

    def _worked(self, agent: Agent, task_id: str) -> None:
        key = (agent.workspace, agent.agent_id)
        self._working[key].pop(task_id, None)
        if not self._working[key]:
            del self._working[key]
        self._rank(agent)
        self._moved.set()

    async def _work(self, agent: Agent, task: Task) -> None:
        try:
            answer = await self._give(agent, task)
        except PeerError as error:
            await self._report(agent, task, error=error.message)
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _logger.error("giving task %s to agent %s failed", task.id, agent.agent_id, exc_info=error)
            await self._report(agent, task, error="The control plane failed to call the agent.")
            return
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            await self._report(agent, task, error=answer["error"][:16_384], requeue=answer.get("requeue") is not False)
            return
        result = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
        await self._report(agent, task, result_json=json.dumps(result, ensure_ascii=False))

    async def _report(
        self,
        agent: Agent,
        task: Task,
        *,
        result_json: str | None = None,
        error: str | None = None,
        requeue: bool = True,
    ) -> None:
        """Until it is taken or refused: the attempt makes repeats safe."""
        report = ReportRequest(
            workspace=agent.workspace,
            principal=PRINCIPAL,
            task_id=task.id,
            attempt=task.attempt,
            agent_id=agent.agent_id,
            result_json=result_json,
            error=error,
            requeue=requeue,
        )
        while True:
            try:
                await self._shard(report)
                return
            except CallerError as refused:
                _logger.info("the report of task %s was refused: %s", task.id, refused)
                return
            except ControlPlaneError:
                await self._clock.sleep(RETRY_S)

    async def _beat_forever(self) -> None:
        """Leases of agents at work are renewed; what was cancelled is stopped."""
        while True:
            await self._clock.sleep(self._beat_s)
            if not self._working:
                continue
            with contextlib.suppress(ControlPlaneError):
                answer = await self._shard(BeatRequest(agents=tuple(self._working)))
                for workspace, agent_id, task_id in answer.cancelling:
                    await self._stop_work((workspace, agent_id), task_id)

    async def _stop_work(self, key: Key, task_id: str) -> None:
        work = self._working.get(key, {}).get(task_id)
        agent = self._directory.known(*key)
        task = await self._tasks.get(key[0], task_id)
        if work is not None and agent is not None and task is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._report(agent, task, error=CANCELLED, requeue=False)
