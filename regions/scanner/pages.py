"""What pages of PostgreSQL cut in pieces: the write-ahead log, which has a head on each page, and values of TOAST tables, which
are stored in chunks of some 2,000 bytes.

Formats: src/include/access/xlog_internal.h, storage/bufpage.h, access/htup_details.h and access/heaptoast.h of PostgreSQL 15 to
18, on machines that are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from regions.scanner.compressed import MOST_BYTES

PAGE: Final = 8192
_WAL_SHORT, _WAL_LONG = 24, 40
_LONG_HEAD: Final = 0x0002
_PAGE_LAYOUT: Final = b"\x04\x20"
_PAGE_HEAD: Final = 24
_TUPLE_HEAD: Final = 24
_CHUNK_HEAD: Final = 12
#: Bytes of each chunk of a value but its last, with pages of 8 KB.
CHUNK: Final = 1996
#: Values of one file whose last chunk has not come, and their bytes. More than that are given up, the oldest first.
_MOST_OPEN, _MOST_HELD = 64, 2 * MOST_BYTES


def is_wal(head: bytes) -> bool:
    """Whether a file that begins so is a segment of the write-ahead log."""
    return len(head) >= _WAL_LONG and head[1] == 0xD1 and bool(head[2] & _LONG_HEAD) and _wal_page(head) == PAGE


def _wal_page(head: bytes) -> int:
    return int.from_bytes(head[36:40], "little")


def is_relation(head: bytes) -> bool:
    """Whether a file that begins so has pages of a table or an index."""
    if len(head) < _PAGE_HEAD or head[18:20] != _PAGE_LAYOUT:
        return False
    lower, upper, special = struct.unpack_from("<HHH", head, 12)
    return bool(_PAGE_HEAD <= lower <= upper <= special <= PAGE)


def paged(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in whole pages; the last may be shorter."""
    rest = b""
    for part in parts:
        rest += part
        whole = len(rest) - len(rest) % PAGE
        if whole:
            yield rest[:whole]
            rest = rest[whole:]
    if rest:
        yield rest


def without_wal_heads(pages: bytes) -> bytes:
    """The records of whole pages of the write-ahead log."""
    found = []
    for start in range(0, len(pages), PAGE):
        head = _WAL_LONG if pages[start + 2] & _LONG_HEAD else _WAL_SHORT
        found.append(pages[start + head : start + PAGE])
    return b"".join(found)


@dataclass(slots=True)
class _Value:
    """``data``: its chunks so far, in order. ``early``: later ones, by number. ``offset``: of its first page in the file."""

    offset: int
    data: bytearray = field(default_factory=bytearray)
    chunks: int = 0
    last: int | None = None
    early: dict[int, bytes] = field(default_factory=dict)

    def add(self, number: int, chunk: bytes) -> None:
        if len(chunk) < CHUNK:
            self.last = number
        self.early[number] = chunk
        while (following := self.early.pop(self.chunks, None)) is not None:
            self.data += following
            self.chunks += 1

    @property
    def is_whole(self) -> bool:
        return self.last is not None and self.chunks > self.last

    @property
    def size(self) -> int:
        return len(self.data) + CHUNK * len(self.early)

    def pieces(self) -> Iterator[bytes]:
        """What there is of it, each piece without gaps."""
        if self.data:
            yield bytes(self.data)
        piece, before = bytearray(), None
        for number in sorted(self.early):
            if before is not None and number != before + 1:
                yield bytes(piece)
                piece.clear()
            piece += self.early[number]
            before = number
        if piece:
            yield bytes(piece)


class ToastValues:
    """The values of a TOAST table, put together from its pages. A page of another table has none. Versions of rows that were
    deleted count too: their bytes are there."""

    def __init__(self) -> None:
        self._open: dict[int, _Value] = {}

    def feed(self, pages: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
        """(where its first chunk's page is, bytes) of the values that are whole with these pages, or too large to keep."""
        for start in range(0, len(pages) - PAGE + 1, PAGE):
            for value_id, number, chunk in _chunks(pages[start : start + PAGE]):
                value = self._open.setdefault(value_id, _Value(offset + start))
                value.add(number, chunk)
                if value.is_whole or value.size > MOST_BYTES:
                    yield from self._give(value_id)
            while len(self._open) > _MOST_OPEN or sum(value.size for value in self._open.values()) > _MOST_HELD:
                yield from self._give(next(iter(self._open)))

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """The values of which chunks are missing."""
        for value_id in list(self._open):
            yield from self._give(value_id)

    def _give(self, value_id: int) -> Iterator[tuple[int, bytes]]:
        value = self._open.pop(value_id)
        for piece in value.pieces():
            yield value.offset, piece


def _chunks(page: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(value, number, bytes) of the chunks in a page, as far as its tuples have the form of chunks."""
    if not is_relation(page):
        return
    (lower,) = struct.unpack_from("<H", page, 12)
    for at in range(_PAGE_HEAD, min(lower, PAGE) - 3, 4):
        (pointer,) = struct.unpack_from("<I", page, at)
        start, size = pointer & 0x7FFF, pointer >> 17
        if size < _TUPLE_HEAD + _CHUNK_HEAD or start + size > PAGE:
            continue
        (columns,) = struct.unpack_from("<H", page, start + 18)
        if columns & 0x07FF != 3 or page[start + 22] != _TUPLE_HEAD:
            continue
        value_id, number, head = struct.unpack_from("<IiI", page, start + _TUPLE_HEAD)
        length = head >> 2
        if head & 3 == 0 and 4 < length <= CHUNK + 4 and 0 <= number < 2**20 and length + _TUPLE_HEAD + 8 <= size:
            first = start + _TUPLE_HEAD + _CHUNK_HEAD
            yield value_id, number, page[first : first + length - 4]
