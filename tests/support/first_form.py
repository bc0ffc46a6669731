"""What a process of the versions before migration 5 writes: rows of the first form, through the functions of its time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from cluster.domain.base.log import LogRecord, first_digest
from cluster.domain.tasks.task import NewTask
from cluster.ports.agents import AgentChange, RegisterItem
from cluster.postgres.tasks import partition

REGION, EPOCH = "test-region", 1


@asynccontextmanager
async def old_writer(url: str, schema: str) -> AsyncIterator[OldWriter]:
    connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        await connection.execute(
            "insert into region_state (region, epoch) values ($1, $2) on conflict do nothing", REGION, EPOCH
        )
        yield OldWriter(connection)
    finally:
        await connection.close()


class OldWriter:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def _call(self, function: str, *args: Any) -> None:
        places = ", ".join(f"${n}" for n in range(1, len(args) + 3))
        await self._connection.execute(f"select * from {function}({places})", REGION, EPOCH, *args)

    async def submit(self, task: NewTask) -> None:
        head, record = task.head(), task.record()
        await self._call(
            "submit_tasks",
            *(task.created_at, False, [task.id], [record.workspace], [partition(record.workspace)], [task.queue]),
            *([task.task_type], [int(task.priority)], [head.detail.value], [task.max_retries], [task.timeout_s]),
            *([task.created_at], [head.run_at], [record.principal], [task.target_agent], [task.target_region]),
            *([task.region_routing_mode], [task.origin_region], ["[]"], ["[]"], [json.dumps(task.payload)], ["{}"]),
            *([None], [None], [None], [None], [record.at], [record.kind], [record.attempt], *_text(record)),
        )

    async def register(self, item: RegisterItem) -> None:
        agent, record = item.agent, item.record
        await self._call(
            "register_agents",
            *(record.at, [record.workspace], [agent.agent_id], [record.principal], ["[]"], [agent.model]),
            *([agent.provider], ["{}"], ["[]"], [agent.region_id], ["[]"], [agent.transport.value], [agent.endpoint]),
            *([agent.max_concurrency], ["{}"], [None], [record.at], [None], [None], [None], [record.kind]),
            *_text(record),
        )

    async def change(self, change: AgentChange) -> None:
        record = change.record
        facts = (change.intent, change.intent_by, change.liveness, change.health)
        await self._call(
            "change_agents",
            *([record.workspace], [change.agent_id], *([fact and fact.value] for fact in facts), [record.at]),
            *([record.kind], [record.principal], *_text(record)),
        )


def _text(record: LogRecord) -> tuple[list[str], list[bytes]]:
    text = record.data_json()
    texts = (record.workspace, record.kind, record.entity, record.attempt, record.principal, text)
    return [text], [first_digest(round(record.at * 1_000_000), *texts)]
