"""Verifies the stored log against its own checkpoints, a part at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cluster.domain.audit.chain import GENESIS
from cluster.domain.audit.checkpoint import Checkpoint, Coverage, DamagedCheckpoint
from cluster.domain.audit.verify import AuditReport, AuditVerifier, Fault, first_fault
from cluster.domain.base.log import LogRow
from cluster.ports.audit import AuditTrail, LogBase
from cluster.ports.log import Log

#: Of one call: what a replica can verify within a second.
ROWS_MAX: Final = 20_000
CHECKPOINTS_MAX: Final = 1_000
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class AuditPart:
    """``head``: the last row of the log, which may come after the part."""

    report: AuditReport
    head: int


async def verify_part(log: Log, trail: AuditTrail, start_seq: int, end_seq: int | None) -> AuditPart:
    """Verifies rows from ``start_seq`` (or, if that has gone, the first row that is there) up to ``end_seq``, or to the end of
    the checkpoint that covers that, or as many as one call may take. The report says which row was the last. A checkpoint of rows
    after the last one tells that the log was cut.

    Raises: `StoreUnavailable`."""
    base, head = await trail.base(), await log.head()
    after = max(base.seq, start_seq - 1)
    last = after + ROWS_MAX if end_seq is None else min(end_seq, after + ROWS_MAX)
    checkpoints, damage = await stored_checkpoints(trail, after, last, CHECKPOINTS_MAX)
    needed = [checkpoint for checkpoint in checkpoints if checkpoint.first_seq <= last]
    covered = needed[-1].last_seq if needed else after
    # Rows after the last checkpoint are checked too, unless there are more checkpoints than were read.
    through = covered if covered >= last or len(needed) == CHECKPOINTS_MAX else last
    verifier = await asyncio.to_thread(_verifier, needed, after, base)
    while after < through and (rows := await log.read(after, min(PAGE, through - after))):
        await asyncio.to_thread(_add, verifier, rows)
        after = rows[-1].seq
    report = verifier.report()
    return AuditPart(replace(report, fault=first_fault(report.fault, damage)), head)


async def stored_checkpoints(
    trail: AuditTrail, after: int, last: int, most: int
) -> tuple[list[Checkpoint], Fault | None]:
    """At most ``most`` checkpoints of the rows after ``after`` up to ``last``, and where one of them has lost its form: those
    before it still prove what they cover.

    Raises: `StoreUnavailable`."""
    found: list[Checkpoint] = []
    try:
        while after < last and len(found) < most:
            page = await trail.checkpoints(after, min(PAGE, most - len(found)))
            if not page:
                break
            found += page
            after = page[-1].last_seq
    except DamagedCheckpoint as error:
        if error.first_seq <= last:
            return found, Fault(seq=max(1, error.first_seq), reason="its checkpoint has lost its form")
    return found, None


def _verifier(checkpoints: Sequence[Checkpoint], after: int, base: LogBase) -> AuditVerifier:
    known = Coverage(checkpoints).entry(after) or (base.entry if after == base.seq else GENESIS)
    return AuditVerifier(checkpoints, after=after, previous=known)


def _add(verifier: AuditVerifier, rows: Sequence[LogRow]) -> None:
    for row in rows:
        verifier.add(row)
