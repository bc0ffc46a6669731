"""Verification finds every change of a receipt."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.receipts.document import event_data, prove, redact
from cluster.domain.receipts.verify import Status, parse, verify, verify_proof
from tests.support.receipts import ANY_JSON, OTHER, SIGNER, played, receipt_of


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


def test_numbers_that_are_written_as_digits_of_large_integers_verify() -> None:
    """RFC 8785 writes the double 1e20 as an integer that no double rounds."""
    journal = played()
    journal.contract["context"] = {"limit": 1e20, "least": -123456789012345680000.0, "most": 1e21}
    content = canonical_bytes(receipt_of(journal))
    assert b'"limit":100000000000000000000' in content
    report = verify(parse(content), [SIGNER.public_key])
    assert report.valid, report
    assert _caught(content.replace(b'"limit":100000000000000000000', b'"limit":100000000000000000001'))


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


@given(value=ANY_JSON | st.dictionaries(st.sampled_from(["head", "events", "signature", "contract"]), ANY_JSON))
def test_verify_accepts_any_json_value(value: Any) -> None:
    assert verify(value).failed == ("format",)
    assert verify_proof(value).failed == ("format",)


@settings(max_examples=60)
@given(data=st.data())
def test_verify_accepts_any_value_in_any_part(receipt: dict[str, Any], data: st.DataObject) -> None:
    paths = [path[:depth] for path in _leaves(receipt) for depth in range(1, len(path) + 1)]
    path = data.draw(st.sampled_from(paths))
    value = data.draw(ANY_JSON)
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
