"""Checkpoints: their exported form, and what their signature covers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.audit.checkpoint import FIRST_SCHEMA_VERSION, parse_checkpoint
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.merkle import leaf_hash, tree_root
from tests.support.audit import a_row, checkpoints_over, forged
from tests.support.receipts import OTHER

ROWS = [a_row(seq) for seq in range(1, 8)]
FIRST, SECOND = checkpoints_over(ROWS, 3, 4)


def test_a_checkpoint_is_read_back_as_it_was_written() -> None:
    assert parse_checkpoint(SECOND.text()) == SECOND
    assert "\n" not in SECOND.text()
    assert (SECOND.first_seq, SECOND.last_seq, SECOND.previous) == (4, 7, FIRST.chain)
    assert SECOND.entry(7) == SECOND.chain
    assert SECOND.before(4) == FIRST.entry(3)
    assert SECOND.before(5) == SECOND.entry(4)
    assert SECOND.head["predecessor"] == FIRST.digest
    assert SECOND.is_signed()


def test_the_signature_covers_the_whole_head_the_key_and_the_entry_hashes() -> None:
    for name, value in SECOND.head.items():
        other: Any = {
            bool: not value,
            str: f"{value}0",
            type(None): {"seq": 3, "epoch": 1},
        }.get(type(value)) or value + 1
        assert not forged(SECOND, **{name: other}).is_signed(), name
    assert not replace(SECOND, public_key=OTHER.public_key).is_signed()
    assert not replace(SECOND, entries=SECOND.entries[32:64] + SECOND.entries[32:]).is_signed()
    assert not replace(SECOND, signature=bytes(64)).is_signed()


def test_the_root_is_that_of_the_rows_leaves() -> None:
    assert SECOND.head["root"] != tree_root([leaf_hash(SECOND.entry(seq)) for seq in range(4, 8)]).hex()
    assert SECOND.head["root"] == checkpoints_over(ROWS, 3, 4, signer=OTHER)[1].head["root"]
    assert SECOND.head["root"] != checkpoints_over([*ROWS[:6], a_row(7, "other")], 3, 4)[1].head["root"]


def test_checkpoints_of_earlier_builds_are_read() -> None:
    head = {name: value for name, value in SECOND.head.items() if name != "fork"}
    before = json.loads(_changed(head={**head, "schema_version": FIRST_SCHEMA_VERSION}))
    read = parse_checkpoint(json.dumps(before))
    assert (read.fork, read.declares_epochs) == (None, False)
    assert SECOND.declares_epochs


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(SECOND.text()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"head": 1}',
        "[" * 100_000,
        _changed(entries=""),
        _changed(entries="%"),
        _changed(more=1),
        _changed(head={}),
        _changed(head={**SECOND.head, "first_seq": True}),
        _changed(head={**SECOND.head, "first_seq": 0}),
        _changed(head={**SECOND.head, "last_seq": 2}),
        _changed(head={**SECOND.head, "chain": FIRST.chain.hex()}),
        _changed(head={**SECOND.head, "root": "zz"}),
        _changed(head={**SECOND.head, "schema_version": "aragora-audit-checkpoint/3"}),
        _changed(head={**SECOND.head, "schema_version": FIRST_SCHEMA_VERSION}),
        _changed(head={**SECOND.head, "fork": {"seq": 3}}),
        _changed(head={**SECOND.head, "fork": {"seq": 3, "epoch": "1"}}),
        _changed(head={**SECOND.head, "fork": {"seq": 3, "epoch": True}}),
        _changed(head={**SECOND.head, "fork": {"seq": 3, "epoch": 2}}),
        _changed(head={**SECOND.head, "fork": {"seq": 4, "epoch": 1}}),
        _changed(head={name: value for name, value in SECOND.head.items() if name != "fork"}),
        _changed(head={**SECOND.head, "zone": "\ud800"}),
        _changed(head={**SECOND.head, "at": float("inf")}),
        _changed(head={**SECOND.head, "epoch": 2**63}),
        _changed(signature={"algorithm": "Ed25519", "public_key": "zz", "value": ""}),
        _changed(signature={"algorithm": "none", "public_key": "", "value": ""}),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_checkpoint(text)
