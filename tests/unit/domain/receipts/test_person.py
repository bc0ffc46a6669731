"""Receipts of deliberations that asked a person: the end follows from the votes and the answer, or the difference is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.deliberation.events import CancelAsked
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.document import make_receipt, redact
from cluster.domain.receipts.recompute import Recomputed, recompute
from cluster.domain.receipts.verify import parse, verify
from cluster.domain.tasks.questions import Verdict
from tests.support.panels import World, contract, members, says
from tests.support.receipts import SIGNER

WORDS = "It is what the customer has asked for in writing."


def _asked(*answers: str, **config: Any) -> World:
    given = {"options": ["A", "B"], "consensus": "majority", "rounds": 0, "ask_person": {"when": "always"}} | config
    names = "abc"[: len(answers)]
    made = World.of(contract(**given), {name: says(answer) for name, answer in zip(names, answers, strict=True)})
    made.start(members(*names))
    while made.calls():
        made.happens(made.answer(made.calls()[0]))
    return made


def _answered(made: World, verdict: Verdict | None, value: Any = None, reason: str = "") -> World:
    made.now += 0.1
    by = {"answered_by": "user:ann", "answered_at": made.now + 0.07} if verdict is not None else {}
    made.happens(PersonAnswered(verdict=verdict, value=value, reason=reason, **by))
    return made


def _receipt(made: World, change: Callable[[str, dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """The receipt, of a journal in which ``change`` has changed the data of events."""
    events = []
    for event in made.journal:
        data = json.loads(json.dumps(event.data))
        if change is not None:
            change(event.kind, data)
        events.append(JournalEvent(n=event.n, at=event.at, kind=event.kind, data=data))
    stored = json.loads(json.dumps(made.state.contract.to_json()))
    receipt = make_receipt(SIGNER, request_id="r", contract=stored, events=events)
    found: dict[str, Any] = parse(canonical_bytes(receipt))
    assert verify(found).valid
    return found


CASES: tuple[tuple[tuple[str, ...], Verdict | None, Any, str], ...] = (
    (("A", "A", "B"), Verdict.APPROVED, True, "DECIDED"),
    (("A", "A", "B"), Verdict.ANSWERED, "B", "DECIDED"),
    (("A", "A", "B"), Verdict.REJECTED, None, "NO_CONSENSUS"),
    (("A", "B"), Verdict.DEFAULT, "B", "DECIDED"),
    (("A", "B"), Verdict.REJECTED, None, "NO_CONSENSUS"),
    (("A", "B"), None, None, "NO_CONSENSUS"),
)


@pytest.mark.parametrize(("answers", "verdict", "value", "outcome"), CASES)
def test_what_a_person_made_of_the_votes_can_be_recomputed(
    answers: tuple[str, ...], verdict: Verdict | None, value: Any, outcome: str
) -> None:
    receipt = _receipt(_answered(_asked(*answers), verdict, value, WORDS if verdict is Verdict.REJECTED else ""))
    assert receipt["head"]["outcome"] == outcome
    assert receipt["consensus_proof"]["reached"] is (len(answers) == 3)
    again = recompute(receipt)
    assert again.verdict is Recomputed.EQUAL, again


def test_a_cancelled_question_can_be_recomputed() -> None:
    made = _asked("A", "A", "B")
    made.happens(CancelAsked())
    assert recompute(_receipt(made)).verdict is Recomputed.EQUAL


def _set(kind: str, *path: str, value: Any) -> Callable[[str, dict[str, Any]], None]:
    def change(of: str, data: dict[str, Any]) -> None:
        if of == kind:
            for step in path[:-1]:
                data = data[step]
            data[path[-1]] = value

    return change


LIES = (
    (_set("ended", "outcome", "person", "answered_by", value="user:bob"), "person"),
    (_set("ended", "outcome", "person", "answered_at", value=1.0), "person"),
    (_set("ended", "outcome", "person", "verdict", value="approved"), "person"),
    (_set("ended", "outcome", "person", "agents", "terminal", value="NO_CONSENSUS"), "person"),
    (_set("ended", "outcome", "person", value=None), "person"),
    (_set("ended", "outcome", "answer", value="A"), "answer"),
    (_set("ended", "terminal", value="NO_CONSENSUS"), "decision"),
    (_set("person_answered", "choice", value=None), "answer"),
    (_set("person_answered", "verdict", value="rejected"), "decision"),
    (_set("person_asked", "terminal", value="NO_CONSENSUS"), "decision"),
    (_set("ended", "outcome", "confidence", value=0.5), "confidence"),
)


@pytest.mark.parametrize(("lie", "difference"), LIES)
def test_an_end_that_does_not_follow_from_the_answer_is_found(lie: Any, difference: str) -> None:
    again = recompute(_receipt(_answered(_asked("A", "A", "B"), Verdict.ANSWERED, "B"), lie))
    assert again.verdict is Recomputed.DIFFERENT
    assert difference in again.differences


def test_a_person_whom_the_contract_does_not_ask_is_found() -> None:
    made = _answered(_asked("A", "A", "B"), Verdict.ANSWERED, "B")
    stored = json.loads(json.dumps(contract(options=["A", "B"], consensus="majority", rounds=0).to_json()))
    forged = make_receipt(SIGNER, request_id="r", contract=stored, events=made.journal)
    assert recompute(forged).differences == ("person",)


def test_the_words_of_a_person_can_be_withheld() -> None:
    for verdict, value, reason in ((Verdict.REJECTED, None, WORDS), (Verdict.ANSWERED, WORDS, "")):
        made = _answered(_asked("use A", "use A", "use B", options=None, answer_type="text"), verdict, value, reason)
        receipt = _receipt(made)
        for event in receipt["events"]:
            if event["text"]:
                receipt = redact(receipt, event["n"])
        assert verify(receipt).valid
        assert WORDS not in json.dumps(receipt["events"])
        assert "user:ann" in json.dumps(receipt["events"])
        assert recompute(receipt).verdict is Recomputed.EQUAL
