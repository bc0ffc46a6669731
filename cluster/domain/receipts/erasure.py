"""What is left of an erased deliberation: the leaf of each event and the head's facts, so that the receipt of before still comes
out, with the same head, the same root and the same signature, and without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.base.signing import Signer
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.content import ERASED, event_leaf
from cluster.domain.receipts.document import make_receipt

#: What of a contract says nothing that anybody wrote, and is shown on.
_KEPT = ("mode", "rounds", "timeout_s")


def erased_contract(contract: Mapping[str, Any], contract_hash: str, terminal: str) -> dict[str, Any]:
    """What stands instead of a contract. ``contract_hash``: of its canonical form, in hex."""
    kept = {name: contract[name] for name in _KEPT if name in contract}
    return {**kept, ERASED: {"contract_hash": contract_hash, "outcome": terminal}}


def erased_events(
    signer: Signer, request_id: str, contract: Mapping[str, Any], events: Sequence[JournalEvent]
) -> list[tuple[int, dict[str, str]]]:
    """What stands instead of the data of each event, by its number. Events after the end, and all of a journal that has no
    receipt, have no leaf."""
    try:
        entries = make_receipt(signer, request_id=request_id, contract=contract, events=events)["events"]
    except Conflict:
        entries = []
    leaves = {entry["n"]: event_leaf(entry).hex() for entry in entries}
    return [(event.n, {ERASED: leaves.get(event.n, "")}) for event in events]
