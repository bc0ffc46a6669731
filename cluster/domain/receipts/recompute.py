"""Deciding again: the aggregation is run anew from the signed votes and weights, and must say the same, bit for bit.

Call it on a receipt that ``verify`` found valid: a result that follows from forged votes follows from them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from cluster.domain.canonical import canonical_bytes
from cluster.domain.consensus.aggregate import aggregate, aggregation_from_document
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.snapshot import WeightSnapshot, snapshot_from_document
from cluster.domain.errors import InvalidRequest
from cluster.domain.receipts.document import event_data


class Recomputed(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_RECOMPUTABLE = "not_recomputable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputation:
    """``result`` is what was computed anew; ``differences`` names what the receipt says otherwise."""

    verdict: Recomputed
    reason: str = ""
    differences: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None


#: Fields of the recorded outcome, and what they must be; those that a journal did not record are compared no further.
_REQUIRED = ("confidence", "tally", "dissent", "abstained", "cast", "quorum")
_RESULT = TypeAdapter(Result)


#: For what ``verify`` refused, and for one event alone.
UNCHECKED = Recomputation(
    verdict=Recomputed.NOT_RECOMPUTABLE, reason="only a valid receipt is worth computing, and only a whole one can be"
)


def recompute(receipt: Mapping[str, Any]) -> Recomputation:
    try:
        ended = event_data(receipt["events"][-1])
        if "aggregation" not in ended:
            return _not("the journal is older than recorded aggregations, or nothing was put to the vote")
        snapshot = _snapshot(receipt)
        result = aggregate(aggregation_from_document(ended["aggregation"]), snapshot)
        missing = [name for name in _REQUIRED if name not in ended["outcome"]]
        if missing:
            return _not(f"the outcome does not state {', '.join(missing)}")
        differences = _differences(receipt, ended, result)
    except InvalidRequest as error:
        return _not(error.message)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError, IndexError) as error:
        return _not(f"its votes cannot be read: {error!r}")
    verdict = Recomputed.DIFFERENT if differences else Recomputed.EQUAL
    return Recomputation(verdict=verdict, differences=differences, result=_document(result))


def _not(reason: str) -> Recomputation:
    return Recomputation(verdict=Recomputed.NOT_RECOMPUTABLE, reason=reason)


def _document(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = _RESULT.dump_python(result, mode="json")
    return document


def _snapshot(receipt: Mapping[str, Any]) -> WeightSnapshot | None:
    """The weights as they were when the panel was chosen: the newest ``panel`` event holds them."""
    for event in reversed(receipt["events"]):
        if event["kind"] == "panel":
            document = event_data(event).get("snapshot")
            return None if document is None else snapshot_from_document(document)
    return None


def _differences(receipt: Mapping[str, Any], ended: Mapping[str, Any], result: Result) -> tuple[str, ...]:
    outcome = ended["outcome"]
    free_answers = receipt["contract"] is not None and not receipt["contract"].get("options")
    expected = _expected(result, free_answers)
    wrong = [name for name, value in expected.items() if name in outcome and not _same(value, _said(name, outcome))]
    if not _terminal_follows(receipt["head"]["outcome"], result):
        wrong.insert(0, "decision")
    return tuple(wrong)


def _terminal_follows(terminal: str, result: Result) -> bool:
    """Votes decide between these three; the deadline and a cancel end what the votes cannot."""
    if terminal == "DECIDED":
        return result.reached
    if terminal in ("NO_CONSENSUS", "QUORUM_LOST"):
        return not result.reached
    return True


def _expected(result: Result, free_answers: bool) -> dict[str, Any]:
    expected = _document(result)
    expected["confidence"] = result.uncalibrated_share if result.confidence is None else result.confidence
    expected["confidence_calibrated"] = result.confidence is not None
    expected["dissent"] = [one.agent for one in result.dissent]
    expected["abstained"] = list(result.abstained)
    del expected["reason"]  # the outcome's is the reason of the end
    del expected["mode"]  # as asked for, which is the contract's
    if not free_answers:  # a label stands for an agent's words
        expected["answer"] = result.leader
    return expected


def _said(name: str, outcome: Mapping[str, Any]) -> Any:
    """Agents are compared; the reasons beside them are not computed."""
    value = outcome[name]
    return [one["agent"] for one in value] if name in ("dissent", "abstained") else value


def _same(computed: Any, recorded: Any) -> bool:
    return canonical_bytes(computed) == canonical_bytes(recorded)
