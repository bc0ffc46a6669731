"""Words and structure of an event are split and merged again."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.receipts.content import merge, split
from tests.support.deliberations import Journal
from tests.support.receipts import ANY_JSON, receipt_of


@given(data=st.dictionaries(st.text(max_size=3) | st.just("text"), ANY_JSON, max_size=4), free=st.booleans())
def test_words_and_structure_come_together_again(data: dict[str, Any], free: bool) -> None:
    before = copy.deepcopy(data)
    rest, texts = split(data, free)
    assert data == before
    assert merge(rest, texts) == before


def test_what_agents_wrote_is_text_and_who_voted_for_what_is_not(receipt: dict[str, Any]) -> None:
    vote = next(event for event in receipt["events"] if event["kind"] == "answered" and event["data"]["agent"] == "bob")
    assert set(vote["text"]) == {"/text", "/answer/rationale"}
    assert vote["data"]["answer"]["choice"] == "Redis"
    assert set(receipt["events"][0]["text"]) == {f"/members/{index}/persona" for index in range(3)}


def test_free_answers_are_text_and_labels_are_not() -> None:
    journal = Journal(contract={"question": "What now?", "answer_type": {"kind": "text"}, "options": []})
    journal.add("answered", agent="ada", phase="PROPOSE", answer={"choice": "Rewrite it"}, text="Rewrite it")
    journal.add("answered", agent="bob", phase="VOTE", answer={"choice": "#1"}, text="#1")
    journal.add("ended", terminal="DECIDED", outcome={"answer": "Rewrite it", "confidence": 1.0, "dissent": []})
    proposal, vote, ended = receipt_of(journal)["events"]
    assert set(proposal["text"]) == {"/answer/choice", "/text"}
    assert vote["data"]["answer"]["choice"] == "#1"
    assert set(ended["text"]) == {"/outcome/answer"}
