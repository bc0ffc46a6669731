"""Who is alive: pure decisions over signs of life and probes, so that the monitor is only their shell.

An agent that pulls is judged by its signs (heartbeats, claims, reports), one with an endpoint by its probes.

starting  registered, nothing heard yet (agents with an endpoint, until the first good probe)
alive     heard within ``SUSPECT_SHARE`` of the timeout
suspect   late, still offered work
offline   silent for the timeout; its leases go back
deaf      heartbeats, but has taken no work for ``deaf_s`` although work for it was waiting all that time

The store of signs may be away or lost. Everybody is then given a full timeout from that moment, so that losing Redis
never declares a fleet dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cluster.domain.agents.agent import Agent, Health, Intent, Liveness, TransportKind

Key = tuple[str, str]
"""(workspace, agent_id)"""

SUSPECT_SHARE = 2 / 3
DEAF_TIMEOUTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    workspace: str
    agent_id: str
    was: Liveness
    now: Liveness


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What one sweep read: the last sign of every agent, and the last one that came with work."""

    last: Mapping[Key, float] = field(default_factory=dict)
    last_activity: Mapping[Key, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Work that has been waiting since ``since`` for any agent of a workspace that has ``required``, or for
    ``target``."""

    workspace: str
    target: str | None
    required: frozenset[str]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """``since`` is from when silence counts, ``store`` which life of the store of signs it has been reading."""

    since: float
    store: str | None = None


def look(watch: Watch, store: str | None, now: float) -> Watch:
    """Before a sweep. ``store`` None: the signs could not be read, so silence until now proves nothing; nor does it in
    another life of the store than the one read before, which has forgotten what was heard."""
    if store is None:
        return replace(watch, since=now)
    return watch if watch.store == store else Watch(since=now, store=store)


def sweep(
    agents: Iterable[Agent],
    activity: Activity,
    offers: Iterable[Offer] = (),
    *,
    now: float,
    watching_since: float,
    timeout_s: float,
) -> list[Verdict]:
    """Changes of liveness of the agents that pull."""
    by_workspace: dict[str, list[Offer]] = {}
    for offer in offers:
        by_workspace.setdefault(offer.workspace, []).append(offer)
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
    agent: Agent, activity: Activity, offers: Iterable[Offer], now: float, watching_since: float, timeout_s: float
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
    if now - max(last_activity, agent.registered_at, watching_since) > deaf_s and _ignores(agent, offers, now - deaf_s):
        return Liveness.DEAF
    return Liveness.ALIVE


def _ignores(agent: Agent, offers: Iterable[Offer], before: float) -> bool:
    """Whether it had room for work that has been waiting for it since before a time."""
    if agent.intent is not Intent.ACTIVE or len(agent.running_task_ids) >= agent.max_concurrency:
        return False
    has = frozenset(agent.capabilities)
    return any(
        offer.since <= before and offer.required <= has and offer.target in (None, agent.agent_id) for offer in offers
    )


FAILURES_TO_FAIL = 3
SUCCESSES_TO_RECOVER = 2
DEGRADED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeHistory:
    """Consecutive outcomes of an endpoint's probes (wire 2.3). ``latency_s`` and ``error`` are the last probe's."""

    health: Health = Health.UNKNOWN
    failures: int = 0
    successes: int = 0
    latency_s: float | None = None
    error: str | None = None
    at: float | None = None


def probed(history: ProbeHistory, ok: bool, latency_s: float, at: float, error: str | None = None) -> ProbeHistory:
    if not ok:
        failures = history.failures + 1
        health = Health.FAILED if failures >= FAILURES_TO_FAIL else Health.DEGRADED
        if history.health is Health.FAILED:
            health = Health.FAILED
        return ProbeHistory(health=health, failures=failures, latency_s=history.latency_s, error=error, at=at)
    successes = history.successes + 1
    health = Health.DEGRADED if latency_s > DEGRADED_S else Health.HEALTHY
    if history.health is Health.FAILED and successes < SUCCESSES_TO_RECOVER:
        health = Health.FAILED
    return ProbeHistory(health=health, successes=successes, latency_s=latency_s, at=at)
