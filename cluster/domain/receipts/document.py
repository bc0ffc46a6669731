"""Receipts as documents: how they are made from a journal, redacted and summarised.

A receipt is a function of journal and key: the same one comes out every time, and nothing of it has to be stored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.domain.base.canonical import canonical_bytes, canonical_sha256
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.merkle import inclusion_path, tree_root
from cluster.domain.base.signing import ALGORITHM, Signer
from cluster.domain.deliberation.stored import JournalEvent
from cluster.domain.receipts.content import ERASED, answers_are_free, commitment, event_leaf, merge, split

#: The receipts of the released server were 1.1 and 1.2, and did not bind answer, votes and dissent.
SCHEMA_VERSION = "2.0"
PROOF_VERSION = "2.0-proof"
ENDED = "ended"
SUMMARY_CHARS = 200
REDACTED = "[redacted]"
_SALTS = b"aragora receipt salts, version 1"
#: Stands for the contract, where a number names an event: events are counted from 1.
CONTRACT = 0

Document = dict[str, Any]


def make_receipt(
    signer: Signer, *, request_id: str, contract: Mapping[str, Any], events: Sequence[JournalEvent]
) -> Document:
    """The receipt of a deliberation that has ended. Raises: ``Conflict`` if it has not ended, or its journal cannot be
    written as canonical JSON (if it was erased: could not, ``erased``)."""
    covered = _until_the_end(events)
    try:
        return _make(signer, request_id, contract, covered)
    except (ValueError, TypeError) as error:
        raise Conflict(f"The journal cannot be written as canonical JSON: {error}.", "not_canonical") from error


def _until_the_end(events: Sequence[JournalEvent]) -> list[JournalEvent]:
    """The events up to the end. Later ones, if there are any, are no part of what was decided."""
    for index, event in enumerate(events):
        if event.kind == ENDED:
            return list(events[: index + 1])
    raise Conflict("The deliberation has not ended; its receipt is made when it has.", "not_ended")


def _make(signer: Signer, request_id: str, contract: Mapping[str, Any], events: Sequence[JournalEvent]) -> Document:
    if ERASED in contract:
        return _make_erased(signer, request_id, contract[ERASED], events)
    free_answers = answers_are_free(contract)
    entries = [_entry(signer, request_id, event, free_answers) for event in events]
    facts = (canonical_sha256(contract), events[-1].data["terminal"], events[-1].at)
    return _signed(signer, request_id, facts, dict(contract), entries)


def _make_erased(signer: Signer, request_id: str, kept: Mapping[str, Any], events: Sequence[JournalEvent]) -> Document:
    entries = [{"n": event.n, ERASED: event.data[ERASED]} for event in events]
    if not all(entry[ERASED] for entry in entries):
        raise Conflict(f"Deliberation {request_id} was erased, and had no receipt before.", "erased")
    return _signed(signer, request_id, (kept["contract_hash"], kept["outcome"], events[-1].at), None, entries)


def _signed(
    signer: Signer, request_id: str, facts: tuple[str, str, float], contract: Document | None, entries: list[Document]
) -> Document:
    """``facts``: hash of the contract, outcome and time of the end."""
    contract_hash, outcome, ended_at = facts
    leaves = [event_leaf(entry) for entry in entries]
    head = {
        "schema_version": SCHEMA_VERSION,
        "request_id": request_id,
        "contract_hash": contract_hash,
        "tree_size": len(leaves),
        "root": tree_root(leaves).hex(),
        "chain": chain_hash(contract_hash, leaves),
        "outcome": outcome,
        "outcome_hash": leaves[-1].hex(),
        "ended_at": ended_at,
        "key_id": signer.key_id,
    }
    signature = {
        "algorithm": ALGORITHM,
        "public_key": signer.public_key.hex(),
        "value": signer.sign(canonical_bytes(head)).hex(),
    }
    body: Document = {"head": head, "signature": signature, "contract": contract, "events": entries}
    return {**summary(body), **body}


def _entry(signer: Signer, request_id: str, event: JournalEvent, free_answers: bool) -> Document:
    rest, texts = split(event.data, free_answers)
    salt = _salt(signer, request_id, event.n).hex()
    return {"n": event.n, "at": event.at, "kind": event.kind, "data": rest, "text": texts, "salt": salt}


def _salt(signer: Signer, request_id: str, n: int) -> bytes:
    """Derived from the key's seed under a label of its own, so that the same receipt comes out if it is made again, and no salt
    has to be stored."""
    secret = hmac.digest(signer.seed, _SALTS, "sha256")
    return hmac.digest(secret, f"{request_id}\n{n}".encode(), "sha256")


def chain_hash(contract_hash: str, leaves: Sequence[bytes]) -> str:
    link = bytes.fromhex(contract_hash)
    for leaf in leaves:
        link = hashlib.sha256(link + leaf).digest()
    return link.hex()


# --- the summary ------------------------------------------------------------------------------------------------------


def summary(receipt: Mapping[str, Any]) -> Document:
    """The fields that the released server's receipts had, derived from what is signed. A verifier derives them again and
    compares."""
    head, contract = receipt["head"], receipt["contract"]
    ended = event_data(receipt["events"][-1])
    outcome: Mapping[str, Any] = ended.get("outcome") or {}
    question = None if contract is None else str(contract.get("question", ""))
    dissent = outcome.get("dissent") or []
    return {
        "schema_version": head["schema_version"],
        "receipt_id": f"rcpt_{head['root'][:32]}",
        "request_id": head["request_id"],
        "timestamp": datetime.fromtimestamp(head["ended_at"], UTC).isoformat(),
        "input_summary": None if question is None else question[:SUMMARY_CHARS],
        "input_hash": None if question is None else hashlib.sha256(question.encode()).hexdigest(),
        "verdict": _verdict(head["outcome"], outcome),
        "confidence": outcome.get("confidence"),
        "dissenting_views": [f"{view['agent']}: {view.get('answer', REDACTED)}" for view in dissent],
        "consensus_proof": {
            "reached": _agents_end(head["outcome"], outcome) == "DECIDED",
            "confidence": outcome.get("confidence"),
            "supporting_agents": list(outcome.get("supporters") or []),
            "dissenting_agents": [view["agent"] for view in dissent],
            "method": outcome.get("mode"),
            "evidence_hash": head["root"],
        },
        "artifact_hash": canonical_sha256(head),
    }


def _agents_end(terminal: str, outcome: Mapping[str, Any]) -> str:
    """How the agents ended: what a person made of that is not proven by votes."""
    person = outcome.get("person")
    return terminal if person is None else str(person["agents"]["terminal"])


def _verdict(terminal: str, outcome: Mapping[str, Any]) -> str:
    """PASS: there is a decision. CONDITIONAL: there is a best answer, but no decision. FAIL: there is neither."""
    if terminal == "DECIDED":
        return "PASS"
    return "CONDITIONAL" if outcome.get("supporters") else "FAIL"


def event_data(event: Mapping[str, Any]) -> Document:
    """An event's data with its words, unless they are withheld; empty if it was erased."""
    return {} if ERASED in event else merge(event["data"], event.get("text") or {})


# --- withholding ------------------------------------------------------------------------------------------------------


def redact(receipt: Mapping[str, Any], n: int) -> Document:
    """The receipt without the words of event ``n`` (0: without the contract); the same again changes nothing. Raises:
    ``NotFound`` if there is no such event, ``InvalidRequest`` if it holds no words."""
    if n == CONTRACT:
        body = {**receipt, "contract": None}
    else:
        events = [_withheld(event) if event["n"] == n else event for event in receipt["events"]]
        if all(event["n"] != n for event in events):
            raise NotFound(f"The receipt has no event {n}.", "event_not_found")
        body = {**receipt, "events": events}
    return {**body, **summary(body)}


def _withheld(event: Mapping[str, Any]) -> Document:
    if "redacted" in event or ERASED in event:
        return dict(event)
    if not event["text"]:
        raise InvalidRequest(f"Event {event['n']} ({event['kind']}) holds no text to withhold.", "nothing_to_redact")
    committed = commitment(bytes.fromhex(event["salt"]), event["text"]).hex()
    return {**{name: event[name] for name in ("n", "at", "kind", "data")}, "redacted": committed}


def redacted_events(receipt: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of the events whose words are withheld; 0 stands for the contract."""
    withheld = tuple(event["n"] for event in receipt["events"] if "redacted" in event or ERASED in event)
    return (CONTRACT, *withheld) if receipt["contract"] is None else withheld


#: Shorter words ("yes", an option's name) occur everywhere and give nothing away.
ECHO_CHARS = 16


def echoes(before: Mapping[str, Any], n: int) -> tuple[int, ...]:
    """The other events in which words of event ``n`` can still be read (0: the contract), as an outcome repeats dissent."""
    words = {
        word
        for event in before["events"]
        if event["n"] == n
        for word in strings(event.get("text") or {})
        if len(word) >= ECHO_CHARS
    }
    others = {event["n"]: event_data(event) for event in before["events"] if event["n"] != n}
    if before["contract"] is not None:
        others[CONTRACT] = before["contract"]
    return tuple(sorted(index for index, data in others.items() if _says(data, words)))


def _says(data: Any, words: set[str]) -> bool:
    return any(word in text for text in strings(data) for word in words)


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in inner for found in strings(item)]


# --- one event alone --------------------------------------------------------------------------------------------------


def prove(receipt: Mapping[str, Any], n: int) -> Document:
    """One event with the proof that it belongs to the signed head, to show it without the others. Raises: ``NotFound`` if
    there is no such event."""
    leaves = [event_leaf(event) for event in receipt["events"]]
    for index, event in enumerate(receipt["events"]):
        if event["n"] == n:
            path = [sibling.hex() for sibling in inclusion_path(leaves, index)]
            return {
                "schema_version": PROOF_VERSION,
                "head": receipt["head"],
                "signature": receipt["signature"],
                "event": event,
                "path": path,
            }
    raise NotFound(f"The receipt has no event {n}.", "event_not_found")
