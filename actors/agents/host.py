"""An agent host: owns agents, thousands in one process. It calls those with an endpoint or a class; a question to a pull
agent becomes a task.

Calls of one agent are bounded by its slots, its rate and its breaker. The host stores what the breaker learns, and the
health monitor makes it part of the agent's health.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from actors.agents.bounded_calls import AskAgent, BoundedCalls, MayLeave, ask_of
from actors.agents.called_agents import PushTasks
from actors.agents.given_tasks import described
from actors.agents.membership import RENEW_S, STAND_S, LiveHosts, Membership, NeighbourWatch
from actors.agents.outputs import TaskOutputs
from actors.agents.pull_calls import ENDED_KINDS, PullCalls
from actors.agents.questions import Questions
from actors.agents.task_reports import reporter
from actors.roles import Role
from cluster.domain.agents.agent import Agent
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.placement import is_owner
from cluster.domain.agents.selection import Strategy
from cluster.domain.base.errors import (
    AgentMalformed,
    TryLater,
)
from cluster.domain.base.json_values import parse_json
from cluster.domain.base.log import LogRow
from cluster.domain.tasks.agent_outcomes import Outcome, outcome_of
from cluster.domain.tasks.chats import Chat, NotAChat, NotAnAnswer, answer_of, chat_of
from cluster.domain.tasks.events import Reporter
from cluster.domain.tasks.task import Task
from cluster.log.agent_directory import AgentDirectory, Key
from cluster.log.follower import LogFollower
from cluster.ports.agent_transport import Ask, judged
from cluster.ports.agents import AgentStore
from cluster.ports.breakers import BreakerStore
from cluster.ports.chunks import Chunks
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.ports.log import Log, LogFilter
from cluster.ports.tasks import TaskStore
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.large import in_thread_if_large
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.rpc.exchange import ExchangeClient, ExchangeReply, SentCall

_logger = logging.getLogger(__name__)

#: Kinds of log rows that a host reads, by their prefixes.
FOLLOWS = ("agent.", "task.submitted", *ENDED_KINDS)

#: The least time between two reads of the log.
APART_S = 0.02


class AgentHost:
    """The host that plays ``role``: it owns the agents that rendezvous hashing over the living hosts gives it, or the one
    agent whose own actor it is."""

    def __init__(
        self,
        *,
        role: Role,
        hosts: LiveHosts,
        owner: str,
        region: str,
        agents: AgentStore,
        tasks: TaskStore,
        chunks: Chunks,
        breakers: BreakerStore,
        leases: Leases,
        log: Log,
        doorbell: Doorbell,
        clock: Clock,
        ask: AskAgent,
        shard: ExchangeClient,
        stand: Callable[[Role], Awaitable[None]],
        strategy: Strategy,
        draw: Callable[[], float],
        lease_ttl_s: float,
        on_fatal: OnFatal = unwatched,
        may_leave: MayLeave | None = None,
    ) -> None:
        self._role = role
        #: The copy of the registry. `_load` fills it (a dedicated agent's actor reads that agent alone), `_apply` follows.
        self._directory = AgentDirectory(agents)
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        #: The exchange with the scheduler shard, which pull calls and called agents' tasks share.
        self._shard = shard
        #: The lease of this process. `start` takes it, `_stay` renews it, `stop` releases it.
        self._membership = Membership(leases, role, owner)
        self._hosts = hosts
        self._neighbours = NeighbourWatch(hosts, leases, clock, owner, stand)
        #: The hosts that lived when `_note_hosts` last looked (`start` looks first). Who owns an agent follows from them.
        self._live: tuple[int, ...] = ()
        #: The hosts' processes of the same look. One that is missing at the next look was lost, with what it worked on.
        self._owners: Set[str] = frozenset()
        #: The agents that this host owns. `_apply` keeps it up to date as agents change, `_reassign` as hosts do: to compute
        #: it anew for every change would cost a hash per agent and host.
        self._owned: set[Key] = set()
        self._loops = Loops(on_fatal)
        self.bounds = BoundedCalls(
            breakers=breakers,
            clock=clock,
            ask=ask,
            changed=lambda key: self._push.bounds_changed(key),
            may_leave=may_leave,
        )
        self._outputs = TaskOutputs(chunks, doorbell, clock)
        self._pull_calls = PullCalls(tasks=tasks, doorbell=doorbell, clock=clock, shard=shard.request, region=region)
        #: What deliberations ask.
        self.questions = Questions(
            directory=self._directory,
            bounds=self.bounds,
            pull_calls=self._pull_calls,
            clock=clock,
            dedicated=role.agent is not None,
            changed=lambda key: self._push.bounds_changed(key),
        )
        self._push = PushTasks(
            directory=self._directory,
            tasks=tasks,
            clock=clock,
            shard=shard.request,
            give=self._give,
            breaker=self.bounds.breaker,
            asked=self.questions.asked,
            owned=lambda: self._owned,
            living=self._living,
            strategy=strategy,
            draw=draw,
            owner=owner,
            heartbeat_s=lease_ttl_s / 3,
            on_fatal=on_fatal,
        )

    async def start(self) -> None:
        """Joins the hosts, reads what is stored, and starts the loops."""
        await self._membership.join()
        self._live, self._owners = await self._hosts.alive(), (await self._hosts.owners()).keys()
        await self.bounds.load(self._role.agent)
        cursor = await self._load()
        self._reassign()
        await self._membership.renew()  # reading may have taken longer than the lease lasts
        follower = LogFollower(
            self._log,
            self._doorbell,
            self._clock,
            after=cursor,
            apply=self._apply,
            only=LogFilter(kinds=FOLLOWS),
            topics=(WakeTopic.AGENTS, WakeTopic.NAMED, WakeTopic.PULL_CALLS),
            apart_s=APART_S,
        )
        self._loops.start(follower.run(), self._stay(), self._watch(), self.questions.withdraw_abandoned())
        await self._push.start()

    async def _load(self) -> int:
        """Reads the agents and returns the log's cursor. The cursor is read first, so that a change in between is read
        again and not missed."""
        if self._role.agent is None:
            return await self._directory.load()
        cursor = await self._log.head()
        await self._directory.get(*self._role.agent)
        return cursor

    async def stop(self) -> None:
        """Ends all that runs here and leaves the hosts, so that its agents pass to the others."""
        await self._loops.stop()
        await self.questions.stop()
        await self.bounds.stop()
        await self._push.stop()
        await self._pull_calls.stop()
        await self._membership.leave()
        await self._shard.close()

    async def exchange(self, call: SentCall) -> ExchangeReply:
        """Takes one call of the exchange: deliberation workers ask for answers of agents (`AgentCall`)."""
        return await self.questions.exchange.call(call)

    async def status(self) -> dict[str, Any]:
        """Returns the number of its agents, of calls and tasks under way, and the indexes of the living hosts."""
        return {
            "agents": len(self._owned),
            "calls": len(self.questions),
            "tasks": self._push.working,
            "hosts": list(self._live),
        }

    def release(self, answer: Any) -> None:
        """Takes a late reply of the shard: a lease whose claim was given up before it came."""
        self._push.release(answer)

    def owns(self, agent: Agent) -> bool:
        """Whether this host owns the agent, given the hosts that lived at the last look."""
        return is_owner(agent, index=self._role.index, alone=self._role.agent, alive=self._live)

    def _reassign(self) -> None:
        self._owned = {(agent.workspace, agent.agent_id) for agent in self._directory.agents() if self.owns(agent)}

    async def _stay(self) -> None:
        while True:
            await self._clock.sleep(RENEW_S)
            try:
                await self._membership.renew()
                await self._note_hosts()
            except TryLater as error:
                _logger.warning("the hosts cannot be read now, will try again: %s", error)

    async def _watch(self) -> None:
        """Ends the lease of a neighbour that died, and looks at the hosts at once. Not for dedicated agents: an agent's own
        actor is replaced by Ray alone."""
        while self._role.agent is None:
            await self._neighbours.lost()
            with contextlib.suppress(TryLater):
                await self._hosts.look()
                await self._note_hosts()

    async def _living(self) -> Set[str]:
        await self._hosts.look()
        return (await self._hosts.owners()).keys()

    async def stand(self) -> None:
        """Returns after ``STAND_S``. If the call breaks before, the neighbour that made it knows that this process died."""
        await self._clock.sleep(STAND_S)

    async def _note_hosts(self) -> None:
        before, self._live = self._live, await self._hosts.alive()
        known, self._owners = self._owners, (await self._hosts.owners()).keys()
        lost = bool(known - self._owners)
        if before != self._live:
            self._reassign()
        if before != self._live or lost:
            self._push.hosts_changed(lost=lost)

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        if self._role.agent is not None:
            rows = [row for row in rows if row.kind in ENDED_KINDS or _about(row) == self._role.agent]
        await self._directory.apply(rows)
        for key in {(row.workspace, row.entity) for row in rows if row.kind.startswith("agent.")}:
            agent = self._directory.known(*key)
            (self._owned.add if agent is not None and self.owns(agent) else self._owned.discard)(key)
        self._pull_calls.apply(rows)
        self._push.apply(rows)
        for row in rows:
            if row.kind == "agent.unregistered":
                self.bounds.forget((row.workspace, row.entity))
            elif row.kind == "agent.registered":
                self.bounds.registered_again((row.workspace, row.entity))

    # --- tasks ---------------------------------------------------------------------------------------------------

    async def _give(self, agent: Agent, task: Task, children: Sequence[Task]) -> Outcome:
        """Gives an ordinary task to an agent and returns what becomes of the attempt. The key names the attempt, so an agent that
        gets it again can tell.

        Raises: `AgentNotCalled` if the agent may not be called now; another `PeerError` if the call brought no answer;
        `InvalidRequest` if the answer cannot be stored."""
        now = self._clock.now()
        left_s = task.timeout_s - max(0.0, now - (task.started_at or now))
        # It may have registered again while its claim waited: with another endpoint, model or options.
        agent = self._directory.known(agent.workspace, agent.agent_id) or agent
        ask = ask_of(agent, f"{task.id}:{task.attempt}", max(0.001, left_s))
        if task.rules is not None and task.rules.retries is not None:
            ask = replace(ask, tries=task.rules.retries.calls)
        if agent.chats:
            return await self._chat(agent, ask, task)
        report = functools.partial(self._push.report_progress, agent, task)
        reply = await self.bounds.call(agent, replace(ask, task=described(agent, task, children), report=report))
        return await in_thread_if_large(len(reply.text), _work_outcome, reply.text, reporter(agent, task))

    async def _chat(self, agent: Agent, ask: Ask, task: Task) -> Outcome:
        try:
            chat = chat_of(task.payload)
        except NotAChat as error:
            return outcome_of({"error": str(error), "requeue": False}, reporter(agent, task))
        async with self._outputs.of(agent, task) as told:
            reply = await self.bounds.call(
                agent,
                replace(
                    ask,
                    messages=chat.messages,
                    schema=chat.schema,
                    max_tokens=chat.max_tokens,
                    allow_incomplete=chat.allow_incomplete,
                    told=told,
                ),
            )
        try:
            return await in_thread_if_large(len(reply.text), _chat_outcome, chat, reply, reporter(agent, task))
        except NotAnAnswer as error:
            raise AgentMalformed(f"Agent {agent.agent_id}: {error} {reply.complaint}".rstrip()) from None


def _work_outcome(text: str, by: Reporter) -> Outcome:
    with judged():
        answer = parse_json(text, f"The answer of agent {by.agent_id}")
    return outcome_of(answer, by)


def _chat_outcome(chat: Chat, reply: Reply, by: Reporter) -> Outcome:
    usage = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens, "estimated": reply.estimated}
    why = {"finish_reason": reply.finish_reason} if reply.finish_reason else {}
    return outcome_of({"result": {**answer_of(chat, reply.text), **why, "usage": usage}}, by)


def _about(row: LogRow) -> Key:
    """The agent that a row concerns: it changed, or a new task names it."""
    return row.workspace, str(row.data.get("target_agent")) if row.kind == "task.submitted" else row.entity
