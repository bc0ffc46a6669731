"""What the sealer reads of the log, and the checkpoints that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cluster.domain.audit.chain import GENESIS
from cluster.domain.audit.checkpoint import Checkpoint
from cluster.domain.base.log import LogRow
from cluster.ports.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class RowToSeal:
    """The columns of a row that its leaf is made of, and the epoch under which it was written."""

    seq: int
    epoch: int
    at: float
    v: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """How many rows this region has still to seal, and when the first of them was written, in epoch seconds; None if there are
    none."""

    rows: int
    since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A row and its place in the chain. ``entry_hash`` is None until the row is sealed, ``previous_hash`` also for the log's
    first row."""

    row: LogRow
    previous_hash: bytes | None
    entry_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Selects the rows of a workspace that match all that is given; of several values, one has to match. Times are epoch seconds.
    ``principal_types`` are what stands before a principal's colon, ``nouns`` what stands before a kind's dot. Rows whose kinds
    begin as one of ``hidden`` are left out."""

    workspace: str
    since: float | None = None
    until: float | None = None
    kinds: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    principal_types: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class WorkspaceAudit(Protocol):
    """What request handlers get."""

    async def entries(self, of: AuditFilter, limit: int, offset: int) -> tuple[list[AuditEntry], Total]:
        """The newest entries first, and how many there are. Raises: `StoreUnavailable`."""

    async def next(self, of: AuditFilter, after: int, through: int, limit: int) -> tuple[list[AuditEntry], int]:
        """Of the next ``limit`` rows of the log after a number and up to ``through`` those that match by workspace, times and
        ``hidden``, in order, and the number after which to go on: ``through`` if there are no more.

        Raises: `StoreUnavailable`."""

    async def entry(self, workspace: str, seq: int) -> AuditEntry | None:
        """An entry of the workspace; None if it has none of this number. Raises: `StoreUnavailable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBase:
    """The last row that has gone into an archive before the first that is there, and its entry hash."""

    seq: int = 0
    entry: bytes = GENESIS


class AuditTrail(Protocol):
    """What verifies the whole log."""

    async def base(self) -> LogBase:
        """After which row the log begins. Raises: `StoreUnavailable`."""

    async def checkpoints(self, after: int, limit: int) -> list[Checkpoint]:
        """At most ``limit`` checkpoints that cover a row after ``after``, in order, up to the first that has lost its form.

        Raises: `DamagedCheckpoint` if that is the first of them, `StoreUnavailable`."""

    async def sealed(self) -> tuple[int, str | None]:
        """The last sealed row and its entry hash in hex; (0, None) if none is. Raises: `StoreUnavailable`."""

    async def unsealed(self, zone: str) -> Unsealed:
        """What is not sealed. A region that is not the zone's primary seals nothing, and has nothing to seal.

        Raises: `StoreUnavailable`."""


class Seals(AuditTrail, Protocol):
    """What the sealer gets."""

    async def last(self) -> Checkpoint | None:
        """The last checkpoint: where the sealer goes on. Raises: as ``checkpoints`` does."""

    async def rows_to_seal(self, first: int, limit: int) -> list[RowToSeal]:
        """At most ``limit`` rows from the number ``first`` on, in order. Raises: `StoreUnavailable`."""

    async def seal(self, checkpoint: Checkpoint) -> bool:
        """Stores a checkpoint; False, and nothing is stored, if it does not follow the last one.

        Raises: `Fenced` if the zone has another epoch than the checkpoint or another primary, `StoreUnavailable`."""
