"""One chain spans regions: checkpoints that were kept outside fit whatever failovers made of the log, and nothing else.

Histories of failovers are drawn; a kept file of checkpoints is appended to by whichever region is primary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.audit.checkpoint import Checkpoint, Coverage
from cluster.domain.audit.verify import AuditReport, AuditVerifier, Fault, checkpoints_fault, continuation, verifiers
from cluster.domain.base.log import LogRow
from tests.support.audit import a_row, checkpoints_over, sealed_on
from tests.support.receipts import OTHER, SIGNER


@dataclass
class Region:
    rows: list[LogRow] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def seal(self, epoch: int, most: int = 1000) -> None:
        self.checkpoints = sealed_on(self.rows, self.checkpoints, epoch=epoch, most=most)

    def follow(self, primary: Region, behind: int) -> None:
        """Takes the primary's rows but the last ones, after a full copy if it has others."""
        if self.rows != primary.rows[: len(self.rows)]:
            self.rows, self.checkpoints = [], []
        self.rows = primary.rows[: max(len(self.rows), len(primary.rows) - behind)]


@dataclass
class Zone:
    """Three regions, and the file that checkpoints leave for. ``written`` counts rows, so that no two are equal."""

    regions: list[Region] = field(default_factory=lambda: [Region() for _ in range(3)])
    at: int = 0
    epoch: int = 1
    kept: list[Checkpoint] = field(default_factory=list)
    written: int = 0

    @property
    def primary(self) -> Region:
        return self.regions[self.at]

    def write(self, count: int) -> None:
        for _ in range(count):
            self.written += 1
            self.primary.rows.append(a_row(len(self.primary.rows) + 1, f"row {self.written}", epoch=self.epoch))

    def fail_over(self, to: int, epochs: int = 1) -> None:
        """Not to a region with rows that the log has left before: nothing declares that those are back."""
        rows = self.regions[to].rows
        if to == self.at or rows != self.primary.rows[: len(rows)]:
            return
        self.at, self.epoch = to, self.epoch + epochs
        self.write(1)

    def push(self) -> None:
        self.kept += continuation(self.kept, self.primary.checkpoints)
        assert checkpoints_fault(self.kept) is None

    def verified(self, trusted: frozenset[bytes] | None = None) -> AuditReport:
        checking = verifiers(self.kept, self.primary.checkpoints, trusted, 0)
        for row in self.primary.rows:
            for verifier in checking:
                verifier.add(row)
        kept, own = (verifier.report() for verifier in checking)
        assert own.valid
        return kept

    def covered(self) -> dict[int, bytes | None]:
        """What the file says of each row."""
        coverage = Coverage(self.kept)
        return {seq: coverage.entry(seq) for seq in range(1, coverage.through + 1)}


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4)),
        st.tuples(st.just("follow"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("seal"), st.integers(1, 4)),
        st.just(("push",)),
        st.tuples(st.just("fail_over"), st.integers(0, 2), st.integers(1, 2)),
    ),
    max_size=40,
)


def _played(steps: Sequence[tuple[str, *tuple[int, ...]]]) -> Zone:
    zone = Zone()
    zone.write(1)
    for name, *values in steps:
        if name == "follow":
            if values[0] != zone.at:
                zone.regions[values[0]].follow(zone.primary, values[1])
        elif name == "seal":
            zone.primary.seal(zone.epoch, values[0])
        else:
            getattr(zone, name)(*values)
    zone.primary.seal(zone.epoch)
    return zone


@settings(max_examples=200)
@given(steps=_steps)
def test_kept_checkpoints_fit_after_any_failovers_and_name_what_was_dropped(
    steps: list[tuple[str, *tuple[int, ...]]],
) -> None:
    zone = _played(steps)
    report = zone.verified()
    assert report.fault is None
    own = Coverage(zone.primary.checkpoints)
    lost = [seq for seq, entry in zone.covered().items() if entry != own.entry(seq)]
    # What the file itself says was dropped is told as well.
    newest = [fork for fork in report.forks if fork.dropped_through == Coverage(zone.kept).through]
    assert bool(lost) == (report.uncovered_from <= Coverage(zone.kept).through)
    if lost:
        assert (newest[-1].seq + 1, newest[-1].dropped_through) == (lost[0], lost[-1])
        assert report.uncovered_from == lost[0]
    zone.push()
    assert zone.covered() == {row.seq: own.entry(row.seq) for row in zone.primary.rows}
    assert zone.verified().uncovered_from == len(zone.primary.rows) + 1


@settings(max_examples=100)
@given(steps=_steps, data=st.data())
def test_another_tail_is_named_after_any_failovers(
    steps: list[tuple[str, *tuple[int, ...]]], data: st.DataObject
) -> None:
    """Rows, entry hashes and signatures of the tail fit each other, and each row says the epoch that it had."""
    zone = _played(steps)
    zone.push()
    seq = data.draw(st.integers(1, len(zone.primary.rows)))
    tail = [a_row(row.seq, f"other {row.seq}", epoch=row.epoch) for row in zone.primary.rows[seq - 1 :]]
    other = Region([*zone.primary.rows[: seq - 1], *tail])
    other.seal(zone.epoch)
    zone.regions[zone.at] = other
    fault = zone.verified().fault
    assert fault is not None
    assert fault.seq == seq
    cut = Region(zone.primary.rows[: seq - 1])
    cut.seal(zone.epoch)
    zone.regions[zone.at] = cut
    fault = zone.verified().fault
    assert fault is not None
    assert fault.seq == seq
    assert continuation(zone.kept, cut.checkpoints) == []


def _lossy() -> Zone:
    """Ten rows of epoch 1 have left sealed; region 1 had seven of them, and has become primary."""
    zone = Zone()
    zone.write(10)
    zone.primary.seal(1, 4)
    zone.push()
    zone.regions[1].follow(zone.primary, 3)
    zone.fail_over(1, 2)
    zone.write(1)
    return zone


def test_a_fork_is_an_error_until_the_new_primary_has_declared_it() -> None:
    zone = _lossy()
    fault = zone.verified().fault
    assert fault is not None
    assert fault.seq == 8
    zone.primary.seal(zone.epoch)
    report = zone.verified()
    assert report.valid
    (fork,) = report.forks
    assert (fork.seq, fork.epoch, fork.dropped_through) == (7, 3, 10)
    assert (report.uncovered_from, report.checked_through) == (8, 9)
    zone.push()
    report = zone.verified()
    assert report.forks == (fork,)
    assert report.uncovered_from == 10


def test_only_keys_that_are_trusted_or_were_kept_declare_a_fork() -> None:
    zone = _lossy()
    zone.primary.checkpoints = sealed_on(zone.primary.rows, (), epoch=3, signer=OTHER)
    fault = zone.verified().fault
    assert fault is not None
    assert (fault.seq, OTHER.key_id in fault.reason) == (8, True)
    assert zone.verified(frozenset({SIGNER.public_key, OTHER.public_key})).valid
    assert zone.verified(frozenset({SIGNER.public_key})).fault == fault


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_is_not_later_declares_no_fork(epoch: int) -> None:
    """Rows that say a later epoch, sealed under the one that has sealed the others."""
    zone = _lossy()
    zone.epoch = epoch
    zone.primary.rows[7:] = [a_row(seq, f"other {seq}", epoch=epoch) for seq in (8, 9)]
    zone.kept = sealed_on(zone.regions[0].rows, (), epoch=2)
    zone.primary.seal(epoch)
    fault = zone.verified().fault
    assert fault is not None
    assert fault.seq == 8


def test_a_checkpoint_that_hides_where_an_epoch_begins_is_named() -> None:
    rows = _lossy().primary.rows
    for hiding, seq in (
        (checkpoints_over(rows, 9, epoch=3), 8),
        (checkpoints_over(rows, 9, epoch=3, begins_epoch=None), 1),
    ):
        verifier = AuditVerifier(hiding)
        for row in rows:
            verifier.add(row)
        fault = verifier.report().fault
        assert fault is not None
        assert (fault.seq, fault.reason) == (seq, "its checkpoint does not say which epoch begins there")


def test_checkpoints_of_two_primaries_that_differ_without_a_fork_are_named() -> None:
    zone = _lossy()
    others = sealed_on([*zone.regions[0].rows[:7], a_row(8, "other")], (), epoch=3)
    fault = checkpoints_fault([*zone.kept, *others])
    assert fault is not None
    assert fault.seq == 8
    gap = sealed_on(zone.regions[0].rows, (), epoch=3, most=12)
    assert checkpoints_fault([*zone.kept, *gap]) is None, "the same rows, sealed again"


def test_a_later_primary_goes_on_only_from_rows_that_were_covered() -> None:
    """By checkpoints alone, without a row."""
    zone = _lossy()
    zone.primary.seal(zone.epoch)
    own = next(each for each in zone.primary.checkpoints if each.first_seq == 8)
    assert checkpoints_fault([*zone.kept, own]) is None
    others = [*(a_row(seq, f"other {seq}") for seq in range(1, 8)), *zone.primary.rows[7:]]
    foreign = next(each for each in sealed_on(others, (), epoch=3) if each.first_seq == 8)
    beyond = sealed_on([*zone.primary.rows, a_row(10, epoch=4), a_row(11, epoch=5)], (), epoch=5)[-1]
    by_twos, by_threes = (sealed_on(zone.regions[0].rows, (), epoch=1, most=most) for most in (2, 3))
    for checkpoints, seq, reason in (
        ([*zone.kept, foreign], 8, "its checkpoint does not follow the one before: the chain was forked"),
        ([*zone.kept[:1], beyond], 11, "its checkpoint does not begin where the one before ends"),
        ([zone.kept[0], zone.kept[2]], 9, "its checkpoint does not begin where the one before ends"),
        ([zone.kept[0], by_threes[1]], 4, "its checkpoint does not begin where the one before ends"),
        ([zone.kept[0], by_twos[2]], 5, "its checkpoint does not follow the one before: the chain was forked"),
    ):
        assert checkpoints_fault(checkpoints) == Fault(seq=seq, reason=reason)
