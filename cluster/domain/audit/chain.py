"""The chain: from a row of the log to its leaf, and from the leaf and the entry hash before to the row's own entry hash."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise

from cluster.domain.base.merkle import leaf_hash

#: What stands before the first row's entry hash. The released client gets null for it.
GENESIS = bytes(32)
HASH_BYTES = 32
_ROW = b"aragora audit row, version 1\0"
_ENTRY = b"aragora audit entry, version 1\0"
_NUMBERS = struct.Struct(">qhd")


def row_leaf(seq: int, at: float, v: int, digest: bytes) -> bytes:
    """The leaf of a row. ``digest`` covers the row's other columns; the time is here too, because that covers only its
    microseconds, of which a double has fractions."""
    return leaf_hash(_ROW + _NUMBERS.pack(seq, v, at) + digest)


def entry_hash(previous: bytes, leaf: bytes) -> bytes:
    """The entry hash of the row of this leaf, after the row with the entry hash ``previous``."""
    return hashlib.sha256(_ENTRY + previous + leaf).digest()


def begun_epoch(before: int, epoch: int) -> int | None:
    """The epoch that begins with a row of ``epoch`` after one of the epoch ``before``; None if none begins. Before the first row,
    and in rows of the first form, the epoch is 0."""
    return epoch if epoch > before else None


def rows_of_one_epoch(before: int, epochs: Sequence[int]) -> tuple[int, int | None]:
    """How many of the next rows one checkpoint may cover, and the epoch that begins with the first of them. ``before`` is the
    epoch of the row before them, ``epochs`` are theirs."""
    begun = [begun_epoch(*each) for each in pairwise((before, *epochs))]
    ends = (number for number, epoch in enumerate(begun) if epoch is not None and number > 0)
    return next(ends, len(epochs)), next(iter(begun), None)
