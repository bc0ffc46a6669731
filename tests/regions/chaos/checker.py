"""Whether a history of regions is one that they promise. Pure: reads a `History`, says what was violated.

The checks are named after the invariants that they hold:

- ``I1`` one primary in each epoch, and no write under an epoch after another one has answered under a later
- ``I2`` every acknowledged write is in the primary's database, and every region holds the same
- ``I3`` each task is submitted once in the log
- ``I4`` one idempotency key, one task, also where the first answer was lost
- ``I5`` the log has no gap, and who resumes after a row gets the next
- ``I7`` the audit chain verifies in every region
- ``I10`` after each fault a write is answered, and the regions become whole again
- ``I11`` no client has seen a row that the primary at the end has not got

I6 waits for residency. I8 and I9 are of the scheduler of one region: `tests.chaos` checks them.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.regions.chaos.history import FinalRegion, History, LogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    invariant: str
    message: str


def check(history: History) -> list[Violation]:
    return [Violation(invariant=invariant, message=message) for invariant, find in CHECKS for message in find(history)]


def lost(history: History) -> set[str]:
    """Ids of acknowledged tasks that the primary has not got: the RPO, counted."""
    primary = _primary(history)
    return set() if primary is None else {write.task_id for write in history.acknowledged} - primary.tasks.keys()


def _primary(history: History) -> FinalRegion | None:
    return next((region for region in history.regions if region.name == history.primary), None)


def _one_primary(history: History) -> Iterator[str]:
    wrote: dict[int, set[str]] = defaultdict(set)
    for write in history.acknowledged:
        wrote[write.epoch].add(write.region)
    for epoch, names in wrote.items():
        if len(names) > 1:
            yield f"{sorted(names)} answered under epoch {epoch}"
    newest = None
    ends = iter(sorted(history.acknowledged, key=lambda write: write.answered))
    end = next(ends, None)
    for write in sorted(history.acknowledged, key=lambda write: write.sent):
        while end is not None and end.answered < write.sent:
            newest = end if newest is None or end.epoch > newest.epoch else newest
            end = next(ends, None)
        if newest is not None and write.epoch < newest.epoch:
            yield (
                f"{write.region} answered {write.task_id} under epoch {write.epoch} after {newest.region} had under "
                f"{newest.epoch}"
            )


def _no_older_fence(history: History) -> Iterator[str]:
    primary = _primary(history)
    if primary is None:
        return
    for before, after in itertools.pairwise(primary.log):
        if after.epoch < before.epoch:
            yield f"row {after.seq} of the log is of epoch {after.epoch}, the row before of {before.epoch}"
    for region in history.regions:
        for row in region.surplus:
            later = _first_after(primary.log, row.epoch)
            if later is not None and later.at < row.at:
                yield f"{region.name} wrote {row.entity} under epoch {row.epoch} after epoch {later.epoch} had begun"


def _first_after(log: Sequence[LogRow], epoch: int) -> LogRow | None:
    return next((row for row in log if row.epoch > epoch), None)


def _nothing_lost(history: History) -> Iterator[str]:
    if missing := lost(history):
        yield f"{len(missing)} acknowledged writes are not at {history.primary}: {sorted(missing)[:5]}"
    primary = _primary(history)
    if primary is None:
        return
    logged = {row.entity for row in primary.log if row.kind == "task.submitted"}
    if unlogged := {write.task_id for write in history.acknowledged} - logged - missing:
        yield f"{len(unlogged)} acknowledged writes are not in the log of {primary.name}: {sorted(unlogged)[:5]}"
    for region in history.regions:
        for table, digest in region.tables.items():
            if digest != primary.tables[table]:
                yield f"table {table} of {region.name} differs from that of {primary.name}"


def _once_in_the_log(history: History) -> Iterator[str]:
    for region in history.regions:
        counts = Counter(row.entity for row in region.log if row.kind == "task.submitted")
        for task_id in region.tasks.keys() | counts.keys():
            if counts[task_id] != 1 or task_id not in region.tasks:
                yield f"{task_id} of {region.name} was submitted {counts[task_id]} times"


def _one_task_per_key(history: History) -> Iterator[str]:
    ids: dict[str, set[str]] = defaultdict(set)
    for write in history.acknowledged:
        ids[write.key].add(write.task_id)
    primary = _primary(history)
    for task_id, key in () if primary is None else primary.tasks.items():
        ids[key].add(task_id)
    for key, found in ids.items():
        if len(found) > 1:
            yield f"key {key} made {sorted(found)}"


def _no_gap(history: History) -> Iterator[str]:
    for region in history.regions:
        for expected, row in enumerate(region.log, 1):
            if row.seq != expected:
                yield f"the log of {region.name} has {row.seq} where {expected} belongs"
                break
    for read in history.reads:
        for expected, (seq, _, _) in enumerate(read.rows, read.after + 1):
            if seq != expected:
                yield f"who resumed after {read.after} at {read.region} got {seq} where {expected} belongs"
                break


def _chain(history: History) -> Iterator[str]:
    for region in history.regions:
        if region.chain_fault is not None:
            yield f"the audit chain of {region.name}: {region.chain_fault}"


def _came_back(history: History) -> Iterator[str]:
    for fault in history.faults:
        if fault.whole is None:
            yield f"after {fault.name} of {fault.victim} the regions did not become whole again"
    if not history.regions:
        yield "the run did not reach its end"


def _seen_and_there(history: History) -> Iterator[str]:
    primary = _primary(history)
    if primary is None:
        return
    there = {row.seq: (row.epoch, row.digest) for row in primary.log}
    for read in history.reads:
        for seq, epoch, digest in read.rows:
            if there.get(seq) != (epoch, digest):
                yield f"a client of {read.region} saw row {seq} of epoch {epoch}, which {primary.name} has not got"
                break


CHECKS: tuple[tuple[str, Callable[[History], Iterator[str]]], ...] = (
    ("I1", _one_primary),
    ("I1", _no_older_fence),
    ("I2", _nothing_lost),
    ("I3", _once_in_the_log),
    ("I4", _one_task_per_key),
    ("I5", _no_gap),
    ("I7", _chain),
    ("I10", _came_back),
    ("I11", _seen_and_there),
)
