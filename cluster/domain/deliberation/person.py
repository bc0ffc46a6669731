"""A person at the end of a deliberation: when one is asked, what the question says, and what an answer changes.

The question is a task that people do, under an id derived from the deliberation's. The votes stay as they were, and so does
whatever is computed from them: an answer changes how the deliberation ends, its answer and its value, and nothing else. So a
receipt can be computed again from the votes and the journalled answer (``cluster.domain.receipts.recompute``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.base.json_values import cut_text
from cluster.domain.base.log import Origin
from cluster.domain.deliberation.answers import AnswerKind, AnswerType, Malformed, canonical
from cluster.domain.deliberation.asking import AskPerson, AskWhen, asked_question, shape_of
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberation.state import State, Terminal
from cluster.domain.tasks.question_checks import MAX_QUESTION_CHARS
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import PERSON_TYPE, NewTask, Task, TaskStatus

PRINCIPAL: Final = "system:deliberation"
#: In the metadata of the task: the deliberation that asks.
DELIBERATION: Final = "deliberation_id"
#: How the agents' part may end for a person to be asked. After a cancellation, or a failure of the control plane, nobody is.
_ENDS: Final = frozenset(
    {
        Terminal.DECIDED,
        Terminal.NO_CONSENSUS,
        Terminal.QUORUM_LOST,
        Terminal.BUDGET_EXHAUSTED,
        Terminal.DEADLINE_EXCEEDED,
    }
)
#: Bytes of the deliberation's question, and of the agents' answer, that the person's question quotes.
_QUOTED: Final = 1_500
REJECTED: Final = "a person rejected it"
NO_ANSWER: Final = "no_answer"
UNUSABLE: Final = "unusable_answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAnswered:
    """The person's task has ended. ``verdict`` None: without an answer, and ``detail`` says how the task ended. ``value``: what
    was answered, as JSON. ``answered_at``: epoch seconds. ``reason``: of a rejection."""

    verdict: Verdict | None = None
    value: Any = None
    answered_by: str | None = None
    answered_at: float | None = None
    reason: str = ""
    detail: str = ""


def question_task_id(request_id: str) -> str:
    """The id of the task that asks a person for a deliberation: derived, so that whoever asks again asks the same."""
    return f"ask_{hashlib.sha256(request_id.encode()).hexdigest()[:40]}"


def call_key(request_id: str) -> str:
    """The idempotency key of the question; it begins as those of the calls to agents do, by which erasures find them."""
    return f"{request_id}/person"


def is_due(ask: AskPerson | None, terminal: Terminal, confidence: float) -> bool:
    """Whether a person is asked after the agents' part has ended so."""
    if ask is None or terminal not in _ENDS:
        return False
    if terminal is not Terminal.DECIDED or ask.when is AskWhen.ALWAYS:
        return True
    return ask.when is AskWhen.BELOW_CONFIDENCE and ask.confidence is not None and confidence < ask.confidence


# --- the question -----------------------------------------------------------------------------------------------------


def question_text(contract: Contract, terminal: Terminal, outcome: Mapping[str, Any]) -> str:
    """The question in words: as the contract has it, else made of the question to the agents and of what they found."""
    if contract.ask_person is not None and contract.ask_person.question:
        return contract.ask_person.question
    answer = outcome["answer"]
    if terminal is Terminal.DECIDED:
        found = f"The agents decided: {cut_text(answer, _QUOTED)} (confidence {outcome['confidence']:.2f})."
    elif answer is None:
        found = f"The agents reached no decision ({terminal.value})."
    else:
        found = (
            f"The agents reached no decision ({terminal.value}). Their best answer so far: {cut_text(answer, _QUOTED)}."
        )
    options = ", ".join(contract.options)
    listed = f"Options: {options}" if options and len(options) <= _QUOTED // 2 else ""
    how = "Approve it, reject it, or give another answer." if answer is not None else "Give an answer, or reject it."
    text = "\n\n".join(part for part in (cut_text(contract.question, _QUOTED), found, listed, how) if part)
    return text[:MAX_QUESTION_CHARS]


def question_task(state: State, origin: Origin, now: float, region: str) -> NewTask:
    """The task that asks, of a deliberation that waits for a person. ``region``: where it is asked."""
    asked, contract = state.asked, state.contract
    assert asked is not None, "only a deliberation that has asked has a question"
    assert contract.ask_person is not None, "nor one without these settings"
    outcome = asked["outcome"]
    shown = ("answer", "value", "confidence", "confidence_calibrated", "tally", "supporters", "reason")
    dissent = [{"agent": view["agent"], "answer": view["answer"]} for view in outcome.get("dissent", ())]
    agents = {name: outcome.get(name) for name in shown}
    return NewTask(
        id=asked["task_id"],
        origin=origin,
        task_type=PERSON_TYPE,
        created_at=now,
        payload={
            "deliberation_id": state.request_id,
            "question": contract.question,
            "options": list(contract.options),
            "agents": {"terminal": asked["terminal"], **agents, "dissent": dissent},
            "idempotency_key": call_key(state.request_id),
        },
        metadata={DELIBERATION: state.request_id},
        origin_region=region,
        question=asked_question(
            contract.ask_person,
            contract.answer_type,
            asked["text"],
            may_approve=outcome["answer"] is not None,
        ),
    )


# --- the answer -------------------------------------------------------------------------------------------------------


def answer_of(task: Task) -> PersonAnswered | None:
    """What has come of the person's task; None while it is open."""
    if not task.status.terminal:
        return None
    asked = task.question
    if asked is None or asked.verdict is None:
        return PersonAnswered(detail=NO_ANSWER if task.status is TaskStatus.FAILED else task.status.value)
    return PersonAnswered(
        verdict=asked.verdict,
        value=asked.answer,
        answered_by=asked.answered_by,
        answered_at=asked.answered_at,
        reason=asked.reason or "",
    )


def answer_record(answer_type: AnswerType, agents_answer: str | None, given: PersonAnswered) -> dict[str, Any]:
    """What is journalled of an answer. ``choice``: the canonical answer that it stands for, None if it gives none."""
    record: dict[str, Any] = {
        "verdict": None if given.verdict is None else given.verdict.value,
        "answered_by": given.answered_by,
        "answered_at": given.answered_at,
        "choice": None,
        "rationale": given.reason,
        "ended_as": given.detail,
    }
    if given.verdict in (None, Verdict.REJECTED):
        return record
    try:
        return {**record, "choice": _choice(answer_type, agents_answer, given)}
    except Malformed as problem:
        return {**record, "ended_as": UNUSABLE, "problem": str(problem)}


def _choice(answer_type: AnswerType, agents_answer: str | None, given: PersonAnswered) -> str:
    """Raises: `Malformed` if the value is no answer of the type. The question's schema lets hardly any such value through."""
    approves = given.verdict is Verdict.APPROVED or answer_type.kind not in (AnswerKind.BOOLEAN, AnswerKind.JSON)
    if given.value is True and approves and agents_answer is not None:
        return agents_answer
    return canonical(given.value, shape_of(answer_type))


def settled(
    terminal: str, reason: str, answer: str | None, given: Mapping[str, Any]
) -> tuple[Terminal, str, str | None]:
    """(end, reason, answer) of a deliberation whose agents ended with the first three and whose person was journalled to have
    answered ``given``. A rejection takes a decision back and keeps its answer as the best so far; without an answer the
    agents' outcome stays."""
    if given["verdict"] == Verdict.REJECTED:
        was_decided = terminal == Terminal.DECIDED
        return (Terminal.NO_CONSENSUS, REJECTED, answer) if was_decided else (Terminal(terminal), reason, answer)
    choice = given.get("choice")
    if choice is None:
        return Terminal(terminal), reason, answer
    return Terminal.DECIDED, "", str(choice)


def ending(state: State, terminal: Terminal, reason: str) -> dict[str, Any]:
    """The ``ended`` event of a deliberation that has asked a person: what the agents found, the end, and who decided it."""
    asked, given = state.asked, state.answered or {}
    assert asked is not None, "only for a deliberation that has asked"
    found: Mapping[str, Any] = asked["outcome"]
    answer, value = found["answer"], found["value"]
    if state.answered is not None:
        answer = settled(asked["terminal"], asked["reason"], answer, given)[2]
        value = value if answer == found["answer"] else state.contract.answer_type.value_of(answer)
    person = {
        "task_id": asked["task_id"],
        "asked_at": state.asked_at,
        "verdict": given.get("verdict"),
        "answered_by": given.get("answered_by"),
        "answered_at": given.get("answered_at"),
        "rationale": given.get("rationale", ""),
        "ended_as": given.get("ended_as", ""),
        "decided": given.get("verdict") == Verdict.REJECTED or given.get("choice") is not None,
        "agents": {
            "terminal": asked["terminal"],
            "reason": asked["reason"],
            "answer": found["answer"],
            "value": found["value"],
        },
    }
    outcome = {
        **found,
        "reason": reason,
        "authoritative": terminal is Terminal.DECIDED,
        "answer": answer,
        "value": value,
        "person": person,
    }
    kept = {name: asked[name] for name in ("aggregation", "aggregation_round") if name in asked}
    return {"terminal": terminal.value, "reason": reason, "outcome": outcome, **kept}


def agents_time(outcome: Mapping[str, Any] | None, admitted_at: float, ended_at: float) -> float:
    """Seconds that a deliberation took without the time in which it waited for a person: what its time limit and its service
    levels count."""
    person = (outcome or {}).get("person")
    return max(0.0, (ended_at if person is None else person["asked_at"]) - admitted_at)
