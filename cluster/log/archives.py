"""Archives of the log: files that hold the rows of segments which have gone from the database.

An archive is an export of the audit, compressed: `aragora-cp audit verify --export` reads it when it is unpacked. It has no
words, so an erasure has nothing to look for in it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from cluster.domain.audit.chain import GENESIS, entry_hash, row_leaf
from cluster.domain.audit.checkpoint import Checkpoint
from cluster.domain.audit.export import checkpoint_line, head_line, read_export, row_line
from cluster.domain.audit.log_retention import Archive, Segment, archive_name
from cluster.domain.audit.verify import Fault
from cluster.domain.base.errors import ControlPlaneError, InvalidRequest
from cluster.domain.base.log import FIRST_FORM, LogRow
from cluster.ports.audit import AuditTrail
from cluster.ports.log import Log
from cluster.ports.log_segments import ArchivedRows, LogSegments

#: Rows, or checkpoints, of one read of the database.
PAGE = 1000
_BLOCK = 2**20


class NotAsSealed(ControlPlaneError):
    """Rows are not what was sealed, so they are not archived; the sentence says which."""

    default_code = "not_as_sealed"


@dataclass(slots=True)
class _Chained:
    """Rows that were written, each of which has to follow the one before."""

    seq: int
    chain: bytes
    epochs: dict[int, int] = field(default_factory=dict)
    first_form: bool = False

    def add(self, row: LogRow) -> None:
        if row.seq != self.seq + 1 or not row.verifies():
            raise NotAsSealed(
                f"Row {self.seq + 1} of the log is missing or was changed; see `aragora-cp audit verify`."
            )
        self.seq = row.seq
        self.chain = entry_hash(self.chain, row_leaf(row.seq, row.at, row.v, row.digest))
        self.epochs[row.epoch] = row.seq
        self.first_form = self.first_form or row.v == FIRST_FORM


async def write_archive(
    directory: Path, zone: str, segment: Segment, log: Log, trail: AuditTrail, segments: LogSegments
) -> Archive:
    """Writes the rows of a segment into a file, which is whole and on the disk when this returns. The same rows make the same
    file.

    Raises: `NotAsSealed`, and no file is left; `StoreUnavailable`; `OSError` if it cannot be written."""
    first, last = segment.first_seq, segment.last_seq
    before = GENESIS if first == 1 else await segments.entry(first - 1)
    sealed = await segments.entry(last)
    if before is None or sealed is None:
        raise NotAsSealed(f"The rows {first} to {last} of the log are not sealed; see `aragora-cp audit verify`.")
    chained = _Chained(first - 1, before)

    async def write(packed: gzip.GzipFile) -> None:
        packed.write(f"{head_line(zone, first - 1, segment.last_at)}\n".encode())
        async for checkpoint in _checkpoints(trail, first, last):
            packed.write(f"{checkpoint_line(checkpoint)}\n".encode())
        await _pass_rows(log, last, chained, packed)
        if (chained.seq, chained.chain) != (last, sealed):
            raise _not_as_sealed(first, last)

    name = archive_name(first, last)
    digest = await _whole_file(directory, name, write)
    return _archive(segment, name, digest, chained)


async def write_followed_archive(
    directory: Path,
    zone: str,
    segment: Segment,
    log: Log,
    segments: LogSegments,
    archives: Sequence[ArchivedRows],
) -> Archive:
    """The same where the region follows another one and has sealed nothing. Rows are compared with what was sealed by the entry
    hashes of ``archives``, of which one covers the segment's last row; so rows after it are read too, up to that archive's last.

    Raises: as `write_archive` does."""
    first, last = segment.first_seq, segment.last_seq
    before = GENESIS if first == 1 else await segments.entry(first - 1)
    ends = {each.archive.last_seq: each.archive.entry for each in archives if each.archive.last_seq >= first}
    through = min((end for end in ends if end >= last), default=None)
    if before is None or through is None:
        raise NotAsSealed(f"The rows {first} to {last} of the log are in no archive of the primary.")
    chained = _Chained(first - 1, before)

    async def write(packed: gzip.GzipFile) -> None:
        packed.write(f"{head_line(zone, first - 1, segment.last_at)}\n".encode())
        for end in sorted(end for end in ends if end < last):
            await _pass_rows(log, end, chained, packed)
            _check_entry(ends[end], chained, first, last)
        await _pass_rows(log, last, chained, packed)
        beyond = replace(chained, epochs={})
        await _pass_rows(log, through, beyond, None)
        _check_entry(ends[through], beyond, first, last)

    name = archive_name(first, last, followed=True)
    digest = await _whole_file(directory, name, write)
    return _archive(segment, name, digest, chained)


def _check_entry(entry: bytes, chained: _Chained, first: int, last: int) -> None:
    if chained.chain != entry:
        raise _not_as_sealed(first, last)


def _not_as_sealed(first: int, last: int) -> NotAsSealed:
    return NotAsSealed(
        f"The rows {first} to {last} of the log are not those that were sealed; see `aragora-cp audit verify`."
    )


def _archive(segment: Segment, name: str, digest: bytes, chained: _Chained) -> Archive:
    return Archive(
        first_seq=segment.first_seq,
        last_seq=segment.last_seq,
        name=name,
        digest=digest,
        entry=chained.chain,
        epochs=tuple(sorted(chained.epochs.items())),
        first_form=chained.first_form,
    )


async def _whole_file(directory: Path, name: str, write: Callable[[gzip.GzipFile], Awaitable[None]]) -> bytes:
    """The digest of a file that ``write`` has written; it has its name once it is whole and on the disk.

    Raises: what ``write`` does, and no file is left; `OSError`."""
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
    unfinished = directory / f"{name}.part"
    try:
        with await asyncio.to_thread(unfinished.open, "wb") as file:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                await write(packed)
            await asyncio.to_thread(_to_disk, file)
        digest = await asyncio.to_thread(_digest, unfinished)
        await asyncio.to_thread(_take_name, unfinished, directory / name)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return digest


async def _pass_rows(log: Log, through: int, chained: _Chained, packed: gzip.GzipFile | None) -> None:
    """Chains the next rows up to one, and writes them if there is a file."""
    while chained.seq < through and (rows := await log.read(chained.seq, min(PAGE, through - chained.seq))):
        await asyncio.to_thread(_chain, packed, rows, chained)


async def _checkpoints(trail: AuditTrail, first: int, last: int) -> AsyncIterator[Checkpoint]:
    """Those that cover no row after the last one: by itself, an archive is verified against these."""
    after = first - 1
    while page := await trail.checkpoints(after, PAGE):
        for checkpoint in page:
            if checkpoint.last_seq > last:
                return
            yield checkpoint
        after = page[-1].last_seq


def _chain(packed: gzip.GzipFile | None, rows: Sequence[LogRow], chained: _Chained) -> None:
    for row in rows:
        chained.add(row)
        if packed is not None:
            packed.write(f"{row_line(row, words=False)}\n".encode())


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _take_name(unfinished: Path, file: Path) -> None:
    """A file has its name after a crash of the machine only if its directory is written too."""
    os.replace(unfinished, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _digest(file: Path) -> bytes:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            found.update(block)
    return found.digest()


def joined(removed: Sequence[ArchivedRows], directory: Path | None, base: int) -> list[Archive]:
    """The archives whose files are there and that end at the row ``base`` without a gap, in order: as many as there are. After a
    failover two regions may have archived the same rows in other pieces."""
    found: list[Archive] = []
    needed = base
    while directory is not None and needed > 0:
        covering = (a.archive for a in removed if a.archive.first_seq <= needed <= a.archive.last_seq)
        archive = min((a for a in covering if (directory / a.name).is_file()), key=lambda a: a.first_seq, default=None)
        if archive is None:
            break
        found.append(archive)
        needed = archive.first_seq - 1
    return found[::-1]


def archived_rows(directory: Path, archives: Sequence[Archive], upto: int) -> Iterator[LogRow | Fault]:
    """The rows of archives in order, up to one; and where a file is not the one that was written, the fault instead."""
    last = archives[0].first_seq - 1 if archives else 0
    for archive in archives:
        file = directory / archive.name
        try:
            if _digest(file) != archive.digest:
                raise InvalidRequest("it is another file than the one that was written")
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                for row in read_export(lines).rows:
                    if last < row.seq <= upto:
                        last = row.seq
                        yield row
        except (OSError, EOFError, zlib.error, UnicodeError, InvalidRequest) as error:
            yield Fault(seq=last + 1, reason=f"its archive {archive.name} cannot be read: {error}")
            return
