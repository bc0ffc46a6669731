"""Quotas of workspaces, in the database."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from cluster.domain.base.errors import Conflict
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.quotas.quotas import QuotaKind, Quotas
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("quotas")
_dump = json_writer(allow_nan=False)


class PostgresQuotas:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def get(self, workspace: str) -> Quotas:
        rows = await self._pool.rows(_SQL["get_quotas"], workspace)
        return Quotas(**dict(rows[0])) if rows else Quotas(workspace=workspace)

    async def put(self, quotas: Quotas, record: LogRecord) -> None:
        args = (self._epoch.region, self._epoch.value, _dump(asdict(quotas)), log_rows([record], self._epoch))
        if not await self._pool.value(_SQL["put_quotas"], *args):
            raise Conflict(
                f"The quotas of {quotas.workspace} were changed by somebody else meanwhile; read them again.",
                "quotas_changed",
            )

    async def used(self, workspace: str, most: int) -> Mapping[QuotaKind, int]:
        (row,) = await self._pool.rows(_SQL["quota_use"], workspace, most)
        return {QuotaKind(name): count for name, count in dict(row).items()}

    async def all(self) -> builtins.list[Quotas]:
        return [Quotas(**dict(row)) for row in await self._pool.rows(_SQL["all_quotas"])]

    async def named(self, ids: Sequence[str]) -> builtins.list[Quotas]:
        return [Quotas(**dict(row)) for row in await self._pool.rows(_SQL["named_quotas"], builtins.list(ids))]
