"""What is left of an erased deliberation: the receipt of before, without a word, and as hard to forge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import Conflict
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.document import prove
from cluster.domain.receipts.erasure import erased_contract, erased_events
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import verify, verify_proof
from tests.support.deliberations import Journal
from tests.support.receipts import SIGNER, played, receipt_of


def _erased(journal: Journal) -> Journal:
    left = dict(erased_events(SIGNER, journal.request_id, journal.contract, journal.events))
    events = [JournalEvent(n=event.n, at=event.at, kind=event.kind, data=left[event.n]) for event in journal.events]
    contract = erased_contract(journal.contract, canonical_sha256(journal.contract), "DECIDED")
    return Journal(contract=contract, request_id=journal.request_id, events=events)


def test_the_receipt_is_that_of_before_without_a_word() -> None:
    journal = played()
    before, after = receipt_of(journal), receipt_of(_erased(journal))
    assert (after["head"], after["signature"]) == (before["head"], before["signature"])
    report = verify(after, [SIGNER.public_key])
    assert report.trusted, report.failed
    assert report.redacted == tuple(range(len(journal.events) + 1))
    text = json.dumps(after)
    assert not [word for word in ("Postgres", "Redis", "boring", "ada", "Which database") if word in text]
    assert recompute(after).verdict is Recomputed.NOT_RECOMPUTABLE
    proof = verify_proof(prove(after, 2), [SIGNER.public_key])
    assert (proof.trusted, proof.redacted) == (True, (2,))


@pytest.mark.parametrize("forge", ["another leaf", "one less", "another end", "more fields"])
def test_what_was_erased_cannot_be_forged(forge: str) -> None:
    receipt: dict[str, Any] = receipt_of(_erased(played()))
    events = receipt["events"]
    if forge == "another leaf":
        events[1] = {"n": 2, "erased": "0" * 64}
    elif forge == "one less":
        del events[1]
    elif forge == "another end":
        receipt["head"] = receipt["head"] | {"outcome": "NO_CONSENSUS"}
    else:
        events[1] = events[1] | {"kind": "answered"}
    assert not verify(receipt, [SIGNER.public_key]).valid


def test_a_journal_without_a_receipt_has_none_after_it_was_erased() -> None:
    journal = played()
    del journal.events[-1]
    with pytest.raises(Conflict):
        receipt_of(_erased(journal))
