"""The tally's store: its state is one of the saved states of the table ``telemetry``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.tasks.tally import KINDS, OpenCount, TallyRow
from cluster.domain.tasks.task import OTHER_TYPES, TaskStatus
from cluster.ports.tally import TallyPage
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries
from cluster.postgres.telemetry import PostgresTelemetry

_SQL = queries("tally")
#: Under which the state is saved; migration 0007 makes the first.
NAME = "tasks"


class PostgresTally:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._saved = PostgresTelemetry(pool)

    async def load(self) -> tuple[int, Mapping[str, Any]]:
        return await self._saved.load(NAME)

    async def save(self, cursor: int, stored: Mapping[str, Any]) -> bool:
        return await self._saved.save(NAME, cursor, stored, ())

    async def page(self, after: int, limit: int, workspace: str, kept: Sequence[str], types_kept: int) -> TallyPage:
        rows, head, cursor, open_counts = [], 0, after, []
        room = types_kept - len(kept)
        for row in await self._pool.rows(
            _SQL["tally_page"], after, list(KINDS), limit, workspace, list(kept), room, OTHER_TYPES
        ):
            if row["seq"] is None:
                open_counts.append(
                    OpenCount(TaskStatus(row["kind"]), row["text"], row["priority"], row["tasks"]),
                )
            elif row["kind"] is None:
                head = row["seq"]
            else:
                rows.append(TallyRow(row["at"], row["workspace"], row["kind"], json.loads(row["text"])))
                cursor = max(cursor, row["seq"])
        whole = len(rows) < limit
        return TallyPage(rows=rows, cursor=max(after, head) if whole else cursor, whole=whole, open_counts=open_counts)
