"""The verifier names the first row that is not what was sealed, whatever somebody did to rows and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.audit.checkpoint import Checkpoint
from cluster.domain.audit.verify import AuditReport, AuditVerifier
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.log import LogRow
from tests.support.audit import a_row, checkpoints_over, forged
from tests.support.receipts import OTHER, SIGNER

ROWS = [a_row(seq, words="Some words." if seq % 3 == 0 else None) for seq in range(1, 11)]
PUSHED = checkpoints_over(ROWS, 3, 1, 4)  # covers 1 to 8


def verified(
    rows: Sequence[LogRow], checkpoints: Sequence[Checkpoint] = PUSHED, trusted: frozenset[bytes] | None = None
) -> AuditReport:
    verifier = AuditVerifier(checkpoints, trusted=trusted)
    for row in rows:
        verifier.add(row)
    return verifier.report()


def bad_seq(rows: Sequence[LogRow], checkpoints: Sequence[Checkpoint] = PUSHED) -> int | None:
    fault = verified(rows, checkpoints).fault
    return None if fault is None else fault.seq


def test_a_whole_log_is_valid_and_says_what_is_not_covered() -> None:
    report = verified(ROWS)
    assert report.valid
    assert (report.checked_through, report.uncovered_from, report.erased) == (10, 9, 0)
    assert (report.self_signed, report.key_ids) == (False, (SIGNER.key_id,))


def test_erased_words_leave_the_chain_whole_and_are_counted() -> None:
    report = verified([replace(row, private_json=None) for row in ROWS])
    assert report.valid
    assert report.erased == 3


@given(seq=st.integers(1, 8))
def test_a_row_that_was_rewritten_with_its_digest_is_named(seq: int) -> None:
    """The row fits its own digest: only what has left the database tells."""
    rows = [*ROWS]
    rows[seq - 1] = a_row(seq, "other")
    assert rows[seq - 1].verifies()
    assert bad_seq(rows) == seq


@given(seq=st.integers(1, 10))
def test_a_changed_content_is_named_also_where_no_checkpoint_covers_it(seq: int) -> None:
    rows = [*ROWS]
    rows[seq - 1] = replace(rows[seq - 1], principal="user:another")
    assert bad_seq(rows) == seq
    for change in ({"at": float("nan")}, {"private_digest": b"", "private_json": None}):
        rows[seq - 1] = replace(ROWS[seq - 1], **change)
        assert bad_seq(rows) == seq


@given(seq=st.integers(1, 8))
def test_a_row_that_is_missing_is_named(seq: int) -> None:
    assert bad_seq([row for row in ROWS if row.seq != seq]) == seq
    assert bad_seq(ROWS[: seq - 1]) == seq, "also where the log ends there"


@given(kept=st.integers(0, 7), more=st.integers(0, 9))
def test_another_tail_with_its_own_checkpoints_is_named(kept: int, more: int) -> None:
    """As after a restore: rows, entry hashes and signatures all fit each other, but not what has left."""
    tail = [a_row(seq, "restored") for seq in range(kept + 1, kept + more + 1)]
    rows = [*ROWS[:kept], *tail]
    if rows:
        assert verified(rows, checkpoints_over(rows, len(rows))).valid, "by itself nothing is wrong with it"
    assert bad_seq(rows) == kept + 1


def test_rows_twice_or_out_of_order_are_named() -> None:
    assert bad_seq([*ROWS[:4], ROWS[3], *ROWS[4:]]) == 5
    assert bad_seq([*ROWS[:4], ROWS[5], ROWS[4], *ROWS[6:]]) == 5


def test_a_changed_checkpoint_proves_nothing_of_its_rows() -> None:
    assert bad_seq(ROWS, [PUSHED[0], forged(PUSHED[1], epoch=2), PUSHED[2]]) == 4
    assert bad_seq(ROWS, [PUSHED[0], PUSHED[2]]) == 5


def test_a_root_that_is_not_that_of_the_rows_is_named() -> None:
    """A signer that lies about the root; its entry hashes are right."""
    head = {**PUSHED[1].head, "root": PUSHED[0].head["root"]}
    lie = replace(PUSHED[1], head=head, signature=SIGNER.sign(canonical_bytes(head)))
    assert lie.is_signed()
    assert bad_seq(ROWS, [PUSHED[0], lie]) == 4


def test_checkpoints_follow_each_other() -> None:
    other = checkpoints_over([a_row(seq, "other") for seq in range(1, 11)], 3, 7)
    assert bad_seq(ROWS, [PUSHED[0], other[1]]) == 4, "a fork"
    assert bad_seq(ROWS, [*PUSHED[:2], *checkpoints_over(ROWS, 4, 6, zone="y")[1:]]) == 5
    first, second = checkpoints_over(ROWS, 3, 7, epoch=2)[0], checkpoints_over(ROWS, 3, 7)[1]
    assert bad_seq(ROWS, [first, second]) == 4


def test_who_names_a_key_trusts_no_other() -> None:
    assert verified(ROWS, trusted=frozenset({SIGNER.public_key})).valid
    report = verified(ROWS, trusted=frozenset({OTHER.public_key}))
    assert report.fault is not None
    assert report.fault.seq == 1
    assert SIGNER.key_id in report.fault.reason


def test_without_checkpoints_order_and_content_are_checked() -> None:
    report = verified(ROWS, [])
    assert report.valid
    assert report.uncovered_from == 1
    assert bad_seq([*ROWS[:4], *ROWS[5:]], []) == 5


def test_reading_may_begin_after_any_sealed_row() -> None:
    for after in range(1, 8):
        place = next(checkpoint for checkpoint in PUSHED if checkpoint.last_seq >= after)
        verifier = AuditVerifier(PUSHED, after=after, previous=place.entry(after))
        for row in ROWS[after:]:
            verifier.add(row)
        assert verifier.report().valid, after
