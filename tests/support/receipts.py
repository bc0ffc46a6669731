"""Receipts of a deliberation that was played, and the keys that sign them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cluster.domain.base.signing import Signer
from cluster.domain.consensus.ballots import choice
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.document import make_receipt
from tests.support.deliberations import Journal, Vote, decided

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))


def played(**options: Any) -> Journal:
    return decided(
        [
            Vote("ada", choice("Postgres"), "It is boring, and boring is what a first product needs."),
            Vote("bob", choice("Redis"), 'Fast — naïve «speed» wins; 速い 🚀, said "he"\nand \\left.'),
            Vote("cyd", choice("Postgres"), "Transactions, first of all else."),
        ],
        **options,
    )


def receipt_of(journal: Journal, signer: Signer = SIGNER) -> dict[str, Any]:
    return make_receipt(signer, request_id=journal.request_id, contract=journal.contract, events=journal.events)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("x" * 300),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "answer", "a/b", "c~d", "rationale", "snapshot"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def with_events(journal: Journal, events: list[JournalEvent]) -> Journal:
    return Journal(contract=journal.contract, request_id=journal.request_id, events=events)
