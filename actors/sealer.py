"""Seals the log: reads its rows in order, chains them, and signs a checkpoint at least every second or 1,000 rows.

The sealer writes nothing that a commit waits for, and reads no content of rows, only their digests. Its cursor is its last
checkpoint, so a sealer that was killed anywhere repeats and skips nothing, and of two only one goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.audit.chain import entry_hash, row_leaf, rows_of_one_epoch
from cluster.domain.audit.checkpoint import NO_PREDECESSOR, Checkpoint, make_checkpoint
from cluster.domain.base.errors import Fenced, InvalidRequest, TryLater
from cluster.domain.base.signing import Signer
from cluster.ports.audit import LogBase, RowToSeal, Seals
from cluster.ports.clock import Clock
from cluster.ports.log import Region
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

BATCH: Final = 1000
#: Between two reads of a log that was read to its end.
SEAL_S: Final = 1.0
#: A lag above this is told in the status.
LATE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class SealingKey:
    """``self_signed``: whether the database that is sealed has the key too."""

    signer: Signer
    self_signed: bool


class Sealer:
    """``key`` is asked for before the first checkpoint; it may raise `TryLater`. The lag is measured by telemetry as well, for
    a sealer that is dead measures nothing."""

    def __init__(
        self,
        *,
        zone: str,
        seals: Seals,
        region: Region,
        key: Callable[[], Awaitable[SealingKey]],
        clock: Clock,
        batch: int = BATCH,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._zone = zone
        self._seals = seals
        self._region = region
        self._make_key = key
        self._clock = clock
        self._batch = batch
        self._key: SealingKey | None = None
        #: The last checkpoint, and the zone's epoch; read again after every failure.
        self._last: Checkpoint | None = None
        self._epoch: int | None = None
        #: When the log was last sealed to its end, or was not this region's to seal.
        self._whole_at = clock.now()
        #: Why the log cannot be sealed, as a sentence; empty while it can.
        self._broken = ""
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(self._seal_forever())

    async def stop(self) -> None:
        await self._loops.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory. ``lag_s``: how long ago the log was last sealed to its end."""
        lag_s = self._lag_s()
        late = [f"The audit is {lag_s:.0f} s behind the log."] if lag_s > LATE_S and not self._broken else []
        return {
            "serving": self._loops.running,
            "sealed": 0 if self._last is None else self._last.last_seq,
            "lag_s": lag_s,
            "warnings": [self._broken] if self._broken else late,
        }

    async def seal_once(self) -> bool:
        """Seals the next rows; returns whether there may be more at once. Waits for the primary if this region is not.

        Raises: `TryLater` if the store does not answer."""
        try:
            full = await self._seal_next()
        except Fenced:
            # Of another epoch, or not primary: this region has nothing to seal until that changes.
            self._epoch, self._whole_at = None, self._clock.now()
            return False
        except TryLater:
            self._epoch = None
            raise
        except InvalidRequest as error:
            self._say(f"The last checkpoint of the audit was changed: restore it. {error}")
            return False
        if not full and not self._broken:
            self._whole_at = self._clock.now()
        return full

    async def _seal_next(self) -> bool:
        if self._epoch is None:
            epoch = await self._region.epoch()
            self._last = await self._seals.last()
            self._epoch = epoch
        if self._key is None:
            self._key = await self._make_key()
        last = self._last
        # Without a checkpoint, what is in archives was sealed by another region, which this log was copied from.
        base = await self._seals.base() if last is None else LogBase(seq=last.last_seq, entry=last.chain)
        after = base.seq
        # The last sealed row is read once more, so that a tail that was cut or replaced is noticed by the next checkpoint.
        rows = await self._seals.rows_to_seal(after + (last is None), self._batch + (last is not None))
        self._say(_problem(last, after, rows))
        found = rows if last is None else rows[1:]
        if self._broken or not found:
            return False
        before = rows[0].epoch if last is not None else found[0].epoch if after else 0
        count, begins = rows_of_one_epoch(before, [row.epoch for row in found])
        checkpoint = make_checkpoint(
            self._key.signer,
            zone=self._zone,
            epoch=self._epoch,
            first_seq=after + 1,
            leaves=[_leaf(row) for row in found[:count]],
            previous=base.entry,
            predecessor=NO_PREDECESSOR if last is None else last.digest,
            at=self._clock.now(),
            self_signed=self._key.self_signed,
            begins_epoch=begins,
        )
        if not await self._seals.seal(checkpoint):
            self._epoch = None  # another sealer was first: goes on at once after what that has sealed
            return True
        self._last = checkpoint
        return count < len(found) or count == self._batch

    def _say(self, problem: str) -> None:
        if problem and problem != self._broken:
            _logger.error("%s", problem)
        self._broken = problem

    def _lag_s(self) -> float:
        return max(0.0, self._clock.now() - self._whole_at)

    async def _seal_forever(self) -> None:
        while True:
            try:
                full = await self.seal_once()
            except TryLater as error:
                _logger.warning("the log cannot be sealed, will try again: %s", error)
                full = False
            if not full:
                await self._clock.sleep(SEAL_S)


def _leaf(row: RowToSeal) -> bytes:
    return row_leaf(row.seq, row.at, row.v, row.digest)


def _problem(last: Checkpoint | None, after: int, rows: Sequence[RowToSeal]) -> str:
    """Why rows cannot be sealed, of which the first is the last sealed one: sealing them would hide that the log was changed."""
    advice = "nothing is sealed until the log is restored; see `aragora-cp audit verify`."
    first = after + 1
    if last is not None:
        first = last.last_seq
        if not last.is_signed():
            return f"The last checkpoint, of row {first}, was changed after it was signed: {advice}"
        if not rows or entry_hash(last.before(first), _leaf(rows[0])) != last.chain:
            return f"Row {first} of the log is not the one that was sealed: {advice}"
    for expected, row in enumerate(rows, first):
        if row.seq != expected:
            return f"Row {expected} of the log is missing: {advice}"
    return ""
