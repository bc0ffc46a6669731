"""Chunks of running tasks, in the region that took them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cluster.domain.tasks.chunks import ChunkCursor, ChunkPage, NewChunks, Written

#: Differs from the last one of its task when there is something new to read.
Mark = tuple[object, ...]


class Chunks(Protocol):
    """Every call names the workspace of its tasks."""

    async def write(self, items: Sequence[NewChunks]) -> list[Written]:
        """Writes each call whole or refuses it whole, in one commit; says what became of each.

        Raises: `Fenced` if this region is not the primary any more."""

    async def read(
        self, workspace: str, task_id: str, after: ChunkCursor, limit: int, *, has_peers: bool = False
    ) -> ChunkPage | None:
        """At most ``limit`` chunks after a cursor, fewer if they are large, and the task's state in the same moment. None without
        such a task. If the task has ended, no chunk is written any more. ``has_peers``: the region is one of several."""

    async def marks(self, tasks: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Mark]:
        """How far tasks (workspace, id) are."""
