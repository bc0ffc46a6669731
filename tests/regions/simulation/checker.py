"""The invariants of one zone, checked while a schedule runs. A breach names the invariant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.domain.replication.quorum import ReplicationMode
from regions.domain.group import ZoneRecord
from tests.regions.simulation.database import Database


class Breach(AssertionError):
    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass(slots=True)
class Checker:
    """``holders``: the regions that hold the zone's payloads. ``lossy``: an operator accepted a loss, or chose async, so rows may
    be lacking. ``keys_dropped``: a lease was ended although it was renewed, so an old primary may still be trusted; what it
    writes must then reach nobody."""

    holders: frozenset[str]
    answered: dict[str, int] = field(default_factory=dict)
    shown: dict[int, str] = field(default_factory=dict)
    writers: dict[int, str] = field(default_factory=dict)
    primary: Database | None = None
    opened: int = 0
    lossy: bool = False
    keys_dropped: bool = False
    elections: int = 0
    reads: int = 0
    refused: int = 0

    def swapped(self, before: ZoneRecord, after: ZoneRecord, *, operator: bool) -> None:
        if after.epoch == before.epoch:
            return
        if after.epoch < before.epoch:
            raise Breach("epochs increase", f"{before.epoch} was followed by {after.epoch}")
        if after.primary not in self.holders:
            raise Breach("only who holds payloads leads", f"{after.primary} became primary of zone {after.zone}")
        if operator or before.mode is ReplicationMode.ASYNC:
            return
        if after.primary not in before.in_sync:
            raise Breach("members only", f"{after.primary} became primary and was not in {sorted(before.in_sync)}")

    def has_opened(self, database: Database, is_whole: bool) -> None:
        if not is_whole:
            raise Breach("only who is whole leads", f"{database.region} opened epoch {database.epoch}")
        if database.epoch <= self.opened:
            raise Breach("epochs increase", f"{database.epoch} was opened after {self.opened}")
        self.opened = database.epoch
        self.primary = database
        self.elections += 1
        for row_id, seq in self.answered.items():
            self._holds(database, seq, row_id, "no acknowledged row is lost")
        for seq, row_id in self.shown.items():
            self._holds(database, seq, row_id, "no client has seen a row that is not there")

    def _holds(self, database: Database, seq: int, row_id: str, invariant: str) -> None:
        if self.lossy:
            return
        if len(database.rows) < seq or database.rows[seq - 1][1] != row_id:
            raise Breach(invariant, f"{row_id} at {seq} is not at {database.region}, epoch {database.epoch}")

    def committed(self, database: Database, epoch: int) -> None:
        if self.writers.setdefault(epoch, database.region) != database.region:
            raise Breach("one primary per epoch", f"{self.writers[epoch]} and {database.region} wrote in epoch {epoch}")
        if epoch < self.opened and not self.keys_dropped:
            raise Breach(
                "a fenced process writes nothing", f"{database.region} wrote in epoch {epoch} after {self.opened}"
            )

    def has_answered(self, row_id: str, seq: int) -> None:
        self.answered[row_id] = seq
        if self.primary is not None:
            self._holds(self.primary, seq, row_id, "no acknowledged row is lost")

    def rests_on(self, row_id: str, seq: int, primary: str, copies: Mapping[str, int]) -> None:
        """``copies``: the last row at which each member of the set was whole."""
        others = copies.keys() - {primary}
        if len(self.holders) > 1 and others and not others & self.holders and not self.lossy:
            raise Breach(
                "copies without payloads do not count", f"{row_id} at {seq} was answered, and only {others} confirmed"
            )
        lacking = sorted(region for region, whole_at in copies.items() if whole_at < seq)
        if lacking and not self.lossy:
            raise Breach(
                "answers rest on whole copies", f"{row_id} at {seq} was answered, and {lacking} were not whole"
            )

    def has_shown(self, seq: int, row_id: str) -> None:
        """A client has read everything up to there: logs that share a row share everything before it."""
        self.reads += 1
        self.shown[seq] = row_id
        if self.primary is not None:
            self._holds(self.primary, seq, row_id, "no client has seen a row that is not there")
