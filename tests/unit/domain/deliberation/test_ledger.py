from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.deliberation.ledger import NOTHING, Amount, Budget, Ledger

counts = st.integers(-3, 3)


@given(counts, counts, st.integers(1, 3))
def test_an_amount_is_true_if_it_is_more_than_nothing(tokens: int, nanos: int, copies: int) -> None:
    amount = Amount(tokens, nanos)
    assert bool(amount) == (amount != Amount())
    assert amount.times(copies) == Amount(tokens * copies, nanos * copies)
    assert Amount.from_json(amount.to_json()) == amount == amount + Amount.from_json(None)


def test_a_bill_above_its_reservation_is_paid_from_what_is_left() -> None:
    ledger = Ledger(budget=Budget(tokens=100)).reserve({"first": Amount(40, 0), "second": Amount(50, 0)})
    paid, overrun = ledger.bill("first", Amount(70, 7))
    assert (paid, overrun) == (Amount(50, 7), Amount(20, 0))
    settled = ledger.settle("first", paid, overrun, estimated=False)
    assert (settled.spent, settled.overrun, settled.held) == (paid, overrun, Amount(100, 7))
    again = settled.settle("second", Amount(1, 1), NOTHING, estimated=True)
    assert (again.overrun, again.held, again.estimated) == (overrun, Amount(51, 8), True)
