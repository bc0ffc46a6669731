"""Receipts as documents: how they are made, and how words are withheld from them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.consensus.ballots import choice
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.document import echoes, redact, redacted_events
from cluster.domain.receipts.verify import verify
from tests.support.deliberations import Journal, Vote, decided
from tests.support.receipts import SIGNER, played, receipt_of, with_events


def test_a_receipt_is_valid_and_says_what_was_decided(receipt: dict[str, Any]) -> None:
    report = verify(receipt, [SIGNER.public_key])
    assert report.valid
    assert report.trusted
    assert report.failed == ()
    assert receipt["verdict"] == "PASS"
    assert receipt["head"]["outcome"] == "DECIDED"
    assert receipt["dissenting_views"] == ["bob: Redis"]
    assert receipt["consensus_proof"]["supporting_agents"] == ["ada", "cyd"]


def test_the_same_receipt_is_made_every_time(receipt: dict[str, Any]) -> None:
    assert canonical_bytes(receipt_of(played())) == canonical_bytes(receipt)


def test_events_after_the_end_change_nothing(receipt: dict[str, Any]) -> None:
    journal = played()
    late = JournalEvent(n=len(journal.events) + 1, at=journal.events[-1].at + 5, kind="late", data={"agent": "bob"})
    assert receipt_of(with_events(journal, [*journal.events, late])) == receipt


def test_a_running_deliberation_has_no_receipt() -> None:
    journal = played()
    with pytest.raises(Conflict) as refused:
        receipt_of(with_events(journal, journal.events[:-1]))
    assert refused.value.code == "not_ended"


def test_what_canonical_json_cannot_carry_is_refused_and_not_rounded() -> None:
    journal = played()
    huge = replace(journal.events[0], data={**journal.events[0].data, "tokens": 2**60})
    with pytest.raises(Conflict) as refused:
        receipt_of(with_events(journal, [huge, *journal.events[1:]]))
    assert refused.value.code == "not_canonical"


@pytest.mark.parametrize(
    ("votes", "terminal", "verdict"),
    [
        ([Vote("ada", choice("Redis")), Vote("bob", choice("Postgres"))], "NO_CONSENSUS", "FAIL"),
        ([Vote("ada", None), Vote("bob", None)], "QUORUM_LOST", "FAIL"),
        ([Vote("ada", None), Vote("bob", choice("Redis")), Vote("cyd", choice("Redis"))], "DECIDED", "PASS"),
    ],
)
def test_every_end_has_a_receipt(votes: list[Vote], terminal: str, verdict: str) -> None:
    receipt = receipt_of(decided(votes))
    assert verify(receipt, [SIGNER.public_key]).trusted
    assert (receipt["head"]["outcome"], receipt["verdict"]) == (terminal, verdict)


@pytest.mark.parametrize("terminal", ["QUORUM_LOST", "DEADLINE_EXCEEDED", "CANCELLED", "FAILED"])
def test_an_end_before_any_vote_has_a_receipt(terminal: str) -> None:
    journal = Journal(contract={"question": "Anybody there?", "options": []})
    journal.add("ended", terminal=terminal, reason="nobody came", outcome={"answer": None, "dissent": []})
    receipt = receipt_of(journal)
    assert verify(receipt, [SIGNER.public_key]).trusted
    assert receipt["verdict"] == "FAIL"


def test_a_best_answer_that_decides_nothing_is_conditional() -> None:
    journal = played()
    late = replace(journal.events[-1], data={**journal.events[-1].data, "terminal": "DEADLINE_EXCEEDED"})
    assert receipt_of(with_events(journal, [*journal.events[:-1], late]))["verdict"] == "CONDITIONAL"


def test_withheld_words_leave_every_proof_valid(receipt: dict[str, Any]) -> None:
    with_text = [event["n"] for event in receipt["events"] if event["text"]]
    one_by_one = receipt
    for n in (0, *with_text):
        one_by_one = redact(one_by_one, n)
        assert verify(one_by_one, [SIGNER.public_key]).trusted
    report = verify(one_by_one)
    assert report.redacted == (0, *with_text) == redacted_events(one_by_one)
    assert one_by_one["head"] == receipt["head"]
    assert one_by_one["signature"] == receipt["signature"]
    text = json.dumps(one_by_one, ensure_ascii=False)
    assert "boring" not in text
    assert "database" not in text
    assert [event["data"].get("agent") for event in one_by_one["events"]] == [
        event["data"].get("agent") for event in receipt["events"]
    ]


def test_withholding_twice_is_withholding_once(receipt: dict[str, Any]) -> None:
    once = redact(receipt, 3)
    assert redact(once, 3) == once


def test_unknown_events_and_events_without_words_cannot_be_withheld(receipt: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        redact(receipt, 99)
    asked = next(event["n"] for event in receipt["events"] if event["kind"] == "asked")
    with pytest.raises(InvalidRequest) as refused:
        redact(receipt, asked)
    assert refused.value.code == "nothing_to_redact"


def test_the_same_words_elsewhere_are_pointed_out(receipt: dict[str, Any]) -> None:
    vote = next(event["n"] for event in receipt["events"] if event["data"].get("agent") == "bob")
    assert echoes(receipt, vote) == (len(receipt["events"]),)  # the outcome repeats its dissent
    everything = redact(receipt, len(receipt["events"]))
    assert echoes(everything, vote) == ()
