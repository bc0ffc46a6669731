"""Decides again: runs the aggregation anew on the signed votes and weights, and compares the result exactly. If a person
was asked, the end has to follow from that result and the journalled answer.

Call it only on a receipt that ``verify`` found valid: forged votes and the result that they lead to agree as well.
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
from cluster.domain.deliberation.person import settled
from cluster.domain.receipts.content import ERASED
from cluster.domain.receipts.document import event_data


class Recomputed(StrEnum):
    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_RECOMPUTABLE = "not_recomputable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputation:
    """``result``: what was computed anew. ``differences`` names what the receipt states differently."""

    verdict: Recomputed
    reason: str = ""
    differences: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None


#: What an outcome must state, or a comparison would mean nothing. Whatever else it states of a result is compared too.
_REQUIRED = ("option", "confidence", "tally", "dissent", "abstained", "cast", "quorum", "tie_path")
_RESULT = TypeAdapter(Result)


#: For a receipt that ``verify`` refused, and for the proof of one event.
UNCHECKED = Recomputation(
    verdict=Recomputed.NOT_RECOMPUTABLE, reason="only a whole receipt that is valid can be computed again"
)


def recompute(receipt: Mapping[str, Any]) -> Recomputation:
    """Compares what the signed votes lead to with what the receipt states. It raises nothing: what it cannot read is
    ``NOT_RECOMPUTABLE``, with the reason."""
    try:
        if ERASED in receipt["events"][-1]:
            return _not("its votes were erased")
        ended = event_data(receipt["events"][-1])
        if ended.get("aggregation") is None:
            return _not("its journal records no aggregation: it is from an older version, or no panel was chosen")
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
    terminal = receipt["head"]["outcome"]
    asked = _data_of(receipt, "person_asked")
    if asked is not None:
        wrong += _person_differences(receipt, ended, asked)
        terminal = asked["terminal"]
    if not _terminal_follows(terminal, result):
        wrong.insert(0, "decision")
    return tuple(wrong)


def _data_of(receipt: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The data of the event of a kind that there is once at most."""
    return next((event_data(event) for event in receipt["events"] if event["kind"] == kind), None)


def _person_differences(receipt: Mapping[str, Any], ended: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What of the end does not follow from what the agents found and from the journalled answer of a person. Words that are
    withheld are not compared."""
    head_outcome, outcome, found = receipt["head"]["outcome"], ended["outcome"], asked["outcome"]
    given = _data_of(receipt, "person_answered")
    stated = outcome.get("person") or {"agents": {}}
    told = [((given or {}).get(name), stated.get(name)) for name in ("verdict", "answered_by", "answered_at")]
    told += [(asked[name], stated["agents"].get(name)) for name in ("terminal", "reason")]
    wrong = ["person"] if any(not _same(value, also) for value, also in told) else []
    if receipt["contract"] is not None and not receipt["contract"].get("ask_person"):
        wrong = ["person"]  # nobody was to be asked
    if given is None:
        # Without an answer only a cancellation, or a failure of the control plane, ends it.
        return wrong if head_outcome in ("CANCELLED", "FAILED") else [*wrong, "decision"]
    chosen = given if "choice" in given else {**given, "choice": outcome.get("answer", "")}
    terminal, _, answer = settled(asked["terminal"], asked["reason"], found.get("answer"), chosen)
    if terminal != head_outcome:
        wrong.append("decision")
    if "answer" in outcome and "answer" in found and answer != outcome["answer"]:
        wrong.append("answer")
    return wrong


def _terminal_follows(terminal: str, result: Result) -> bool:
    """Whether the end agrees with the result. Votes decide between DECIDED, NO_CONSENSUS and QUORUM_LOST only; the others,
    such as the deadline or a cancellation, do not depend on them."""
    if terminal == "DECIDED":
        return result.reached
    if terminal in ("NO_CONSENSUS", "QUORUM_LOST"):
        return not result.reached
    return True


def _expected(result: Result) -> dict[str, Any]:
    """What the outcome must state, by name. ``reason`` and ``mode`` are left out: in an outcome they are those of the end
    and of the contract. ``option`` is what was counted; ``answer`` may be its text."""
    expected = {name: value for name, value in _document(result).items() if name not in ("reason", "mode")}
    expected["option"] = result.leader
    expected["confidence"] = result.uncalibrated_share if result.confidence is None else result.confidence
    expected["confidence_calibrated"] = result.confidence is not None
    expected["dissent"] = [dissent.agent for dissent in result.dissent]
    expected["abstained"] = list(result.abstained)
    return expected


def _agents(entries: Any) -> list[Any]:
    """The agents of entries. The reasons beside them are not computed, so they are not compared."""
    return [entry["agent"] for entry in entries]


def _same(computed: Any, recorded: Any) -> bool:
    return canonical_bytes(computed) == canonical_bytes(recorded)


def _unsupported(receipt: Mapping[str, Any], ended: Mapping[str, Any]) -> list[str]:
    """Agents whose counted ballot is not journalled as cast by them. An agent whose words are withheld is not accused."""
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
    """Which journalled answers are ballots as they were counted. If answers are texts: the votes of the deciding round, or
    None if no vote was held. If they are typed: all. None if what is counted is not an answer itself, as with numbers
    within a tolerance."""
    contract = receipt["contract"] or {}
    typed = contract.get("answer_type") or {}
    kind = typed.get("kind") or ("choice" if contract.get("options") else None)
    if kind == "text":
        round_ = ended.get("aggregation_round")
        asked = [event["data"] for event in receipt["events"] if event["kind"] == "asked"]
        if not any(call["phase"] == _VOTE and call["round"] == round_ for call in asked):
            return None
        return lambda data: data["phase"] == _VOTE and data["round"] == round_
    if kind is None or (kind == "number" and typed.get("tolerance")):
        return None
    return lambda data: True


_VOTE = "VOTE"
