"""Deciding again: the aggregation is run anew from the signed votes and weights, and must say the same, bit for bit.

Call it on a receipt that ``verify`` found valid: a result that follows from forged votes follows from them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.aggregate import aggregate, aggregation_from_document
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.snapshot import WeightSnapshot, snapshot_from_document
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


#: What an outcome must state for a comparison to mean anything. What else it states of a result is compared as well.
_REQUIRED = ("option", "confidence", "tally", "dissent", "abstained", "cast", "quorum", "tie_path")
_RESULT = TypeAdapter(Result)


#: For what ``verify`` refused, and for one event alone.
UNCHECKED = Recomputation(
    verdict=Recomputed.NOT_RECOMPUTABLE, reason="only a valid receipt is worth computing, and only a whole one can be"
)


def recompute(receipt: Mapping[str, Any]) -> Recomputation:
    try:
        ended = event_data(receipt["events"][-1])
        if ended.get("aggregation") is None:
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
    stated = {**outcome, "dissent": _agents(outcome["dissent"]), "abstained": _agents(outcome["abstained"])}
    wrong = [name for name, value in _expected(result).items() if name in stated and not _same(value, stated[name])]
    wrong += [f"ballot of {agent}" for agent in _unsupported(receipt, ended)]
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


def _expected(result: Result) -> dict[str, Any]:
    """``reason`` and ``mode`` of an outcome are those of the end and of the contract; ``option`` is what was counted,
    which ``answer`` may say in words."""
    expected = {name: value for name, value in _document(result).items() if name not in ("reason", "mode")}
    expected["option"] = result.leader
    expected["confidence"] = result.uncalibrated_share if result.confidence is None else result.confidence
    expected["confidence_calibrated"] = result.confidence is not None
    expected["dissent"] = [one.agent for one in result.dissent]
    expected["abstained"] = list(result.abstained)
    return expected


def _agents(entries: Any) -> list[Any]:
    """Who; the reasons beside them are not computed."""
    return [entry["agent"] for entry in entries]


def _same(computed: Any, recorded: Any) -> bool:
    return canonical_bytes(computed) == canonical_bytes(recorded)


def _unsupported(receipt: Mapping[str, Any], ended: Mapping[str, Any]) -> list[str]:
    """Agents whose counted ballot is none that they are journalled to have cast. One whose words are withheld may have."""
    counts = _ballot_events(receipt, ended)
    if counts is None:
        return []
    cast: dict[str, list[list[str]]] = {}
    withheld = set()
    for event in receipt["events"]:
        answer = event_data(event).get("answer")
        if event["kind"] != "answered" or not isinstance(answer, dict) or not counts(event["data"]):
            continue
        agent = event["data"]["agent"]
        given = answer.get("choice")
        cast.setdefault(agent, []).extend([[given] if isinstance(given, str) else [], list(answer.get("ranked") or ())])
        if event.get("redacted") is not None and "choice" not in answer:
            withheld.add(agent)
    ballots: Mapping[str, Any] = ended["aggregation"]["ballots"]
    return sorted(
        agent
        for agent, ballot in ballots.items()
        if ballot["options"] and agent not in withheld and ballot["options"] not in cast.get(agent, ())
    )


def _ballot_events(receipt: Mapping[str, Any], ended: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool] | None:
    """Which answers are ballots as they were counted: where answers are texts, the votes of the deciding round, if one was
    held; where they are typed, all. None where what is counted is made from answers: numbers within a tolerance."""
    contract = receipt["contract"] or {}
    typed = contract.get("answer_type") or {}
    kind = typed.get("kind") or ("choice" if contract.get("options") else None)
    if kind == "text":
        round_ = ended.get("aggregation_round")
        asked = [event["data"] for event in receipt["events"] if event["kind"] == "asked"]
        if not any(one["phase"] == _VOTE and one["round"] == round_ for one in asked):
            return None
        return lambda data: data["phase"] == _VOTE and data["round"] == round_
    if kind is None or (kind == "number" and typed.get("tolerance")):
        return None
    return lambda data: True


_VOTE = "VOTE"
