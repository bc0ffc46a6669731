from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import CallerError, Conflict, InvalidRequest, NotFound
from cluster.domain.consensus.ballots import choice
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts import merkle
from cluster.domain.receipts.content import merge, split
from cluster.domain.receipts.document import echoes, event_data, make_receipt, prove, redact, redacted_events
from cluster.domain.receipts.keys import Signer, public_key_of, seed_of
from cluster.domain.receipts.verify import Status, parse, verify, verify_proof
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


def receipt_of(one: Journal, signer: Signer = SIGNER) -> dict[str, Any]:
    return make_receipt(signer, request_id=one.request_id, contract=one.contract, events=one.events)


@pytest.fixture(scope="module")
def receipt() -> dict[str, Any]:
    return receipt_of(played())


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_tree_has_the_published_roots() -> None:
    """The reference vectors of Certificate Transparency."""
    leaves = [
        merkle.leaf_hash(bytes.fromhex(text))
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    assert merkle.tree_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.tree_root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.tree_root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle.tree_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(size=st.integers(1, 40), data=st.data())
def test_inclusion_paths_lead_to_the_root_and_nowhere_else(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([index])) for index in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(leaves, index)
    root = merkle.tree_root(leaves)
    assert merkle.root_of_path(leaves[index], index, size, path) == root
    other = data.draw(st.integers(-1, size + 1).filter(lambda drawn: drawn != index))
    assert merkle.root_of_path(leaves[index], other, size, path) != root
    assert merkle.root_of_path(leaves[index], index, size, [*path, root]) != root
    if path:
        assert merkle.root_of_path(leaves[index], index, size, path[:-1]) != root


# --- words and structure ----------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("x" * 300),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "answer", "a/b", "c~d", "rationale", "snapshot"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(data=st.dictionaries(st.text(max_size=3) | st.just("text"), _JSON, max_size=4), free=st.booleans())
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


# --- making -----------------------------------------------------------------------------------------------------------


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
    one = played()
    late = JournalEvent(n=len(one.events) + 1, at=one.events[-1].at + 5, kind="late", data={"agent": "bob"})
    assert receipt_of(with_events(one, [*one.events, late])) == receipt


def with_events(one: Journal, events: list[JournalEvent]) -> Journal:
    return Journal(contract=one.contract, request_id=one.request_id, events=events)


def test_a_running_deliberation_has_none() -> None:
    one = played()
    with pytest.raises(Conflict) as refused:
        receipt_of(with_events(one, one.events[:-1]))
    assert refused.value.code == "not_ended"


def test_what_canonical_json_cannot_carry_is_refused_and_not_rounded() -> None:
    one = played()
    huge = replace(one.events[0], data={**one.events[0].data, "tokens": 2**60})
    with pytest.raises(Conflict) as refused:
        receipt_of(with_events(one, [huge, *one.events[1:]]))
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


# --- every change is caught -------------------------------------------------------------------------------------------


def _flips(content: bytes) -> Iterator[bytes]:
    """Every byte changed, each in a way of its own: its lowest bit, its case, or any other value."""
    for index, byte in enumerate(content):
        changed = byte ^ (0x01, 0x20, 1 + hashlib.sha256(index.to_bytes(4, "big")).digest()[0] % 255)[index % 3]
        yield content[:index] + bytes([changed]) + content[index + 1 :]


def _caught(content: bytes) -> bool:
    try:
        return not verify(parse(content), [SIGNER.public_key]).valid
    except InvalidRequest:
        return True


def test_every_changed_byte_is_caught(receipt: dict[str, Any]) -> None:
    content = canonical_bytes(receipt)
    assert not _caught(content)
    missed = [changed for changed in _flips(content) if not _caught(changed)]
    assert missed == []


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    empty = True
    for key, item in inner:
        empty = False
        yield from _leaves(item, (*path, key))
    if empty:
        yield path


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_every_changed_added_and_missing_value_is_caught(receipt: dict[str, Any]) -> None:
    """Also without trusted keys: whoever does not sign anew is caught by the receipt itself."""
    for path in list(_leaves(receipt)):
        for change in ("changed", None, 0, True, [], {"a": 1}):
            forged = copy.deepcopy(receipt)
            if canonical_bytes(_at(forged, path)) == canonical_bytes(change):
                continue
            _at(forged, path[:-1])[path[-1]] = change
            assert not verify(forged).valid, path
        forged = copy.deepcopy(receipt)
        del _at(forged, path[:-1])[path[-1]]
        assert not verify(forged).valid, path
        holder = _at(forged := copy.deepcopy(receipt), path[:-1])
        if isinstance(holder, dict):
            holder["more"] = 1
            assert not verify(forged).valid, path


def test_events_cannot_be_dropped_doubled_or_exchanged(receipt: dict[str, Any]) -> None:
    events = receipt["events"]
    for forged in (events[:-1], events[1:], [*events, events[-1]], [events[1], events[0], *events[2:]], []):
        assert not verify({**receipt, "events": forged}).valid


def test_a_receipt_signed_by_somebody_else_is_whole_but_not_trusted() -> None:
    forged = receipt_of(played(), OTHER)
    assert verify(forged).valid
    assert not verify(forged).trusted
    report = verify(forged, [SIGNER.public_key])
    assert report.failed == ("key",)


def test_without_keys_the_report_says_that_the_key_was_not_checked(receipt: dict[str, Any]) -> None:
    check = verify(receipt).checks[-1]
    assert (check.name, check.status) == ("key", Status.NOT_CHECKED)


@given(value=_JSON | st.dictionaries(st.sampled_from(["head", "events", "signature", "contract"]), _JSON))
def test_anything_may_be_handed_to_verify(value: Any) -> None:
    assert verify(value).failed == ("format",)
    assert verify_proof(value).failed == ("format",)


@settings(max_examples=60)
@given(data=st.data())
def test_any_part_may_be_anything(receipt: dict[str, Any], data: st.DataObject) -> None:
    paths = [path[:depth] for path in _leaves(receipt) for depth in range(1, len(path) + 1)]
    path = data.draw(st.sampled_from(paths))
    value = data.draw(_JSON)
    forged = copy.deepcopy(receipt)
    _at(forged, path[:-1])[path[-1]] = value
    same = json.dumps(value, sort_keys=True) == json.dumps(_at(receipt, path), sort_keys=True)
    assert verify(forged).valid == same


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1700000000.12345678901}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"\xff{}",
        b"",
        b"[" * 100_000,
        b'{"a": 1e999}',
    ],
)
def test_a_file_that_could_be_read_in_two_ways_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)


# --- withholding ------------------------------------------------------------------------------------------------------


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


def test_a_withheld_text_cannot_be_replaced_or_tried_out(receipt: dict[str, Any]) -> None:
    n = next(event["n"] for event in receipt["events"] if event["kind"] == "answered")
    withheld = redact(receipt, n)["events"][n - 1]
    whole = receipt["events"][n - 1]
    assert hashlib.sha256(canonical_bytes(whole["text"])).hexdigest() != withheld["redacted"]
    back = {**whole, "text": {**whole["text"], "/answer/rationale": "Something else entirely."}}
    events = [back if event["n"] == n else event for event in receipt["events"]]
    assert not verify({**receipt, "events": events}).valid
    every_salt = {event["salt"] for event in receipt["events"]}
    assert len(every_salt) == len(receipt["events"])


def test_what_cannot_be_withheld_is_said(receipt: dict[str, Any]) -> None:
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


# --- one event --------------------------------------------------------------------------------------------------------


def test_each_event_can_be_shown_alone(receipt: dict[str, Any]) -> None:
    for event in receipt["events"]:
        proof = prove(receipt, event["n"])
        assert verify_proof(proof, [SIGNER.public_key]).trusted
        assert not verify_proof({**proof, "event": {**event, "at": event["at"] + 1}}).valid
        assert not verify_proof({**proof, "event": {**event, "n": event["n"] % 3 + 1, "kind": "x"}}).valid
        assert verify_proof(proof, [OTHER.public_key]).failed == ("key",)
    assert event_data(proof["event"])["terminal"] == "DECIDED"


def test_every_changed_byte_of_a_proof_is_caught(receipt: dict[str, Any]) -> None:
    content = canonical_bytes(prove(receipt, 3))
    for changed in _flips(content):
        try:
            assert not verify_proof(parse(changed), [SIGNER.public_key]).valid, changed
        except InvalidRequest:
            continue


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_in_the_forms_that_people_hold_them() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = SIGNER.public_key
    pem = Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_of(public.hex()) == public_key_of(pem.decode()) == public
    assert seed_of("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n") == SIGNER.seed
    for wrong in ("", "zz", "00" * 31, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        with pytest.raises(CallerError):
            public_key_of(wrong)
        with pytest.raises(CallerError):
            seed_of(wrong)


def test_a_key_does_not_show_in_its_repr() -> None:
    assert "seed" not in repr(SIGNER)
