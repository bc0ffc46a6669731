"""The registry of agents."""

from __future__ import annotations

import builtins
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.domain.agents.agent import Agent, Dedicated, Health, Intent, IntentBy, Liveness, TransportKind
from cluster.domain.agents.credential_use import use_of
from cluster.domain.agents.options import AgentOptions
from cluster.domain.base.log import LogRecord
from cluster.domain.quotas.quotas import OverQuota, QuotaKind
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.agents import AgentChange, DedicatedAgent, Registered, RegisterItem
from cluster.ports.presence import HeartbeatRecord
from cluster.postgres.log import Epoch, log_rows, waves
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("agents")


class PostgresAgents:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def register(self, items: Sequence[RegisterItem]) -> list[Registered]:
        outcomes: dict[int, tuple[int | None, bool, bool]] = {}
        for part in waves(items, lambda item: (item.agent.origin.workspace, item.agent.agent_id)):
            rows = await self._register([item for _, item in part], "register_agents")
            for (index, _), row in zip(part, rows, strict=True):
                outcomes[index] = (row["seq"], row["created"], row["conflict"])
        return await self._registered(items, outcomes)

    async def register_within_quotas(self, items: Sequence[RegisterItem]) -> list[Registered] | OverQuota:
        outcomes: dict[int, tuple[int | None, bool, bool]] = {}
        for part in waves(items, lambda item: (item.agent.origin.workspace, item.agent.agent_id)):
            rows = await self._register([item for _, item in part], "register_within_quotas")
            if rows[0]["most"] is not None:
                # Of the first wave, since a later one has no agent that is new.
                return OverQuota(QuotaKind.AGENTS, rows[0]["most"], rows[0]["agents"])
            for (index, _), row in zip(part, rows, strict=True):
                outcomes[index] = (row["seq"], row["created"], row["conflict"])
        return await self._registered(items, outcomes)

    async def _registered(
        self, items: Sequence[RegisterItem], outcomes: Mapping[int, tuple[int | None, bool, bool]]
    ) -> list[Registered]:
        keys = [(item.agent.origin.workspace, item.agent.agent_id) for item in items]
        stored = await self.get_many(keys)
        return [
            Registered(agent=stored.get(key), seq=seq, created=created, conflict=conflict)
            for key, (seq, created, conflict) in zip(keys, (outcomes[i] for i in range(len(items))), strict=True)
        ]

    async def _register(self, items: Sequence[RegisterItem], statement: str) -> Sequence[Any]:
        agents = [item.agent for item in items]
        keys = [item.idempotency for item in items]
        return await self._pool.rows(
            _SQL[statement],
            self._epoch.region,
            self._epoch.value,
            agents[0].registered_at,
            [_json(agent.capabilities) for agent in agents],
            [agent.model for agent in agents],
            [agent.provider for agent in agents],
            [_json(agent.metadata) for agent in agents],
            [_json(agent.tags) for agent in agents],
            [agent.region_id for agent in agents],
            [_json(agent.available_regions) for agent in agents],
            [agent.transport.value for agent in agents],
            [agent.endpoint for agent in agents],
            [agent.max_concurrency for agent in agents],
            [_json(agent.options.given) for agent in agents],
            [agent.dedicated and _json(asdict(agent.dedicated)) for agent in agents],
            [agent.credential and _json(agent.credential.stored()) for agent in agents],
            [key and key.route for key in keys],
            [key and key.key for key in keys],
            [key and key.body_digest for key in keys],
            log_rows([item.record for item in items], self._epoch),
        )

    async def change(self, changes: Sequence[AgentChange]) -> list[bool]:
        known = [False] * len(changes)
        for part in waves(changes, lambda change: (change.workspace, change.agent_id)):
            values = await self._pool.value(
                _SQL["change_agents"],
                self._epoch.region,
                self._epoch.value,
                [change.intent and change.intent.value for _, change in part],
                [change.intent_by and change.intent_by.value for _, change in part],
                [change.liveness and change.liveness.value for _, change in part],
                [change.health and change.health.value for _, change in part],
                log_rows([change.record for _, change in part], self._epoch),
            )
            for (index, _), value in zip(part, values, strict=True):
                known[index] = value
        return known

    async def remove(
        self, removals: Sequence[LogRecord], keys: Sequence[IdempotencyKey | None] | None = None
    ) -> list[bool]:
        keys = keys or [None] * len(removals)
        return list(
            await self._pool.value(
                _SQL["remove_agents"],
                self._epoch.region,
                self._epoch.value,
                log_rows(removals, self._epoch),
                [key and key.route for key in keys],
                [key and key.key for key in keys],
                [key and key.body_digest for key in keys],
            )
        )

    async def get(self, workspace: str, agent_id: str) -> Agent | None:
        return (await self.get_many([(workspace, agent_id)])).get((workspace, agent_id))

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Agent]:
        if not keys:
            return {}
        unique_keys = sorted(set(keys))
        rows = await self._pool.rows(
            _SQL["get_agents"], [key[0] for key in unique_keys], [key[1] for key in unique_keys]
        )
        return {(row["workspace"], row["agent_id"]): _agent(row) for row in rows}

    async def list(self, workspace: str, capability: str | None = None) -> list[Agent]:
        agents = [_agent(row) for row in await self._pool.rows(_SQL["list_agents"], workspace)]
        return agents if capability is None else [agent for agent in agents if capability in agent.capabilities]

    async def record_heartbeats(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        latest: dict[tuple[str, str], float] = {}
        for heartbeat in heartbeats:
            key = (heartbeat.workspace, heartbeat.agent_id)
            latest[key] = max(heartbeat.at, latest.get(key, heartbeat.at))
        if latest:
            keys = list(latest)
            await self._pool.execute(
                _SQL["agents_seen"], [key[0] for key in keys], [key[1] for key in keys], list(latest.values())
            )

    async def findings(self, workspace: str, agent_id: str) -> int:
        return int(await self._pool.value(_SQL["agent_findings"], workspace, agent_id))

    async def dedicated(self) -> builtins.list[DedicatedAgent]:
        return [
            DedicatedAgent(
                workspace=row["workspace"],
                agent_id=row["agent_id"],
                needs=Dedicated(**json.loads(row["dedicated_text"])),
            )
            for row in await self._pool.rows(_SQL["dedicated_agents"])
        ]

    async def unschedulable(self, of: Collection[tuple[str, str]] | None = None) -> frozenset[tuple[str, str]]:
        if of is None:
            rows = await self._pool.rows(_SQL["unschedulable_agents"])
        else:
            rows = await self._pool.rows(_SQL["unschedulable_of"], [key[0] for key in of], [key[1] for key in of])
        return frozenset((row["workspace"], row["agent_id"]) for row in rows)

    async def deliberating(self, of: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        if not of:
            return frozenset()
        rows = await self._pool.rows(_SQL["deliberating_agents"], [key[0] for key in of], [key[1] for key in of])
        return frozenset((row["workspace"], row["agent_id"]) for row in rows)

    async def load(self) -> tuple[int, builtins.list[Agent]]:
        async with self._pool.snapshot() as connection:
            cursor = await connection.fetchval("select coalesce(max(seq), 0) from log")
            rows = await connection.fetch(_SQL["list_agents"], None)
        return int(cursor), [_agent(row) for row in rows]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _names(text: str) -> tuple[str, ...]:
    """Parses a list of names. Most are empty and a fleet has many rows, so empty ones are not parsed."""
    return () if text == "[]" else tuple(json.loads(text))


def _object(text: str) -> dict[str, Any]:
    return {} if text == "{}" else json.loads(text)


def _agent(row: Any) -> Agent:
    return Agent(
        agent_id=row["agent_id"],
        workspace=row["workspace"],
        principal=row["principal"],
        capabilities=_names(row["capabilities_text"]),
        model=row["model"],
        provider=row["provider"],
        metadata=_object(row["metadata_text"]),
        tags=_names(row["tags_text"]),
        region_id=row["region_id"],
        available_regions=_names(row["available_text"]),
        transport=TransportKind(row["transport"]),
        endpoint=row["endpoint"],
        max_concurrency=row["max_concurrency"],
        options=AgentOptions.read(_object(row["options_text"])),
        intent=Intent(row["intent"]),
        liveness=Liveness(row["liveness"]),
        health=Health(row["health"]),
        registered_at=row["registered_at"],
        updated_at=row["updated_at"],
        intent_by=IntentBy(row["intent_by"]),
        own_intent=Intent(row["own_intent"]),
        last_seen_at=row["last_seen_at"],
        tasks_completed=row["tasks_completed"],
        tasks_failed=row["tasks_failed"],
        latency_ms_sum=row["latency_ms_sum"],
        running_task_ids=tuple(row["running"] or ()),
        dedicated=Dedicated(**json.loads(row["dedicated_text"])) if row["dedicated_text"] else None,
        credential=use_of(row["workspace"], json.loads(row["credential_text"])) if row["credential_text"] else None,
    )
