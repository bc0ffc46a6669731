"""Deregisters agents that are gone for long, as DELETE does. The health monitor runs it after each sweep."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from cluster.domain.agents.agent import Agent, Health, Liveness
from cluster.domain.agents.endpoint_health import ProbeHistory
from cluster.domain.agents.expiry import EXPIRED, absent_for_s
from cluster.domain.agents.liveness import Key
from cluster.domain.base.log import LogRecord
from cluster.ports.agents import AgentStore
from cluster.ports.presence import HeartbeatStore
from cluster.ports.wake_ups import Doorbell, WakeTopic

_logger = logging.getLogger(__name__)

#: Deregistered in one commit. The next sweep takes more.
AT_ONCE = 1000


class AgentExpiry:
    """An agent that is gone for ``expiry_s`` leaves the fleet, unless it has a task in hand or sits in a deliberation."""

    def __init__(
        self, agents: AgentStore, heartbeats: HeartbeatStore, doorbell: Doorbell, *, expiry_s: float, principal: str
    ) -> None:
        self._agents = agents
        self._heartbeats = heartbeats
        self._doorbell = doorbell
        self._expiry_s = expiry_s
        self._principal = principal

    async def deregister_expired(
        self,
        known: Iterable[Agent],
        heard: Mapping[Key, float],
        probes: Mapping[Key, ProbeHistory],
        *,
        now: float,
        watching_since: float,
    ) -> list[Key]:
        """Deregisters those of the known agents that are gone for long; returns them. ``known`` may be old, as it only says whom
        to read. ``heard``: when agents were heard last.

        Raises: ``TryLater``."""

        def has_expired(agent: Agent) -> bool:
            key = (agent.workspace, agent.agent_id)
            return absent_for_s(agent, heard.get(key), probes.get(key), now, watching_since) > self._expiry_s

        maybe = [agent for agent in known if Liveness.OFFLINE is agent.liveness or Health.FAILED is agent.health]
        keys = [(agent.workspace, agent.agent_id) for agent in maybe if has_expired(agent)][:AT_ONCE]
        stored = await self._agents.get_many(keys)
        idle = [key for key, agent in stored.items() if has_expired(agent) and not agent.running_task_ids]
        busy = await self._agents.deliberating(idle)
        leaving = [key for key in idle if key not in busy]
        if not leaving:
            return []
        removed = await self._agents.remove([self._record(key, now) for key in leaving])
        done = [key for key, was_there in zip(leaving, removed, strict=True) if was_there]
        _logger.info("%d agents are deregistered, as they are gone for %g s: %s", len(done), self._expiry_s, done[:10])
        await self._heartbeats.forget(done)
        await self._doorbell.notify(WakeTopic.AGENTS)
        return done

    def _record(self, key: Key, now: float) -> LogRecord:
        return LogRecord(
            at=now,
            workspace=key[0],
            kind="agent.unregistered",
            entity=key[1],
            principal=self._principal,
            data={"agent_id": key[1], "reason": EXPIRED},
        )
