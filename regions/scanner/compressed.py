"""Values that stores have compressed by themselves: PostgreSQL by pglz or LZ4, Redis and Valkey in their snapshots by LZF.

Formats: src/common/pg_lzcompress.c and src/include/varatt.h of PostgreSQL 18; the block format of LZ4; src/rdb.c and
src/lzf_d.c of Valkey 8. A value that is none of these is an error, so whoever searches a page can try each place
where one could begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

#: Bytes. A value is in memory at once, compressed and not.
MOST_BYTES: Final = 64 * 2**20
#: A value in a page has at most so many bytes; it is not larger than a page of the largest size.
MOST_IN_PAGE: Final = 32 * 1024
_HEAD: Final = 8
_PGLZ, _LZ4 = 0, 1
_RAW_SIZE: Final = (1 << 30) - 1


class NotCompressed(ValueError):
    """These bytes are no compressed value."""


def inline_values(window: bytes, beyond: int) -> Iterator[tuple[int, bytes]]:
    """(position, value) of the compressed values in a window that end after its first ``beyond`` bytes. They have a head of four
    bytes with their length. Each position is tried, since those of the write-ahead log are not aligned."""
    for phase in range(4):
        count = (len(window) - phase) // 4
        if count < 2:
            return
        words = np.frombuffer(window, dtype="<u4", count=count, offset=phase)
        sizes = words[:-1] >> 2
        raw_sizes = words[1:] & np.uint32(_RAW_SIZE)
        methods = words[1:] >> 30
        plausible = (words[:-1] & 3 == 2) & (sizes > _HEAD) & (sizes <= MOST_IN_PAGE)
        plausible &= (methods <= _LZ4) & (raw_sizes >= sizes - _HEAD) & (raw_sizes <= sizes * 256)
        for index in np.flatnonzero(plausible).tolist():
            position, size = index * 4 + phase, int(sizes[index])
            if position + size <= beyond or position + size > len(window):
                continue
            try:
                yield position, decompressed(window[position + 4 : position + size])
            except NotCompressed:
                continue


def decompressed(stored: bytes) -> bytes:
    """A compressed value without its length: its size and method, and what follows.

    Raises: `NotCompressed`."""
    if len(stored) <= 4:
        raise NotCompressed
    info = int.from_bytes(stored[:4], "little")
    size, method = info & _RAW_SIZE, info >> 30
    if not len(stored) - 4 <= size <= MOST_BYTES:
        raise NotCompressed
    if method == _PGLZ:
        return _pglz(stored, size)
    if method == _LZ4:
        return _lz4(stored, size)
    raise NotCompressed


def _pglz(stored: bytes, size: int) -> bytes:
    """Groups of eight items, each a byte or a copy of earlier output, behind a byte that says which."""
    out = bytearray()
    at, end = 4, len(stored)
    try:
        while at < end and len(out) < size:
            control = stored[at]
            at += 1
            if control == 0 and at + 8 <= end and len(out) + 8 <= size:
                out += stored[at : at + 8]
                at += 8
                continue
            for _ in range(8):
                if at >= end or len(out) >= size:
                    break
                if control & 1:
                    first, second = stored[at], stored[at + 1]
                    at += 2
                    length, offset = (first & 0x0F) + 3, (first & 0xF0) << 4 | second
                    if length == 18:
                        length += stored[at]
                        at += 1
                    _copy(out, offset, min(length, size - len(out)))
                else:
                    out.append(stored[at])
                    at += 1
                control >>= 1
    except IndexError:
        raise NotCompressed from None
    if len(out) != size or at != end:
        raise NotCompressed
    return bytes(out)


def _lz4(stored: bytes, size: int) -> bytes:
    """Sequences of literals and a copy of earlier output; the last has literals alone."""
    out = bytearray()
    at, end = 4, len(stored)
    try:
        while at < end:
            token = stored[at]
            at += 1
            length = token >> 4
            if length == 15:
                at, length = _longer(stored, at, length)
            if at + length > end or len(out) + length > size:
                raise NotCompressed
            out += stored[at : at + length]
            at += length
            if at == end:
                break
            offset = stored[at] | stored[at + 1] << 8
            at += 2
            length = token & 0x0F
            if length == 15:
                at, length = _longer(stored, at, length)
            if len(out) + length + 4 > size:
                raise NotCompressed
            _copy(out, offset, length + 4)
    except IndexError:
        raise NotCompressed from None
    if len(out) != size:
        raise NotCompressed
    return bytes(out)


def _longer(stored: bytes, at: int, length: int) -> tuple[int, int]:
    while True:
        more = stored[at]
        at += 1
        length += more
        if more != 255:
            return at, length


def _copy(out: bytearray, offset: int, length: int) -> None:
    """Appends bytes that are so far back, which may be among those that it appends."""
    if not 0 < offset <= len(out):
        raise NotCompressed
    start = len(out) - offset
    if offset >= length:
        out += out[start : start + length]
        return
    period = bytes(out[start:])
    out += (period * (length // offset + 1))[:length]


# --- snapshots of Redis and Valkey -------------------------------------------------------------------------------------

_LZF_STRING: Final = 0xC3


def lzf_values(window: bytes, beyond: int) -> Iterator[tuple[int, bytes]]:
    """(position, value) of the compressed strings in a window of a snapshot that end after its first ``beyond`` bytes."""
    position = window.find(_LZF_STRING)
    while position >= 0:
        try:
            at, stored = _length(window, position + 1)
            at, size = _length(window, at)
            if beyond < at + stored <= len(window) and size <= MOST_BYTES:
                yield position, _lzf(window[at : at + stored], size)
        except (NotCompressed, IndexError):
            pass
        position = window.find(_LZF_STRING, position + 1)


def _length(window: bytes, at: int) -> tuple[int, int]:
    """A length of a snapshot, in 6, 14 or 32 bits, and where it ends."""
    first = window[at]
    if first >> 6 == 0:
        return at + 1, first
    if first >> 6 == 1:
        return at + 2, (first & 0x3F) << 8 | window[at + 1]
    if first == 0x80 and at + 5 <= len(window):
        return at + 5, int.from_bytes(window[at + 1 : at + 5], "big")
    raise NotCompressed


def _lzf(stored: bytes, size: int) -> bytes:
    out = bytearray()
    at, end = 0, len(stored)
    while at < end:
        control = stored[at]
        at += 1
        if control < 32:
            out += stored[at : at + control + 1]
            at += control + 1
        else:
            length = control >> 5
            if length == 7:
                length += stored[at]
                at += 1
            _copy(out, ((control & 0x1F) << 8 | stored[at]) + 1, length + 2)
            at += 1
        if len(out) > size:
            raise NotCompressed
    if len(out) != size or at != end:
        raise NotCompressed
    return bytes(out)
