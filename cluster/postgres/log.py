"""The log and the region's epoch."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.domain.base.log import LogRecord, LogRow
from cluster.ports.log import LogFilter, LogPage
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("log")
_LIKE = re.compile(r"[\\%_]")
T = TypeVar("T")


@dataclass(slots=True)
class Epoch:
    """The epoch that this process's writes state; shared by its stores."""

    region: str
    value: int = 0


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records turned into the arrays that the SQL functions take."""

    at: list[float]
    workspace: list[str]
    kind: list[str]
    entity: list[str]
    attempt: list[int | None]
    principal: list[str]
    data: list[str]
    digest: list[bytes]

    @classmethod
    def of(cls, records: Sequence[LogRecord]) -> RecordColumns:
        data = [record.data_json() for record in records]
        return cls(
            [record.at for record in records],
            [record.workspace for record in records],
            [record.kind for record in records],
            [record.entity for record in records],
            [record.attempt for record in records],
            [record.principal for record in records],
            data,
            [record.digest(text) for record, text in zip(records, data, strict=True)],
        )


def waves(items: Sequence[T], key: Callable[[T], Hashable]) -> list[list[tuple[int, T]]]:
    """Splits a batch so that no key appears twice in a part and each key's items keep their order.

    Parts hold (place in the batch, item); nearly always there is one.
    """
    parts: list[list[tuple[int, T]]] = []
    seen: dict[Hashable, int] = {}
    for index, item in enumerate(items):
        part = seen.get(key(item), -1) + 1
        seen[key(item)] = part
        if part == len(parts):
            parts.append([])
        parts[part].append((index, item))
    return parts


class PostgresLog:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        if only is None:
            rows = await self._pool.rows(_SQL["read_log_all"], after, limit)
        else:
            rows = await self._pool.rows(
                _SQL["read_log"],
                after,
                limit,
                only.workspace,
                list(only.entities) or None,
                only.kind_prefix,
            )
        return [log_row(row) for row in rows]

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        if only is None:
            rows = await self.read(after, limit)
            return LogPage(rows=rows, cursor=rows[-1].seq if rows else after)
        kinds = [_LIKE.sub(r"\\\g<0>", kind) + "%" for kind in only.all_kinds()]
        found = await self._pool.rows(
            _SQL["page_log"], after, limit, only.workspace, list(only.entities) or None, kinds or None
        )
        rows = [log_row(row) for row in found if row["kind"] is not None]
        (head,) = [row["seq"] for row in found if row["kind"] is None]
        return LogPage(rows=rows, cursor=rows[-1].seq if len(rows) == limit else max(after, head))

    async def head(self) -> int:
        return int(await self._pool.value(_SQL["log_head"]))

    async def append(self, records: Sequence[LogRecord]) -> list[int]:
        c = RecordColumns.of(records)
        return list(
            await self._pool.value(
                _SQL["append_log"],
                self._epoch.region,
                self._epoch.value,
                c.at,
                c.workspace,
                c.kind,
                c.entity,
                c.attempt,
                c.principal,
                c.data,
                c.digest,
            )
        )


class JsonText(Mapping[str, Any]):
    """A row's data, parsed when somebody looks: most followers look at few of the rows that pass."""

    __slots__ = ("_parsed", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parsed: dict[str, Any] | None = None

    def _data(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = json.loads(self._text)
        return self._parsed

    def __getitem__(self, name: str) -> Any:
        return self._data()[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._data().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._data()

    def __iter__(self) -> Iterator[str]:
        return iter(self._data())

    def __len__(self) -> int:
        return len(self._data())

    def __repr__(self) -> str:
        return self._text


def log_row(row: Any) -> LogRow:
    return LogRow(
        seq=row["seq"],
        at=row["at"],
        workspace=row["workspace"],
        kind=row["kind"],
        entity=row["entity"],
        attempt=row["attempt"],
        principal=row["principal"],
        data=JsonText(row["data"]),
        digest=row["digest"],
    )


class PostgresRegion:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def epoch(self) -> int:
        self._epoch.value = int(await self._pool.value(_SQL["region_epoch"], self._epoch.region))
        return self._epoch.value

    async def raise_epoch(self, leader: str) -> int:
        record = LogRecord(
            at=time.time(),
            workspace="system",
            kind="region.epoch_raised",
            entity=self._epoch.region,
            data={"leader": leader},
        )
        c = RecordColumns.of([record])
        self._epoch.value = int(
            await self._pool.value(
                _SQL["raise_epoch"],
                self._epoch.region,
                leader,
                c.at,
                c.workspace,
                c.kind,
                c.principal,
                c.data,
                c.digest,
            )
        )
        return self._epoch.value
