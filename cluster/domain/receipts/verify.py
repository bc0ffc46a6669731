"""Verifies that a receipt is what was signed: each check by name, without asking any server.

``parse`` reads a file so strictly that no two readers can see two different receipts in it. ``verify`` takes any JSON
value and never raises: what it cannot read fails the check ``format``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any

from cluster.domain.base.canonical import canonical_bytes, canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.merkle import root_of_path, tree_root
from cluster.domain.base.signing import ALGORITHM, is_signature, key_id
from cluster.domain.receipts import document
from cluster.domain.receipts.content import ERASED, event_leaf

MAX_FILE_BYTES = 64 * 1024 * 1024


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    status: Status
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """What was checked. ``valid``: no check failed. ``trusted``: also, the key is one that the caller trusts."""

    checks: tuple[Check, ...]
    key_id: str | None = None
    redacted: tuple[int, ...] = ()

    @property
    def valid(self) -> bool:
        return all(check.status is not Status.FAILED for check in self.checks)

    @property
    def trusted(self) -> bool:
        return self.valid and any(check.name == KEY and check.status is Status.PASSED for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if check.status is Status.FAILED)


FORMAT, CONTRACT, EVENTS, TREE, CHAIN = "format", "contract", "events", "tree", "chain"
OUTCOME, SUMMARY, SIGNATURE, KEY, INCLUSION = "outcome", "summary", "signature", "key", "inclusion"


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(content: bytes) -> Any:
    """The JSON of a file. Raises: ``InvalidRequest`` if it is too large, or if two readers could understand it differently:
    if a name occurs twice, a double cannot hold a number, or the text is not UTF-8."""
    if len(content) > MAX_FILE_BYTES:
        raise InvalidRequest(f"A receipt must be at most {MAX_FILE_BYTES} bytes.", "invalid_receipt")
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError, OverflowError) as error:
        raise InvalidRequest(f"This is not a receipt: {error}.", "invalid_receipt") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _float(digits: str) -> float:
    number = float(digits)
    if Decimal(repr(number)) != Decimal(digits):
        raise ValueError(f"the number {digits} cannot be held by a double")
    return number


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


# --- shape ------------------------------------------------------------------------------------------------------------

_HEAD: Mapping[str, type | tuple[type, ...]] = {
    "schema_version": str,
    "request_id": str,
    "contract_hash": str,
    "tree_size": int,
    "root": str,
    "chain": str,
    "outcome": str,
    "outcome_hash": str,
    "ended_at": (int, float),
    "key_id": str,
}
_SIGNATURE: Mapping[str, type | tuple[type, ...]] = {"algorithm": str, "public_key": str, "value": str}
_EVENT: Mapping[str, type | tuple[type, ...]] = {"n": int, "at": (int, float), "kind": str, "data": dict}
_WHOLE: Mapping[str, type | tuple[type, ...]] = {**_EVENT, "text": dict, "salt": str}
_WITHHELD: Mapping[str, type | tuple[type, ...]] = {**_EVENT, "redacted": str}
_ERASED: Mapping[str, type | tuple[type, ...]] = {"n": int, ERASED: str}
_SUMMARY = (
    "schema_version", "receipt_id", "request_id", "timestamp", "input_summary", "input_hash", "verdict", "confidence",
    "dissenting_views", "consensus_proof", "artifact_hash",
)  # fmt: skip
_BODY = ("head", "signature", "contract", "events")
_PROOF = ("schema_version", "head", "signature", "event", "path")
_HASHES = ("contract_hash", "root", "chain", "outcome_hash")


class _Unreadable(Exception):
    """Not the shape of a receipt."""


def _fields(value: Any, what: str, fields: Mapping[str, type | tuple[type, ...]]) -> None:
    if not isinstance(value, dict) or set(value) != set(fields):
        raise _Unreadable(f"{what} must have exactly {', '.join(fields)}")
    for name, kind in fields.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise _Unreadable(f"{what}.{name} has the wrong type")


def _hex(text: str, what: str, size: int) -> None:
    if len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        raise _Unreadable(f"{what} must be {2 * size} lower-case hex digits")


def _event(event: Any, what: str) -> None:
    if isinstance(event, dict) and ERASED in event:
        _fields(event, what, _ERASED)
        _hex(event[ERASED], f"{what}.{ERASED}", 32)
        return
    withheld = isinstance(event, dict) and "redacted" in event
    _fields(event, what, _WITHHELD if withheld else _WHOLE)
    _hex(event["redacted"] if withheld else event["salt"], f"{what}.{'redacted' if withheld else 'salt'}", 32)


def _signed(receipt: Mapping[str, Any], version: str) -> None:
    """Head and signature, as receipts and proofs have them."""
    _fields(receipt["head"], "head", _HEAD)
    _fields(receipt["signature"], "signature", _SIGNATURE)
    for name in _HASHES:
        _hex(receipt["head"][name], f"head.{name}", 32)
    _hex(receipt["signature"]["public_key"], "signature.public_key", 32)
    _hex(receipt["signature"]["value"], "signature.value", 64)
    if receipt["schema_version"] != version or receipt["head"]["schema_version"] != document.SCHEMA_VERSION:
        raise _Unreadable(f"schema_version must be {version}")
    if receipt["signature"]["algorithm"] != ALGORITHM:
        raise _Unreadable(f"signature.algorithm must be {ALGORITHM}")


def _check_shape(receipt: Any) -> None:
    if not isinstance(receipt, dict) or set(receipt) != {*_SUMMARY, *_BODY}:
        raise _Unreadable(f"a receipt must have exactly {', '.join((*_SUMMARY, *_BODY))}")
    _signed(receipt, document.SCHEMA_VERSION)
    if receipt["contract"] is not None and not isinstance(receipt["contract"], dict):
        raise _Unreadable("contract must be an object, or null where it is withheld")
    if not isinstance(receipt["events"], list) or not receipt["events"]:
        raise _Unreadable("events must be a list that is not empty")
    for index, event in enumerate(receipt["events"], start=1):
        _event(event, f"event {index}")


# --- checks -----------------------------------------------------------------------------------------------------------


def is_proof(value: Any) -> bool:
    return isinstance(value, dict) and value.get("schema_version") == document.PROOF_VERSION


def verify(receipt: Any, trusted_keys: Collection[bytes] | None = None) -> VerificationReport:
    """``trusted_keys``: 32-byte public keys. None leaves the check ``key`` out: the receipt is then unchanged since somebody
    signed it, but that may be anybody."""
    try:
        _check_shape(receipt)
        leaves = [event_leaf(event) for event in receipt["events"]]
        checks = [_named(name, partial(check, receipt, leaves)) for name, check in _CHECKS.items()]
    except (_Unreadable, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        return VerificationReport(checks=(Check(FORMAT, Status.FAILED, str(error)),))
    return VerificationReport(
        checks=(Check(FORMAT, Status.PASSED), *checks, _key(receipt, trusted_keys)),
        key_id=receipt["head"]["key_id"],
        redacted=document.redacted_events(receipt),
    )


def verify_file(content: bytes, trusted_keys: Collection[bytes] | None = None) -> tuple[Any, VerificationReport]:
    """(the content of the file, the report on it). The file holds a receipt, or the proof of one event."""
    try:
        found = parse(content)
    except InvalidRequest as error:
        return None, VerificationReport(checks=(Check(FORMAT, Status.FAILED, error.message),))
    return found, (verify_proof if is_proof(found) else verify)(found, trusted_keys)


def verify_proof(proof: Any, trusted_keys: Collection[bytes] | None = None) -> VerificationReport:
    """Verifies the proof of one event: its path to the root of the signed head, and the signature."""
    try:
        if not isinstance(proof, dict) or set(proof) != set(_PROOF):
            raise _Unreadable(f"a proof must have exactly {', '.join(_PROOF)}")
        _signed(proof, document.PROOF_VERSION)
        _event(proof["event"], "event")
        path = _path(proof["path"])
        head, n = proof["head"], proof["event"]["n"]
        root = root_of_path(event_leaf(proof["event"]), n - 1, head["tree_size"], path)
    except (_Unreadable, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        return VerificationReport(checks=(Check(FORMAT, Status.FAILED, str(error)),))
    included = root is not None and root.hex() == head["root"]
    inclusion = Check(INCLUSION, Status.PASSED) if included else _failed(INCLUSION, f"event {n} is not under the root")
    checks = (Check(FORMAT, Status.PASSED), inclusion, _named(SIGNATURE, partial(_signature, proof, [])))
    withheld = (n,) if "redacted" in proof["event"] or ERASED in proof["event"] else ()
    return VerificationReport(checks=(*checks, _key(proof, trusted_keys)), key_id=head["key_id"], redacted=withheld)


def _path(steps: Any) -> list[bytes]:
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise _Unreadable("path must be a list of hashes")
    for step in steps:
        _hex(step, "path", 32)
    return [bytes.fromhex(step) for step in steps]


def _failed(name: str, detail: str) -> Check:
    return Check(name, Status.FAILED, detail)


def _named(name: str, check: Callable[[], str]) -> Check:
    """Runs a check, which returns in words what is wrong, or "". A check that raises has failed."""
    try:
        problem = check()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError) as error:
        problem = f"it cannot be checked: {error!r}"
    if problem == _WITHHELD_CONTRACT:
        return Check(name, Status.NOT_CHECKED, problem)
    return _failed(name, problem) if problem else Check(name, Status.PASSED)


_WITHHELD_CONTRACT = "the contract is withheld"


def _contract(receipt: Mapping[str, Any], _: list[bytes]) -> str:
    if receipt["contract"] is None:
        return _WITHHELD_CONTRACT
    same = canonical_sha256(receipt["contract"]) == receipt["head"]["contract_hash"]
    return "" if same else "the contract is not the one that was signed"


def _events(receipt: Mapping[str, Any], leaves: list[bytes]) -> str:
    size = receipt["head"]["tree_size"]
    if len(leaves) != size:
        return f"{len(leaves)} events, but {size} were signed"
    numbers = [event["n"] for event in receipt["events"]]
    return "" if numbers == list(range(1, size + 1)) else "the events are not numbered from 1 without gaps"


def _tree(receipt: Mapping[str, Any], leaves: list[bytes]) -> str:
    return (
        "" if tree_root(leaves).hex() == receipt["head"]["root"] else "an event is not what it was when it was signed"
    )


def _chain(receipt: Mapping[str, Any], leaves: list[bytes]) -> str:
    linked = document.chain_hash(receipt["head"]["contract_hash"], leaves) == receipt["head"]["chain"]
    return "" if linked else "contract and events are not the sequence that was signed"


def _outcome(receipt: Mapping[str, Any], leaves: list[bytes]) -> str:
    head, last = receipt["head"], receipt["events"][-1]
    if leaves[-1].hex() != head["outcome_hash"]:
        return "the last event is not the outcome that was signed"
    if ERASED in last:
        return ""  # what it said is signed in the head
    if last["kind"] != document.ENDED:
        return "the last event is not the outcome that was signed"
    if last["at"] != head["ended_at"]:
        return "the time of the end is not the one that was signed"
    return "" if last["data"].get("terminal") == head["outcome"] else "the outcome is not the one that was signed"


def _summary(receipt: Mapping[str, Any], _: list[bytes]) -> str:
    derived = document.summary(receipt)
    wrong = [name for name in _SUMMARY if canonical_bytes(derived[name]) != canonical_bytes(receipt[name])]
    return f"{', '.join(wrong)} does not follow from what was signed" if wrong else ""


def _signature(receipt: Mapping[str, Any], _: list[bytes]) -> str:
    head, signature = receipt["head"], receipt["signature"]
    public_key = bytes.fromhex(signature["public_key"])
    if key_id(public_key) != head["key_id"]:
        return "the key is not the one that the head names"
    if not is_signature(public_key, bytes.fromhex(signature["value"]), canonical_bytes(head)):
        return "the head was not signed by this key, or was changed since"
    return ""


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], list[bytes]], str]] = {
    CONTRACT: _contract,
    EVENTS: _events,
    TREE: _tree,
    CHAIN: _chain,
    OUTCOME: _outcome,
    SUMMARY: _summary,
    SIGNATURE: _signature,
}


def _key(receipt: Mapping[str, Any], trusted: Collection[bytes] | None) -> Check:
    if trusted is None:
        return Check(KEY, Status.NOT_CHECKED, "no trusted key was given; the key is the receipt's own")
    if bytes.fromhex(receipt["signature"]["public_key"]) in trusted:
        return Check(KEY, Status.PASSED)
    return _failed(KEY, f"key {receipt['head']['key_id']} is not among the trusted ones")
