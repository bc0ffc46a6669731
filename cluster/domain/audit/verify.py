"""Verifies rows of the log: their order, their content, and that they are what checkpoints say. Needs no secret and no server.

Rows are given one by one in the order of their numbers, so that a log of any size is verified in little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.domain.audit.chain import GENESIS, begun_epoch, entry_hash, row_leaf
from cluster.domain.audit.checkpoint import NO_PREDECESSOR, Checkpoint, Coverage
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import LogRow
from cluster.domain.base.merkle import tree_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first row that is not what it was, and why: a sentence without its full stop."""

    seq: int
    reason: str


def first_fault(*faults: Fault | None) -> Fault | None:
    """The one of the first row; None if there is none."""
    return min((fault for fault in faults if fault is not None), key=lambda fault: fault.seq, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Rows after ``seq`` up to ``dropped_through`` were covered, and are no part of the log any more: a checkpoint declares that
    the primary of ``epoch`` went on after ``seq``."""

    seq: int
    epoch: int
    dropped_through: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """``checked_from``, ``checked_through``: the first and the last row that was given in order. ``covered_from``: the first
    row that a checkpoint covers. ``uncovered_from``: from which row on none does. ``forks``: where the log left rows that
    checkpoints cover, as others declare. ``erased``: rows whose words were deleted. ``self_signed``: whether a checkpoint's
    key is in the database of the rows; ``key_ids``: whose keys signed."""

    fault: Fault | None
    checked_from: int
    checked_through: int
    covered_from: int
    uncovered_from: int
    forks: tuple[Fork, ...]
    erased: int
    self_signed: bool
    key_ids: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return self.fault is None


class _Joined:
    """Checkpoints one after the other, up to the first that does not fit those before: what they cover, and the forks that they
    declare. ``trusted``: keys; None: any is."""

    def __init__(self, checkpoints: Iterable[Checkpoint], trusted: frozenset[bytes] | None) -> None:
        self.coverage = Coverage()
        self.forks: list[Fork] = []
        self.fault: Fault | None = None
        self._trusted = trusted
        self._before: Checkpoint | None = None
        for checkpoint in checkpoints:
            self.fault = self._problem(checkpoint)
            if self.fault is not None:
                return
            self._note_fork(checkpoint)
            self.coverage.add(checkpoint)
            self._before = checkpoint

    def trust(self, checkpoints: Iterable[Checkpoint]) -> None:
        """From now on, only the keys of these count, unless others were named."""
        if self._trusted is None:
            self._trusted = frozenset(checkpoint.public_key for checkpoint in checkpoints)

    def declare(self, checkpoint: Checkpoint) -> None:
        """Takes the fork that a checkpoint declares which was not among the others: it covers nothing here."""
        fork, before = checkpoint.fork, self._before
        if self.fault is not None or fork is None or before is None or checkpoint.epoch <= before.epoch:
            return
        if self.coverage.is_left_by(checkpoint):
            self.fault = self._problem(checkpoint)
            if self.fault is None:
                self._note_fork(checkpoint)
                self.coverage.cut(fork.seq)

    def _note_fork(self, checkpoint: Checkpoint) -> None:
        fork = checkpoint.fork
        if fork is not None and self.coverage.is_left_by(checkpoint):
            self.forks.append(Fork(seq=fork.seq, epoch=fork.epoch, dropped_through=self.coverage.through))

    def _problem(self, checkpoint: Checkpoint) -> Fault | None:
        reason = _broken(checkpoint, self._trusted) or self._broken_link(checkpoint)
        if reason:
            return Fault(seq=checkpoint.first_seq, reason=reason)
        return self._contradiction(checkpoint)

    def _broken_link(self, checkpoint: Checkpoint) -> str:
        """Why it does not follow the one before; empty if it does: as the next one of the same region, which names it, or as one
        of a later primary, which goes on after a row that is covered."""
        before = self._before
        if before is None:
            return ""
        if checkpoint.head["zone"] != before.head["zone"]:
            return "its checkpoint is of another zone than the one before"
        if checkpoint.epoch < before.epoch:
            return "its checkpoint is of an older epoch than the one before"
        is_next = checkpoint.first_seq == before.last_seq + 1
        if is_next and checkpoint.head["predecessor"] == before.digest and checkpoint.previous == before.chain:
            return ""
        known = self.coverage.entry(checkpoint.first_seq - 1)
        if (not is_next and checkpoint.epoch == before.epoch) or known is None:
            return "its checkpoint does not begin where the one before ends"
        if checkpoint.epoch == before.epoch or known != checkpoint.previous:
            return "its checkpoint does not follow the one before: the chain was forked"
        return ""

    def _contradiction(self, checkpoint: Checkpoint) -> Fault | None:
        """The first row of which it says something else than those before, unless a later epoch declares it."""
        if self.coverage.is_left_by(checkpoint):
            return None
        for seq in range(checkpoint.first_seq, min(checkpoint.last_seq, self.coverage.through) + 1):
            if self.coverage.entry(seq) != checkpoint.entry(seq):
                other = f"a checkpoint of epoch {checkpoint.epoch} has another row"
                return Fault(seq=seq, reason=f"{other}, and none declares a fork of a later epoch before it")
        return None


def checkpoints_fault(checkpoints: Iterable[Checkpoint], trusted: frozenset[bytes] | None = None) -> Fault | None:
    """What is wrong with checkpoints in order, by themselves: a signature, a key that is not ``trusted`` (None: any is), a gap,
    one that does not follow from those before, or a fork that none declares."""
    return _Joined(checkpoints, trusted).fault


def continuation(kept: Sequence[Checkpoint], own: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Which of a database's ``own`` checkpoints are to be appended to those that were ``kept``: from the first that declares that
    their last rows are no part of the log any more, else from the first that covers a later row."""
    coverage = Coverage(kept)
    for number, checkpoint in enumerate(own):
        if coverage.is_left_by(checkpoint) or checkpoint.last_seq > coverage.through:
            return list(own[number:])
    return []


def _broken(checkpoint: Checkpoint, trusted: frozenset[bytes] | None) -> str:
    if not checkpoint.is_signed():
        return "its checkpoint was changed after it was signed"
    if trusted is not None and checkpoint.public_key not in trusted:
        return f"its checkpoint is signed by key {checkpoint.head['key_id']}, which is not trusted"
    if checkpoint.first_seq == 1 and (
        checkpoint.previous != GENESIS or checkpoint.head["predecessor"] != NO_PREDECESSOR
    ):
        return "its checkpoint is the first one and names another before it"
    return ""


class AuditVerifier:
    """``checkpoints`` are in order and without a gap. Rows begin after ``after``, whose entry hash is ``previous``; by default
    with the log's first row. ``declaring``: other checkpoints, of which only the forks count that they declare; who names no
    ``trusted`` keys trusts those of ``checkpoints`` for that."""

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        *,
        trusted: frozenset[bytes] | None = None,
        after: int = 0,
        previous: bytes = GENESIS,
        declaring: Iterable[Checkpoint] = (),
    ) -> None:
        self._checkpoints = checkpoints
        joined = _Joined(checkpoints, trusted)
        joined.trust(checkpoints)
        for checkpoint in declaring:
            joined.declare(checkpoint)
        self._coverage, self._forks, self._fault = joined.coverage, tuple(joined.forks), joined.fault
        self._after = after
        #: The last row that was in order, its entry hash and its epoch. ``add`` moves them.
        self._seq = after
        self._chain = previous
        self._epoch = None if after else 0
        #: The checkpoint that is being read, and the leaves of its rows.
        self._reading: Checkpoint | None = None
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
            self._compare(checkpoint, row, leaf)
        self._epoch = row.epoch

    def _compare(self, checkpoint: Checkpoint, row: LogRow, leaf: bytes) -> None:
        if self._reading is not checkpoint:
            self._reading, self._leaves = checkpoint, []
        self._leaves.append(leaf)
        is_whole = len(self._leaves) == checkpoint.last_seq - checkpoint.first_seq + 1
        if checkpoint.entry(row.seq) != self._chain:
            self._fail(row.seq, "the row is not the one that was sealed")
        elif is_whole and tree_root(self._leaves).hex() != checkpoint.head["root"]:
            self._fail(checkpoint.first_seq, "its checkpoint has another root than its rows")
        elif checkpoint.declares_epochs and self._epoch is not None:
            declared = checkpoint.fork.epoch if checkpoint.fork and row.seq == checkpoint.first_seq else None
            if declared != begun_epoch(self._epoch, row.epoch):
                self._fail(row.seq, "its checkpoint does not say which epoch begins there")

    def _fail(self, seq: int, reason: str) -> None:
        if self._fault is None or seq < self._fault.seq:
            self._fault = Fault(seq=seq, reason=reason)

    def report(self) -> AuditReport:
        """What was found, when all rows have been given."""
        if self._seq < self._coverage.through:
            self._fail(self._seq + 1, "the row is missing: what was given ends before it")
        return AuditReport(
            fault=self._fault,
            checked_from=self._after + 1,
            checked_through=self._seq,
            covered_from=self._checkpoints[0].first_seq if self._checkpoints else 1,
            uncovered_from=self._coverage.through + 1,
            forks=self._forks,
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
    and one against the database's ``own``. Those of the first are the ones whose keys must be ``trusted``; the database's own may
    declare forks of them.

    Raises: `InvalidRequest` if no checkpoint says the entry hash of the row ``after``."""
    found: list[AuditVerifier] = []
    for checkpoints in (own,) if kept is None else (kept, own):
        known = (Coverage(covering).entry(after) for covering in (checkpoints, kept or (), own))
        previous = next((entry for entry in known if entry is not None), None)
        if previous is None:
            raise InvalidRequest(
                f"No checkpoint says what row {after} is; give rows from the first one on.", "unknown_beginning"
            )
        first = not found
        found.append(
            AuditVerifier(
                checkpoints,
                trusted=trusted if first else None,
                after=after,
                previous=previous,
                declaring=own if first and kept is not None else (),
            )
        )
    return found
