"""Verifies rows of the log: their order, their content, and that they are what checkpoints say. Needs no secret and no server.

Rows are given one by one in the order of their numbers, so that a log of any size is verified in little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.domain.audit.chain import GENESIS, entry_hash, row_leaf
from cluster.domain.audit.checkpoint import NO_PREDECESSOR, Checkpoint, Coverage
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow
from cluster.domain.base.merkle import tree_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first row that is not what it was, and why: a sentence without its full stop."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """``checked_through``: the last row that was given in order. ``covered_from``: the first row that a checkpoint covers.
    ``uncovered_from``: from which row on none does. ``erased``: rows whose words were deleted. ``self_signed``: whether a
    checkpoint's key is in the database of the rows; ``key_ids``: whose keys signed."""

    fault: Fault | None
    checked_through: int
    covered_from: int
    uncovered_from: int
    erased: int
    self_signed: bool
    key_ids: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return self.fault is None


def checkpoints_fault(checkpoints: Sequence[Checkpoint], trusted: frozenset[bytes] | None = None) -> Fault | None:
    """What is wrong with checkpoints in order, by themselves: a signature, a key that is not ``trusted`` (None: any is), a gap,
    or one that does not follow from the one before."""
    before: Checkpoint | None = None
    for checkpoint in checkpoints:
        reason = _broken(checkpoint, before, trusted)
        if reason:
            return Fault(seq=checkpoint.first_seq, reason=reason)
        before = checkpoint
    return None


def _broken(checkpoint: Checkpoint, before: Checkpoint | None, trusted: frozenset[bytes] | None) -> str:
    if not checkpoint.is_signed():
        return "its checkpoint was changed after it was signed"
    if trusted is not None and checkpoint.public_key not in trusted:
        return f"its checkpoint is signed by key {checkpoint.head['key_id']}, which is not trusted"
    if checkpoint.first_seq == 1 and (
        checkpoint.previous != GENESIS or checkpoint.head["predecessor"] != NO_PREDECESSOR
    ):
        return "its checkpoint is the first one and names another before it"
    if before is None:
        return ""
    if checkpoint.first_seq != before.last_seq + 1:
        return "its checkpoint does not begin where the one before ends"
    if checkpoint.head["predecessor"] != before.digest or checkpoint.previous != before.chain:
        return "its checkpoint does not follow the one before: the chain was forked"
    if checkpoint.head["zone"] != before.head["zone"]:
        return "its checkpoint is of another zone than the one before"
    if checkpoint.head["epoch"] < before.head["epoch"]:
        return "its checkpoint is of an older epoch than the one before"
    return ""


class AuditVerifier:
    """``checkpoints`` are in order and without a gap. Rows begin after ``after``, whose entry hash is ``previous``; by default
    with the log's first row."""

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        *,
        trusted: frozenset[bytes] | None = None,
        after: int = 0,
        previous: bytes = GENESIS,
    ) -> None:
        self._checkpoints = checkpoints
        self._coverage = Coverage(checkpoints)
        self._covered = checkpoints[-1].last_seq if checkpoints else 0
        self._fault = checkpoints_fault(checkpoints, trusted)
        self._after = after
        #: The last row that was in order, and its entry hash. ``add`` moves both.
        self._seq = after
        self._chain = previous
        #: Leaves of the rows of the checkpoint that is being read; none if reading began inside it.
        self._leaves: list[bytes] = []
        self._erased = 0

    def add(self, row: LogRow) -> None:
        """Takes the next row. After the first fault rows are only passed over: what follows a changed row proves nothing."""
        if self._fault is not None and self._fault.seq <= row.seq:
            return
        expected = self._seq + 1
        if row.seq != expected:
            self._fail(expected, "the row is missing" if row.seq > expected else f"row {row.seq} stands in its place")
            return
        if not row.verifies():
            self._fail(row.seq, "the row is not what was written")
            return
        leaf = row_leaf(row.seq, row.at, row.v, row.digest)
        self._chain, self._seq = entry_hash(self._chain, leaf), row.seq
        self._erased += row.private_digest is not None and row.private_json is None
        checkpoint = self._coverage.of(row.seq)
        if checkpoint is not None:
            self._compare(checkpoint, row.seq, leaf)

    def _compare(self, checkpoint: Checkpoint, seq: int, leaf: bytes) -> None:
        if seq == checkpoint.first_seq:
            self._leaves = []
        self._leaves.append(leaf)
        whole = seq == checkpoint.last_seq and self._after < checkpoint.first_seq
        if checkpoint.entry(seq) != self._chain:
            self._fail(seq, "the row is not the one that was sealed")
        elif whole and tree_root(self._leaves).hex() != checkpoint.head["root"]:
            self._fail(checkpoint.first_seq, "its checkpoint has another root than its rows")

    def _fail(self, seq: int, reason: str) -> None:
        if self._fault is None or seq < self._fault.seq:
            self._fault = Fault(seq=seq, reason=reason)

    def report(self) -> AuditReport:
        """What was found, when all rows have been given."""
        if self._seq < self._covered:
            self._fail(self._seq + 1, "the row is missing: what was given ends before it")
        return AuditReport(
            fault=self._fault,
            checked_through=self._seq,
            covered_from=self._checkpoints[0].first_seq if self._checkpoints else 1,
            uncovered_from=self._covered + 1,
            erased=self._erased,
            self_signed=any(checkpoint.head["self_signed"] for checkpoint in self._checkpoints),
            key_ids=tuple(sorted({str(checkpoint.head["key_id"]) for checkpoint in self._checkpoints})),
        )


def verifiers(
    kept: Sequence[Checkpoint] | None,
    own: Sequence[Checkpoint],
    trusted: frozenset[bytes] | None,
    after: int,
) -> list[AuditVerifier]:
    """What to give the rows after ``after`` to: a verifier against the checkpoints that were ``kept`` outside, if there are any,
    and one against the database's ``own``. Those of the first are the ones whose keys must be ``trusted``.

    Raises: `InvalidRequest` if no checkpoint says the entry hash of the row ``after``."""
    found: list[AuditVerifier] = []
    for checkpoints in (own,) if kept is None else (kept, own):
        known = (Coverage(covering).entry(after) for covering in (checkpoints, kept or (), own))
        previous = next((entry for entry in known if entry is not None), None)
        if previous is None:
            raise InvalidRequest(
                f"No checkpoint says what row {after} is; give rows from the first one on.", "unknown_beginning"
            )
        found.append(AuditVerifier(checkpoints, trusted=None if found else trusted, after=after, previous=previous))
    return found
