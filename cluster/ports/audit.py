"""What the sealer reads of the log, and the checkpoints that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.audit.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RowToSeal:
    """The columns of a row that its leaf is made of."""

    seq: int
    at: float
    v: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryHashes:
    """``previous`` is None for the log's first row."""

    entry: bytes
    previous: bytes | None


class AuditTrail(Protocol):
    """What readers get."""

    async def checkpoints(self, after: int, limit: int) -> list[Checkpoint]:
        """At most ``limit`` checkpoints that cover a row after ``after``, in order.

        Raises: `InvalidRequest` if a stored one has lost its form, `StoreUnavailable`."""

    async def entry_hashes(self, seqs: Sequence[int]) -> Mapping[int, EntryHashes]:
        """Of those rows that are sealed. Raises: `StoreUnavailable`."""

    async def sealed(self) -> tuple[int, str | None]:
        """The last sealed row and its entry hash in hex; (0, None) if none is. Raises: `StoreUnavailable`."""


class Seals(AuditTrail, Protocol):
    """What the sealer gets."""

    async def last(self) -> Checkpoint | None:
        """The last checkpoint: where the sealer goes on. Raises: as ``checkpoints`` does."""

    async def rows_to_seal(self, first: int, limit: int) -> list[RowToSeal]:
        """At most ``limit`` rows from the number ``first`` on, in order. Raises: `StoreUnavailable`."""

    async def seal(self, checkpoint: Checkpoint) -> bool:
        """Stores a checkpoint; False, and nothing is stored, if it does not follow the last one.

        Raises: `Fenced` if the zone has another epoch than the checkpoint or another primary, `StoreUnavailable`."""
