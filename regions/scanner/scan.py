"""Searches files and folders for markers, as the bytes are and as what can be undone makes them.

Each file is read once, in parts. What a file holds besides its own bytes (an archive's members, what is compressed, values that
PostgreSQL cut in pieces) is a stream of its own, searched in the same way. A file that cannot be read, or not looked into, is
told; so a clean report says that all of it was searched.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from regions.scanner import pages
from regions.scanner.compressed import MOST_IN_PAGE, NotCompressed, decompressed, inline_values, lzf_values
from regions.scanner.search import Needlework, Search
from regions.scanner.unpacking import (
    InnerStreams,
    Program,
    Unreadable,
    gunzipped,
    output_of,
    unbzipped,
    unxzed,
)

#: Bytes of one read; whole pages.
PART: Final = 2**20
#: Archives in archives, and what is compressed twice.
MOST_LAYERS: Final = 6
#: Different findings, and files not read, that a report names. It counts all.
MOST_NAMED: Final = 10_000
_HEAD: Final = 512
#: How a file begins whose content is not looked into, and why.
_CLOSED: Final = {
    b"PK\x03\x04": "it is a ZIP archive; unpack it, and scan what it holds",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive; unpack it, and scan what it holds",
    b"Rar!\x1a\x07": "it is a RAR archive; unpack it, and scan what it holds",
    b"age-encryption.org/": "it is encrypted; decrypt it, and scan what it holds",
    b"Salted__": "it is encrypted; decrypt it, and scan what it holds",
    b"-----BEGIN PGP MESSAGE": "it is encrypted; decrypt it, and scan what it holds",
}


@dataclass(slots=True)
class Found:
    """``offset``: of the first one in the innermost stream of ``inside``; for a value that a page holds compressed or in chunks,
    that of the value or of its first page. ``times``: how often, counted once for each form."""

    offset: int
    times: int = 1


@dataclass(slots=True)
class Report:
    """``found``: by (file, streams within it, marker's id). ``unread``: (file, why it was not read to its end, or not looked
    into). ``others``: sockets, devices and pipes, which hold no bytes. ``size``: bytes of all files."""

    files: int = 0
    size: int = 0
    others: int = 0
    found: dict[tuple[str, str, str], Found] = field(default_factory=dict)
    hits: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)
    unread_count: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether all was read and nothing found."""
        return not self.hits and not self.unread_count

    def add(self, where: Where, marker: str, offset: int) -> None:
        self.hits += 1
        key = (where.file, " > ".join(where.inside), marker)
        known = self.found.get(key)
        if known is not None:
            known.offset, known.times = min(known.offset, offset), known.times + 1
        elif len(self.found) < MOST_NAMED:
            self.found[key] = Found(offset)

    def not_read(self, where: Where, why: str) -> None:
        self.unread_count += 1
        if len(self.unread) < MOST_NAMED:
            self.unread.append((" > ".join((where.file, *where.inside)), why))

    def to_json(self) -> dict[str, Any]:
        return {
            "clean": self.is_clean,
            "files": self.files,
            "bytes": self.size,
            "not_files": self.others,
            "hits": self.hits,
            "found": [
                {"file": file, "inside": inside or None, "marker": marker, "offset": found.offset, "times": found.times}
                for (file, inside, marker), found in sorted(self.found.items())
            ],
            "unread_files": self.unread_count,
            "unread": [{"file": file, "why": why} for file, why in self.unread],
        }


@dataclass(frozen=True, slots=True)
class Where:
    """A file, and the streams within it that lead to the bytes."""

    file: str
    inside: tuple[str, ...] = ()

    def within(self, name: str) -> Where:
        return Where(self.file, (*self.inside, name))


class Scan:
    """``programs``: by the name of the form that each undoes (``zstd``, ``lz4``, ``pg_dump``)."""

    def __init__(self, work: Needlework, programs: dict[str, Program]) -> None:
        self.report = Report()
        self._work = work
        self._programs = programs

    # --- files ------------------------------------------------------------------------------------------------------------

    def path(self, path: Path) -> None:
        """A file, or all that a folder holds. Links are followed, since PostgreSQL's tablespaces are behind some."""
        entered: set[tuple[int, int]] = set()
        waiting = [str(path)]
        while waiting:
            name = waiting.pop()
            try:
                found = os.stat(name)
                if stat.S_ISDIR(found.st_mode):
                    if (found.st_dev, found.st_ino) not in entered:
                        entered.add((found.st_dev, found.st_ino))
                        waiting += sorted((entry.path for entry in os.scandir(name)), reverse=True)
                elif stat.S_ISREG(found.st_mode):
                    self._file(name)
                else:
                    self.report.others += 1
            except OSError as error:
                self.report.not_read(Where(_shown(name)), error.strerror or str(error))

    def _file(self, name: str) -> None:
        where = Where(_shown(name))
        self.report.files += 1
        with open(name, "rb", buffering=0) as file:
            self.stream(where, self._counted(_parts_of(file)))

    def _counted(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            self.report.size += len(part)
            yield part

    # --- streams ----------------------------------------------------------------------------------------------------------

    def stream(self, where: Where, parts: Iterator[bytes]) -> None:
        """Searches a stream, and what it holds. Raises: `OSError`, `Unreadable` if the parts themselves cannot be read."""
        head, parts = _peeked(parts)
        searched = self._searched(where, parts)
        try:
            self._inside(where, head, searched)
        except (Unreadable, tarfile.TarError) as error:
            self.report.not_read(where, str(error) or "it is not whole")
        for _ in searched:
            pass

    def _searched(self, where: Where, parts: Iterable[bytes]) -> Iterator[bytes]:
        """The same parts, after each was searched."""
        search = Search(self._work)
        for part in parts:
            self._search(search, where, part)
            yield part

    def _search(self, search: Search, where: Where, data: bytes, offset: int | None = None) -> None:
        """``offset``: what is told in the place of the position in the stream."""
        for hit in search.feed(data):
            self.report.add(where, self._work.markers[hit.marker].id, hit.offset if offset is None else offset)

    def _inside(self, where: Where, head: bytes, parts: Iterator[bytes]) -> None:
        """Searches what a stream holds besides its own bytes, by how it begins."""
        closed = next((why for beginning, why in _CLOSED.items() if head.startswith(beginning)), None)
        packed = _packed(head, self._programs)
        if closed is not None:
            self.report.not_read(where, closed)
        elif packed is not None:
            name, unpack = packed
            if len(where.inside) >= MOST_LAYERS:
                raise Unreadable(f"it is compressed or archived more than {MOST_LAYERS} times")
            self.stream(where.within(name), unpack(parts))
        elif head[257:262] == b"ustar":
            self._archive(where, parts)
        elif pages.is_wal(head):
            self._wal(where, parts)
        elif pages.is_relation(head):
            self._relation(where, parts)
        elif head.startswith((b"REDIS", b"VALKEY")):
            self._values(where, parts, lzf_values, 2 * PART)
        else:
            self._inner_streams(where, parts)

    def _archive(self, where: Where, parts: Iterator[bytes]) -> None:
        if len(where.inside) >= MOST_LAYERS:
            raise Unreadable(f"it is compressed or archived more than {MOST_LAYERS} times")
        with tarfile.open(fileobj=_Reader(parts), mode="r|", errors="surrogateescape") as archive:  # type: ignore[call-overload]
            for member in archive:
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    self.stream(where.within(_shown(member.name)), _parts_of(content))

    def _wal(self, where: Where, parts: Iterator[bytes]) -> None:
        inside = where.within("log records")
        search = Search(self._work)

        def records() -> Iterator[bytes]:
            for part in pages.paged(parts):
                joined = pages.without_wal_heads(part)
                self._search(search, inside, joined)
                yield joined

        self._values(inside, records(), inline_values, MOST_IN_PAGE)

    def _relation(self, where: Where, parts: Iterator[bytes]) -> None:
        toast, chunked, offset = pages.ToastValues(), where.within("value in chunks"), 0

        def watched() -> Iterator[bytes]:
            nonlocal offset
            for part in pages.paged(parts):
                for at, value in toast.feed(part, offset):
                    self._value(chunked, at, value)
                offset += len(part)
                yield part

        self._values(where, watched(), inline_values, MOST_IN_PAGE)
        for at, value in toast.rest():
            self._value(chunked, at, value)

    def _value(self, where: Where, at: int, value: bytes) -> None:
        """One value that was put together: as it is, and undone if it is compressed."""
        self._search(Search(self._work), where, value, at)
        try:
            plain = decompressed(value)
        except NotCompressed:
            return
        self._search(Search(self._work), where, plain, at)

    def _values(
        self,
        where: Where,
        parts: Iterable[bytes],
        values: Callable[[bytes, int], Iterator[tuple[int, bytes]]],
        longest: int,
    ) -> None:
        """Searches the compressed values in a stream, each of which has at most ``longest`` bytes."""
        carry, fed, inside = b"", 0, where.within("compressed value")
        for part in parts:
            window = carry + part
            for position, value in values(window, len(carry)):
                self._search(Search(self._work), inside, value, fed - len(carry) + position)
            fed += len(part)
            carry = window[-longest:]

    def _inner_streams(self, where: Where, parts: Iterable[bytes]) -> None:
        streams, searches, inside = InnerStreams(), dict[int, Search](), where.within("compressed stream")
        for part in parts:
            for start, piece in streams.feed(part):
                search = searches.setdefault(start, Search(self._work))
                self._search(search, inside, piece, start)
            searches = {start: search for start, search in searches.items() if streams.is_open(start)}


class _Reader:
    """The parts as a file that is read from its beginning to its end."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _parts_of(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.read(PART):
        yield part


def _packed(
    head: bytes, programs: dict[str, Program]
) -> tuple[str, Callable[[Iterator[bytes]], Iterator[bytes]]] | None:
    """The name of the form that a stream is packed in, and what undoes it; None if it is none."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip", gunzipped
    if head.startswith(b"BZh"):
        return "bzip2", unbzipped
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz", unxzed
    for beginning, name in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"), (b"PGDMP", "pg_dump")):
        if head.startswith(beginning):
            return name, partial(output_of, programs[name])
    return None


def _peeked(parts: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The beginning of a stream, and all of it."""
    first = b""
    for part in parts:
        first += part
        if len(first) >= _HEAD:
            break

    def all_of_it() -> Iterator[bytes]:
        if first:
            yield first
        yield from parts

    return first[:_HEAD], all_of_it()


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
