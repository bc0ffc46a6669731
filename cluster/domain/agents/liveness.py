"""Which agents are alive: decisions from heartbeats and probes, which the health monitor reads and carries out.

A pull agent is judged by its heartbeats and its activity (claims, reports), one with an endpoint by its probes.

starting  registered, not heard yet (agents with an endpoint, until the first good probe)
alive     heard within ``SUSPECT_SHARE`` of the timeout
suspect   late, but still offered work
offline   silent for the timeout; it loses its leases
deaf      sends heartbeats, but has taken no work for ``DEAF_TIMEOUTS`` timeouts although work for it waited all that time

Redis, which stores the heartbeats, may be away or lose them. Every agent then has a full timeout from that moment on, so that
the loss of Redis never declares a fleet dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.domain.agents.agent import Agent, Intent, Liveness, TransportKind

Key = tuple[str, str]
"""(workspace, agent_id)"""

SUSPECT_SHARE = 2 / 3
DEAF_TIMEOUTS = 3

_REASONS = {
    Liveness.STARTING: "signs of life",
    Liveness.ALIVE: "signs of life",
    Liveness.SUSPECT: "signs of life are late",
    Liveness.OFFLINE: "no sign of life",
    Liveness.DEAF: "takes no work that is offered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A change of an agent's liveness."""

    workspace: str
    agent_id: str
    was: Liveness
    now: Liveness

    @property
    def reason(self) -> str:
        """Why, as the log has it."""
        return _REASONS[self.now]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What one sweep read, as epoch seconds: when each agent was last heard, and when it last claimed or reported."""

    last: Mapping[Key, float] = field(default_factory=dict)
    last_activity: Mapping[Key, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingWork:
    """Work that has been waiting since ``since`` for any agent of a workspace that has ``required``, or for
    ``target``."""

    workspace: str
    target: str | None
    required: frozenset[str]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """``since`` is from when silence counts. ``store`` identifies the data in Redis that is read: it changes with a loss."""

    since: float
    store: str | None = None


def next_watch(watch: Watch, store: str | None, now: float) -> Watch:
    """The watch for the next sweep. ``store`` is None if the heartbeats could not be read.

    Silence until now then proves nothing. Nor does it if the store is not the one that was read before, since that one's
    heartbeats are lost."""
    if store is None:
        return replace(watch, since=now)
    return watch if watch.store == store else Watch(since=now, store=store)


def sweep(
    agents: Iterable[Agent],
    activity: Activity,
    waiting: Iterable[WaitingWork] = (),
    *,
    now: float,
    watching_since: float,
    timeout_s: float,
) -> list[Verdict]:
    """The changes of liveness among the pull agents. The work that waits tells who is deaf."""
    by_workspace: dict[str, list[WaitingWork]] = {}
    for work in waiting:
        by_workspace.setdefault(work.workspace, []).append(work)
    verdicts = []
    for agent in agents:
        if agent.transport is not TransportKind.PULL:
            continue
        desired = _judge(agent, activity, by_workspace.get(agent.workspace, ()), now, watching_since, timeout_s)
        if desired is not agent.liveness:
            verdicts.append(
                Verdict(workspace=agent.workspace, agent_id=agent.agent_id, was=agent.liveness, now=desired)
            )
    return verdicts


def _judge(
    agent: Agent,
    activity: Activity,
    waiting: Iterable[WaitingWork],
    now: float,
    watching_since: float,
    timeout_s: float,
) -> Liveness:
    key = (agent.workspace, agent.agent_id)
    heard = activity.last.get(key)
    silence = now - max(heard or 0.0, watching_since, min(agent.registered_at, now))
    if silence > timeout_s:
        return Liveness.OFFLINE
    if heard is None or heard < watching_since:
        return agent.liveness  # not heard since the watch began: what it was, until the timeout
    if silence > timeout_s * SUSPECT_SHARE:
        return Liveness.DEAF if agent.liveness is Liveness.DEAF else Liveness.SUSPECT
    last_activity, deaf_s = activity.last_activity.get(key, 0.0), timeout_s * DEAF_TIMEOUTS
    if agent.liveness is Liveness.DEAF and now - last_activity > deaf_s:
        return Liveness.DEAF
    if now - max(last_activity, agent.registered_at, watching_since) > deaf_s and _ignores(
        agent, waiting, now - deaf_s
    ):
        return Liveness.DEAF
    return Liveness.ALIVE


def _ignores(agent: Agent, waiting: Iterable[WaitingWork], before: float) -> bool:
    """Whether an agent has a free slot and leaves work alone that has waited for it since ``before``."""
    if agent.intent is not Intent.ACTIVE or len(agent.running_task_ids) >= agent.max_concurrency:
        return False
    has = frozenset(agent.capabilities)
    return any(
        work.since <= before and work.required <= has and work.target in (None, agent.agent_id) for work in waiting
    )
