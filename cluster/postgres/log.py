"""The log and the region's epoch."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.domain.base.errors import Unstorable
from cluster.domain.base.log import SECOND_FORM, LogRecord, LogRow, private_digest
from cluster.ports.log import LogFilter, LogPage
from cluster.postgres.columns import numbers, texts
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("log")
_LIKE = re.compile(r"[\\%_]")
T = TypeVar("T")


@dataclass(slots=True)
class Epoch:
    """The epoch that this process's writes state. All stores of the process share one object."""

    region: str
    value: int = 0


#: What the SQL functions take as one argument: the attributes of the type ``log_rows``.
LogRows = tuple[Any, ...]
SALT_BYTES = 16


def log_rows(records: Sequence[LogRecord], epoch: Epoch) -> LogRows:
    """Turns records into columns. The digests cover epoch and zone, so they fit only a commit that states the same epoch.

    Raises: `Unstorable` if a record has no such form."""
    data, private, hashes, digests = _contents(records, epoch)
    attempts = [record.attempt for record in records]
    return (
        SECOND_FORM,
        [record.at for record in records],
        [record.workspace for record in records],
        [record.kind for record in records],
        [record.entity for record in records],
        attempts if any(attempt is not None for attempt in attempts) else None,  # `unnest` pads a missing array
        [record.principal for record in records],
        [record.cause for record in records],
        data,
        private,
        hashes,
        digests,
    )


def log_columns(records: Sequence[LogRecord], epoch: Epoch) -> LogRows:
    """The same for the statements of the busiest commits, which take the short values in text form and build ``log_rows``.

    Raises: `Unstorable` if a record has no such form."""
    data, private, hashes, digests = _contents(records, epoch)
    return (
        SECOND_FORM,
        numbers([record.at for record in records]),
        texts([record.workspace for record in records]),
        texts([record.kind for record in records]),
        texts([record.entity for record in records]),
        numbers([record.attempt for record in records]),
        texts([record.principal for record in records]),
        texts([record.cause for record in records]),
        data,
        private,
        hashes,
        digests,
    )


def _contents(records: Sequence[LogRecord], epoch: Epoch) -> tuple[Any, ...]:
    """The columns that have to be made. An error that is none of `Unstorable` would not look like a fault of the data to whoever
    commits it with others."""
    try:
        data = [record.data_json() for record in records]
        private, hashes = _private_columns(records)
        digests = [
            record.digest(epoch=epoch.value, zone=epoch.region, data_json=text, private_digest=private_hash)
            for record, text, private_hash in zip(records, data, hashes or [None] * len(records), strict=True)
        ]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unstorable(f"A row of the log cannot be written: {error}") from error
    return data, private, hashes, digests


def _private_columns(records: Sequence[LogRecord]) -> tuple[list[str | None] | None, list[bytes | None] | None]:
    """(texts, digests) of the private parts. None for both if no record has one, which saves two arrays to send and read."""
    if all(record.private is None for record in records):
        return None, None
    salts = os.urandom(SALT_BYTES * len(records)).hex()
    width = 2 * SALT_BYTES
    texts = [record.private_text(salts[width * n : width * n + width]) for n, record in enumerate(records)]
    return texts, [None if text is None else private_digest(text) for text in texts]


def waves(items: Sequence[T], key: Callable[[T], Hashable]) -> list[list[tuple[int, T]]]:
    """Splits a batch into parts, so that no key appears twice in a part and the items of a key keep their order.

    A part has (index in the batch, item) pairs. There is nearly always one part.
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

    async def story(self, workspace: str, of: str, after: int, limit: int) -> list[LogRow]:
        return [log_row(row) for row in await self._pool.rows(_SQL["story"], workspace, of, after, limit)]

    async def head(self) -> int:
        return int(await self._pool.value(_SQL["log_head"]))

    async def first(self) -> int:
        return int(await self._pool.value(_SQL["log_first"]))

    async def append(self, records: Sequence[LogRecord]) -> list[int]:
        rows = log_rows(records, self._epoch)
        all_of_them = [True] * len(records)
        return list(
            await self._pool.value(_SQL["append_log"], self._epoch.region, self._epoch.value, all_of_them, rows)
        )


class JsonText(Mapping[str, Any]):
    """A row's data, parsed when it is first read: most followers read the data of few rows."""

    __slots__ = ("_parsed", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parsed: dict[str, Any] | None = None

    def _data(self) -> dict[str, Any]:
        if self._parsed is None:
            try:
                found = json.loads(self._text)
            except RecursionError:
                found = None
            # Whoever can write to the database can store what is no object. Followers pass over such a row; its digest names it.
            self._parsed = found if isinstance(found, dict) else {}
        return self._parsed

    # A shard reads nine fields of each submit, so the three readers do not call ``_data`` once it has parsed.

    def __getitem__(self, name: str) -> Any:
        return (self._parsed or self._data())[name]

    def get(self, name: str, default: Any = None) -> Any:
        return (self._parsed or self._data()).get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in (self._parsed or self._data())

    def __iter__(self) -> Iterator[str]:
        return iter(self._data())

    def __len__(self) -> int:
        return len(self._data())

    def __repr__(self) -> str:
        return self._text


def log_row(row: Any) -> LogRow:
    """A row of the table ``log``. Its ``data`` is JSON, which asyncpg returns as the stored text: digests are made of that."""
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
        data_json=row["data"],
        epoch=row["epoch"],
        cause=row["cause"],
        zone=row["zone"],
        private_json=row["private"],
        private_digest=row["private_digest"],
        v=row["v"],
    )


class PostgresRegion:
    """``alone``: the region makes itself primary when it first asks. One of several waits for its leader to do so, and has epoch
    0 until then, under which every commit is refused."""

    def __init__(self, pool: Pool, epoch: Epoch, *, alone: bool = True) -> None:
        self._pool = pool
        self._epoch = epoch
        self._alone = alone

    async def epoch(self) -> int:
        if not self._alone:
            self._epoch.value = int(await self._pool.value(_SQL["primary_epoch"], self._epoch.region) or 0)
            return self._epoch.value
        found = await self._pool.value(_SQL["region_epoch"], self._epoch.region)
        if found is None:
            # Another process made the row while this statement waited for it, and its snapshot is from before.
            found = await self._pool.value(_SQL["region_epoch"], self._epoch.region)
        self._epoch.value = int(found)
        return self._epoch.value

    async def raise_epoch(self, leader: str) -> int:
        """Raises the epoch by one. If another process has raised it meanwhile, tries again from the new epoch."""
        while True:
            before = await self.epoch()
            raised = await self._raise_from(before, leader)
            if raised is not None:
                self._epoch.value = raised
                return raised

    async def _raise_from(self, before: int, leader: str) -> int | None:
        record = LogRecord(
            at=time.time(),
            workspace="system",
            kind="region.epoch_raised",
            entity=self._epoch.region,
            data={"leader": leader},
        )
        rows = log_rows([record], Epoch(region=self._epoch.region, value=before + 1))
        raised = await self._pool.value(_SQL["raise_epoch"], self._epoch.region, leader, before, rows)
        return None if raised is None else int(raised)
