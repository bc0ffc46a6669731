"""Chunks in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cluster.domain.tasks.chunks import BOUNDS, Chunk, ChunkBounds, ChunkCursor, ChunkPage, NewChunks, Verdict, Written
from cluster.domain.tasks.task import TaskStatus
from cluster.ports.chunks import Mark
from cluster.postgres.columns import flags, numbers, texts
from cluster.postgres.log import Epoch
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("chunks")
#: Bytes of the chunks of one page, and one chunk more.
PAGE_BYTES = 1_048_576


class PostgresChunks:
    def __init__(self, pool: Pool, epoch: Epoch, bounds: ChunkBounds = BOUNDS) -> None:
        self._pool = pool
        self._epoch = epoch
        self._bounds = bounds

    async def write(self, items: Sequence[NewChunks]) -> list[Written]:
        tokens, bounds = [item.token for item in items], self._bounds
        rows = await self._pool.rows(
            _SQL["write_chunks"],
            self._epoch.region,
            self._epoch.value,
            texts([item.workspace for item in items]),
            texts([token.task_id for token in tokens]),
            numbers([token.attempt for token in tokens]),
            texts([token.agent_id for token in tokens]),
            numbers([item.first for item in items]),
            flags([item.skip for item in items]),
            numbers([item.at for item in items]),
            numbers([len(item.contents) for item in items]),
            [content for item in items for content in item.contents],
            bounds.chunks,
            bounds.bytes,
            bounds.per_s,
            bounds.bytes_per_s,
            bounds.burst_s,
        )
        return [Written(verdict=Verdict(row["verdict"]), next=row["next"], wait_s=row["wait_s"]) for row in rows]

    async def read(
        self, workspace: str, task_id: str, after: ChunkCursor, limit: int, *, has_peers: bool = False
    ) -> ChunkPage | None:
        epoch = self._epoch.value if has_peers else None
        rows = await self._pool.rows(_SQL["read_chunks"], workspace, task_id, *after, limit, PAGE_BYTES, epoch)
        if not rows:
            return None
        task = rows[0]
        chunks = [
            Chunk(cursor=ChunkCursor(row["attempt"], row["n"]), at=row["at"], content=json.loads(row["content"]))
            for row in rows
            if row["n"] is not None
        ]
        return ChunkPage(
            chunks=chunks,
            last=ChunkCursor(task["last_attempt"], task["last_n"]),
            status=TaskStatus(task["status"]),
            attempt=task["task_attempt"],
            elsewhere=task["elsewhere"],
        )

    async def marks(self, tasks: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Mark]:
        rows = await self._pool.rows(_SQL["chunk_marks"], [task[0] for task in tasks], [task[1] for task in tasks])
        return {(row["workspace"], row["id"]): tuple(row)[2:] for row in rows}
