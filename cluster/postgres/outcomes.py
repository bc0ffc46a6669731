"""Outcomes and the snapshots of weights that were learned from them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from cluster.domain.base.log import LogRecord
from cluster.domain.consensus.learning import (
    NewOutcome,
    NewSnapshot,
    RecordedOutcome,
    SnapshotHead,
    StoredOutcome,
    StoredSnapshot,
    alarm_json,
    panel_key,
    panel_of,
)
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.consensus.snapshot import snapshot_from_document
from cluster.postgres.log import Epoch, log_rows, waves
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("outcomes")
PRINCIPAL = "system:weights"
#: How many snapshots are kept parsed; a snapshot never changes.
CACHED_SNAPSHOTS = 64


class PostgresOutcomes:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch
        #: (workspace, snapshot id) → parsed snapshot, the last one used at the end; at most CACHED_SNAPSHOTS.
        self._parsed: OrderedDict[tuple[str, str], StoredSnapshot] = OrderedDict()

    async def record(self, items: Sequence[NewOutcome]) -> list[RecordedOutcome]:
        outcomes: list[RecordedOutcome | None] = [None] * len(items)
        for part in waves(items, lambda item: (item.origin.workspace, item.id)):
            rows = await self._record([item for _, item in part])
            for (index, item), row in zip(part, rows, strict=True):
                outcomes[index] = RecordedOutcome(
                    id=item.id, seq=row["seq"], replayed=row["replayed"], conflict=row["conflict"]
                )
        return [outcome for outcome in outcomes if outcome is not None]

    async def _record(self, items: Sequence[NewOutcome]) -> Sequence[Any]:
        rows = log_rows(
            [
                LogRecord(
                    at=item.at,
                    workspace=item.origin.workspace,
                    kind="outcome.recorded",
                    entity=item.id,
                    principal=item.origin.principal,
                    cause=item.origin.cause,
                    data={
                        "outcome_id": item.id,
                        "source": item.source,
                        "agents": len(item.panel),
                        "right": sum(vote == item.outcome.right for vote in item.outcome.votes.values()),
                    },
                )
                for item in items
            ],
            self._epoch,
        )
        return await self._pool.rows(
            _SQL["record_outcomes"],
            self._epoch.region,
            self._epoch.value,
            [item.source for item in items],
            [_json(list(item.panel)) for item in items],
            [_json(dict(item.outcome.votes)) for item in items],
            [item.outcome.right for item in items],
            [_json(list(item.outcome.options)) for item in items],
            [item.digest() for item in items],
            [item.outcome.kind for item in items],
            rows,
        )

    async def recent(
        self, workspace: str, agents: Sequence[str], limit: int, *, any_of: bool = False
    ) -> list[StoredOutcome]:
        rows = await self._pool.rows(_SQL["recent_outcomes"], workspace, list(agents), limit, any_of)
        panel = set(agents)
        return [
            StoredOutcome(
                n=row["n"],
                outcome=Outcome(
                    votes={agent: vote for agent, vote in json.loads(row["votes"]).items() if agent in panel},
                    right=row["right_answer"],
                    options=tuple(json.loads(row["options"])),
                    kind=row["kind"],
                ),
            )
            for row in reversed(rows)
        ]

    async def count(
        self, workspace: str, agents: Sequence[str], after: int, limit: int, *, any_of: bool = False
    ) -> int:
        return int(await self._pool.value(_SQL["count_outcomes"], workspace, after, list(agents), limit, any_of))

    async def agents(self, workspace: str, limit: int) -> list[str]:
        return [row["agent"] for row in await self._pool.rows(_SQL["known_agents"], workspace, limit)]

    async def save(self, items: Sequence[NewSnapshot]) -> list[bool]:
        done = [False] * len(items)
        for part in waves(items, lambda item: (item.workspace, item.panel)):
            for (index, _), saved in zip(part, await self._save([item for _, item in part]), strict=True):
                done[index] = saved
        return done

    async def _save(self, items: Sequence[NewSnapshot]) -> Sequence[bool]:
        rows = log_rows(
            [
                LogRecord(
                    at=item.at,
                    workspace=item.workspace,
                    kind="weights.fitted",
                    entity=item.snapshot.id,
                    principal=PRINCIPAL,
                    data=item.summary(),
                )
                for item in items
            ],
            self._epoch,
        )
        saved: Sequence[bool] = await self._pool.value(
            _SQL["save_snapshots"],
            self._epoch.region,
            self._epoch.value,
            [panel_key(item.panel) for item in items],
            [_json(list(item.panel)) for item in items],
            [item.through_n for item in items],
            [_json(item.snapshot.stored()) for item in items],
            [_json([alarm_json(alarm) for alarm in item.alarms]) for item in items],
            rows,
        )
        return saved

    async def heads(self, workspace: str) -> list[SnapshotHead]:
        return [_head(row) for row in await self._pool.rows(_SQL["newest_heads"], workspace)]

    async def newest(self, workspace: str) -> list[StoredSnapshot]:
        return [_stored(row) for row in await self._pool.rows(_SQL["newest_snapshots"], workspace)]

    async def snapshot(self, workspace: str, snapshot_id: str) -> StoredSnapshot | None:
        key = (workspace, snapshot_id)
        if key not in self._parsed:
            rows = await self._pool.rows(_SQL["get_snapshot"], workspace, snapshot_id)
            if not rows:
                return None
            self._parsed[key] = _stored(rows[0])
            while len(self._parsed) > CACHED_SNAPSHOTS:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(key)
        return self._parsed[key]

    async def covering(self, workspace: str, agents: Sequence[str]) -> StoredSnapshot | None:
        found = await self._pool.value(_SQL["covering_snapshot"], workspace, list(panel_of(agents)))
        return None if found is None else await self.snapshot(workspace, found)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _head(row: Any) -> SnapshotHead:
    return SnapshotHead(id=row["id"], panel=tuple(row["panel"]), version=row["version"], through_n=row["through_n"])


def _stored(row: Any) -> StoredSnapshot:
    return StoredSnapshot(
        head=_head(row),
        created_at=row["created_at"],
        snapshot=snapshot_from_document(json.loads(row["document"])),
        alarms=tuple(json.loads(row["alarms"])),
    )
