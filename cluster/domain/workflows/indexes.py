"""A set of small numbers: which items of a fan-out are open. Ten thousand of them are a kilobyte, of which taking one
out makes another; a set of Python would be copied item by item whenever one of them ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Indexes:
    """``bits``: bit n is set if n is in it."""

    bits: int = 0

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Indexes:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return cls(bits)

    @classmethod
    def from_json(cls, spans: Sequence[int | Sequence[int]]) -> Indexes:
        """Of numbers and spans of them, as `to_json` writes these. Older runs have numbers only."""
        found = cls()
        for span in spans:
            first, last = (span, span) if isinstance(span, int) else span
            found |= range(first, last + 1)
        return found

    def to_json(self) -> list[int | list[int]]:
        """In order; those that follow each other are ``[first, last]``."""
        spans: list[int | list[int]] = []
        bits, first = self.bits, 0
        while bits:
            gap = (bits & -bits).bit_length() - 1
            bits, first = bits >> gap, first + gap
            length = (~bits & (bits + 1)).bit_length() - 1
            spans.append(first if length == 1 else [first, first + length - 1])
            bits, first = bits >> length, first + length
        return spans

    def __contains__(self, number: int) -> bool:
        return self.bits >> number & 1 == 1

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __iter__(self) -> Iterator[int]:
        for span in self.to_json():
            yield from (span,) if isinstance(span, int) else range(span[0], span[1] + 1)

    def __sub__(self, number: int) -> Indexes:
        return Indexes(self.bits & ~(1 << number))

    def __or__(self, numbers: range) -> Indexes:
        return Indexes(self.bits | ((1 << len(numbers)) - 1) << numbers.start)
