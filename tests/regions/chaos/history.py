"""What clients of three regions saw during one run, and what the regions' databases held when it was over.

Times are seconds of one clock of the machine, that of ``time.time``: all regions of a run share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A write that was answered. ``key``: of idempotency; ``task_id``: what was answered to it."""

    key: str
    task_id: str
    region: str
    epoch: int
    sent: float
    answered: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Rows of the log that a client was shown as those after ``after``, each as (seq, epoch, digest)."""

    region: str
    after: int
    at: float
    rows: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``healed``: when the network and all components were there again. ``whole``: when every region was in the in-sync set;
    None if that never came."""

    name: str
    victim: str
    began: float
    healed: float
    whole: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    seq: int
    epoch: int
    at: float
    kind: str
    entity: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRegion:
    """A region at the end. ``tasks``: id → the key that it was submitted under. ``tables``: a digest of each replicated table.
    ``surplus``: rows that it once had past a fork, and kept. ``chain_fault``: what is wrong with its audit chain."""

    name: str
    log: tuple[LogRow, ...]
    tasks: dict[str, str]
    tables: dict[str, str]
    surplus: tuple[LogRow, ...] = ()
    chain_fault: str | None = None


@dataclass(slots=True)
class History:
    """``regions``: the primary alone if the others did not become whole; empty if there is none. ``refused``: how often clients
    got no answer, by code."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    regions: list[FinalRegion] = field(default_factory=list)
    primary: str = ""
