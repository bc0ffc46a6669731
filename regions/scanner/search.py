"""Looks for many needles at once in a stream of any length, with memory for its window only.

Each needle is known by four of its bytes, its **anchor**. All positions of a window are looked up in one table of anchors by
numpy, which costs the same for one needle and for thousands; the few that are in it are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from regions.scanner.markers import Marker, needles

_ANCHOR: Final = 4
_FACTOR: Final = np.uint32(2654435761)
#: Bits of a table's index: a small table stays in the processor's cache, a large one has room for many anchors.
_FEW_BITS, _MANY_BITS, _FEW = 16, 20, 2000
#: Line ends, as they are and escaped.
_ENDS: Final = re.compile(rb"\\[nr]|[\r\n]")


class Hit(NamedTuple):
    """``offset``: of the first byte in the stream."""

    marker: int
    offset: int


class _Table:
    """Needles by their anchors. ``longest``: bytes of the longest needle."""

    def __init__(self, found: Iterable[tuple[bytes, int]]) -> None:
        self.by_anchor: dict[bytes, list[tuple[bytes, int, int]]] = {}
        self.longest = 0
        for needle, marker in found:
            at = _rarest(needle)
            self.by_anchor.setdefault(needle[at : at + _ANCHOR], []).append((needle, at, marker))
            self.longest = max(self.longest, len(needle))
        values = np.frombuffer(b"".join(self.by_anchor), dtype="<u4")
        bits = _FEW_BITS if len(values) < _FEW else _MANY_BITS
        self.shift = np.uint32(32 - bits)
        self.is_anchor = np.zeros(1 << bits, dtype=bool)
        self.is_anchor[(values * _FACTOR) >> self.shift] = True

    def find(self, window: bytes, beyond: int) -> Iterator[tuple[int, int]]:
        """(marker, position) of the needles in a window that end after its first ``beyond`` bytes, in no order."""
        for phase in range(_ANCHOR):
            count = (len(window) - phase) // _ANCHOR
            if count <= 0:
                return
            values = np.frombuffer(window, dtype="<u4", count=count, offset=phase)
            for index in np.flatnonzero(self.is_anchor[(values * _FACTOR) >> self.shift]).tolist():
                position = index * _ANCHOR + phase
                for needle, at, marker in self.by_anchor.get(window[position : position + _ANCHOR], ()):
                    start = position - at
                    if start >= 0 and start + len(needle) > beyond and window.startswith(needle, start):
                        yield marker, start


def _rarest(needle: bytes) -> int:
    """Where the four bytes of a needle begin that are in other texts least often, as far as that can be guessed: different ones,
    and no spaces or vowels."""
    common = frozenset(b" etaoinsrhu0\\")

    def score(at: int) -> int:
        part = needle[at : at + _ANCHOR]
        return 2 * len(set(part)) - sum(byte in common for byte in part)

    return max(range(len(needle) - _ANCHOR + 1), key=score)


class Needlework:
    """The tables of some markers, which all searches share."""

    def __init__(self, markers: Sequence[Marker]) -> None:
        self.markers = tuple(markers)
        forms = [(needles(marker.text), number) for number, marker in enumerate(markers)]
        self.plain = _Table((needle, number) for found, number in forms for needle in found.plain)
        self.wrapped = _Table((needle, number) for found, number in forms for needle in found.wrapped)


@dataclass(slots=True)
class Search:
    """One stream, fed in order. A needle that lies across chunks is found, and none is found twice."""

    work: Needlework
    # Bytes of the stream that were fed, and the last of them, in which a needle may have begun.
    _fed: int = 0
    _carry: bytes = b""
    # The same of the stream without line ends, and a backslash that the next chunk may make the beginning of one.
    _carry_joined: bytes = b""
    _backslash: bytes = b""

    def feed(self, data: bytes) -> Iterator[Hit]:
        """The needles that end in these bytes."""
        window, known = self._carry + data, len(self._carry)
        for marker, position in self.work.plain.find(window, known):
            yield Hit(marker, self._fed - known + position)
        self._carry = _last(window, self.work.plain.longest - 1)
        yield from self._feed_joined(data)
        self._fed += len(data)

    def _feed_joined(self, data: bytes) -> Iterator[Hit]:
        """Base64, which may have line ends in it, as they are or escaped. One that began in an earlier chunk is told where this
        one begins."""
        base = self._fed - len(self._backslash)
        data = self._backslash + data
        self._backslash = b"\\" if data.endswith(b"\\") else b""
        data = data[: len(data) - len(self._backslash)]
        joined = data.replace(b"\\n", b"").replace(b"\\r", b"").translate(None, b"\r\n")
        window, known = self._carry_joined + joined, len(self._carry_joined)
        for marker, position in self.work.wrapped.find(window, known):
            yield Hit(marker, base + _unjoined(data, max(0, position - known)))
        self._carry_joined = _last(window, self.work.wrapped.longest - 1)


def _last(window: bytes, count: int) -> bytes:
    return window[-count:] if count > 0 else b""


def _unjoined(data: bytes, position: int) -> int:
    """Where in data the byte is that has this position when the line ends are left out."""
    left_out = 0
    for found in _ENDS.finditer(data):
        if found.start() - left_out > position:
            break
        left_out += len(found[0])
    return position + left_out
