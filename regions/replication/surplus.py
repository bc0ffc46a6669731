"""The surplus of a log that has forked: its rows past the fork, and what the tables held of all that they name, in a file.

Nobody was answered for these rows, since some member of the in-sync set had not confirmed them. But they may tell what happened,
such as a call of an agent that was made, so a region keeps them before it is copied anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from cluster.domain.replication.batch import LogPosition, named_row
from cluster.domain.replication.tables import LOG, REPLICATED, TABLES
from cluster.domain.replication.touched import touched
from cluster.ports.replication import ReplicationReads
from regions.domain.rejoin import ForkPoint, LogHistory, fork_point

#: Rows that are read at once.
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SurplusFile:
    """``rows``: how many rows of the log it has."""

    name: str
    rows: int


class SurplusFiles:
    """Those of one region, in a directory that is made when it is needed first."""

    def __init__(self, directory: Path, region: str, zone: str, reads: ReplicationReads) -> None:
        self._directory = directory
        self._region = region
        self._zone = zone
        self._reads = reads

    async def compared(self, theirs: LogHistory) -> tuple[LogHistory, LogPosition | None]:
        """The history of this region's log, and its own row where that leaves a log of the other history, by which the other end
        can tell that the two share it; None if they share none.

        Raises: `StoreUnavailable`."""
        async with self._reads.snapshot() as snapshot:
            mine = await snapshot.history()
            return mine, (await snapshot.state(self._zone, fork_point(mine, theirs).seq)).at

    async def save(self, fork: ForkPoint) -> SurplusFile:
        """Writes the file, to the disk, before it has its name. The same surplus is written to the same name.

        Raises: `StoreUnavailable`; `OSError` if it cannot be written."""
        name = f"surplus-{self._region}-{self._zone}-{fork.epoch}-{fork.seq}-{fork.surplus}.jsonl"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._directory / f"{name}.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            count = await self._write(file, fork)
            await asyncio.to_thread(_to_disk, file)
        unfinished.replace(self._directory / name)
        return SurplusFile(name=name, rows=count)

    async def _write(self, file: IO[str], fork: ForkPoint) -> int:
        head = {"region": self._region, "zone": self._zone, "fork": asdict(fork)}
        head["columns"] = {name: list(table.columns) for name, table in TABLES.items()}
        _line(file, head)
        after, count = fork.seq, 0
        async with self._reads.snapshot() as snapshot:
            while rows := await snapshot.log_rows(after, _AT_ONCE, ()):
                for row in rows:
                    _line(file, {"table": LOG.name, "row": row})
                named = touched(map(named_row, rows)).names
                for table in REPLICATED:
                    if names := named.get(table.name):
                        for row in await snapshot.images(table.name, tuple(sorted(names)), ()):
                            _line(file, {"table": table.name, "row": row})
                after, count = after + len(rows), count + len(rows)
        return count

    def files(self) -> list[SurplusFile]:
        """Those that are kept, by name."""
        return list(self._found())

    def _found(self) -> Iterator[SurplusFile]:
        for path in sorted(self._directory.glob(f"surplus-{self._region}-*.jsonl")):
            yield SurplusFile(name=path.name, rows=int(path.stem.rpartition("-")[2]))


def _line(file: IO[str], value: Any) -> None:
    file.write(json.dumps(value, separators=(",", ":")) + "\n")


def _to_disk(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
