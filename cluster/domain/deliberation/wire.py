"""A deliberation as clients see it (statuses, record, result, transcript) and as log rows announce it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.consensus.ballots import Confidence
from cluster.domain.deliberation.answers import SEVERITIES
from cluster.domain.deliberation.decision import STOP_REASONS
from cluster.domain.deliberation.person import NO_ANSWER, UNUSABLE, agents_time, question_task_id
from cluster.domain.deliberation.sla import SlaLevel, level_at
from cluster.domain.deliberation.state import Phase, State, Terminal
from cluster.domain.deliberation.stored import Deliberation, JournalEvent
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import TaskDetail, TaskStatus

_STATUS_OF_TERMINAL = {
    "DECIDED": "consensus_reached",
    "NO_CONSENSUS": "no_consensus",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "cancelled",
}
_RECORD_STATUS = {
    "DECIDED": "completed",
    "NO_CONSENSUS": "completed",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "cancelled",
}


def status(state: str, terminal: str | None) -> str:
    if terminal is not None:
        return _STATUS_OF_TERMINAL.get(terminal, "failed")
    return {"ADMITTED": "pending", "SCHEDULED": "scheduled"}.get(state, "in_progress")


#: Every status that ``status`` gives → the phases and ends of it.
STATES_OF: Mapping[str, frozenset[str]] = {
    name: frozenset(
        [phase.value for phase in Phase if phase is not Phase.ENDED and status(phase.value, None) == name]
        + [end.value for end in Terminal if status(Phase.ENDED.value, end.value) == name]
    )
    for name in (
        *("pending", "scheduled", "in_progress"),
        *("consensus_reached", "no_consensus", "timeout", "cancelled", "failed"),
    )
}


def record_status(terminal: str | None) -> str:
    return "in_progress" if terminal is None else _RECORD_STATUS.get(terminal, "failed")


def _duration(deliberation: Deliberation) -> float | None:
    return None if deliberation.completed_at is None else max(0.0, deliberation.completed_at - deliberation.admitted_at)


def _counted(deliberation: Deliberation) -> float:
    """Seconds that count for the service level."""
    ended_at = deliberation.completed_at or deliberation.admitted_at
    return agents_time(deliberation.result, deliberation.admitted_at, ended_at)


def result_wire(deliberation: Deliberation) -> dict[str, Any]:
    """The result, as the synchronous call and the record state it."""
    outcome: Mapping[str, Any] = deliberation.result or {}
    return {
        "request_id": deliberation.request_id,
        "task_id": deliberation.task_id,
        "status": record_status(deliberation.terminal),
        "terminal": deliberation.terminal,
        "decision_type": "quick" if deliberation.contract.get("rounds") == 0 else "debate",
        "answer": outcome.get("answer"),
        "value": outcome.get("value"),
        "answer_type": outcome.get("answer_type"),
        "confidence": outcome.get("confidence", 0.0),
        "confidence_calibrated": outcome.get("confidence_calibrated", False),
        "consensus_reached": deliberation.terminal == "DECIDED",
        "authoritative": deliberation.terminal == "DECIDED",
        "decided_by": _decided_by(deliberation, outcome),
        "person": outcome.get("person"),
        "reasoning": _reasoning(deliberation, outcome),
        "evidence_used": outcome.get("evidence", []),
        "dissent": outcome.get("dissent", []),
        "dissenting_views": [f"{d['agent']}: {d['answer']}" for d in outcome.get("dissent", [])],
        "supporters": outcome.get("supporters", []),
        "abstained": outcome.get("abstained", []),
        "tally": outcome.get("tally", {}),
        "tie_path": outcome.get("tie_path", []),
        "pairwise": outcome.get("pairwise"),
        "stop": outcome.get("stop"),
        "applied_mode": outcome.get("applied"),
        "snapshot_id": outcome.get("snapshot_id"),
        "kind": outcome.get("kind"),
        "panel": outcome.get("panel", []),
        "lost": outcome.get("lost", []),
        "debate_delta": outcome.get("debate_delta"),
        "mode": outcome.get("mode", deliberation.contract.get("mode")),
        "rounds_completed": outcome.get("rounds", 0),
        "total_tokens": outcome.get("tokens", 0),
        "total_cost_usd": outcome.get("cost", {}).get("usd", 0.0),
        "cost": outcome.get("cost"),
        "agent_calls": outcome.get("calls", 0),
        "duration_seconds": _duration(deliberation),
        "error": None
        if deliberation.terminal in (None, "DECIDED")
        else (outcome.get("reason") or deliberation.terminal),
        **_redacted(deliberation),
    }


#: In the context of a deliberation, and the metadata of a task: the conversation of A2A that its client has named.
A2A_CONTEXT = "a2a_context_id"


def _conversation(deliberation: Deliberation) -> dict[str, Any]:
    """The conversation that an A2A client has named, if one has."""
    context = deliberation.contract.get("context")
    named = context.get(A2A_CONTEXT) if isinstance(context, Mapping) else None
    return {"context_id": named} if isinstance(named, str) and named else {}


def _redacted(deliberation: Deliberation) -> dict[str, Any]:
    """Says that words were erased, so that nobody takes what is empty for what was said."""
    return {} if deliberation.erased_at is None else {"redacted": True}


def _reasoning(deliberation: Deliberation, outcome: Mapping[str, Any]) -> str:
    if deliberation.terminal is None or deliberation.erased_at is not None:
        return ""
    supporters = outcome.get("supporters", [])
    panel = outcome.get("panel", [])
    if _decided_by(deliberation, outcome) == "person" and deliberation.terminal == "DECIDED":
        person = outcome["person"]
        who = (
            person["answered_by"] if person["verdict"] != Verdict.DEFAULT else "nobody in time, so the default applies"
        )
        agents = f"{len(supporters)} of {len(panel)} agents were for {person['agents']['answer']}" if supporters else ""
        return f"A person was asked ({person['verdict']}: {who}). {agents or 'The agents had no answer'}."
    if deliberation.terminal == "DECIDED":
        return f"{len(supporters)} of {len(panel)} agents chose it by {outcome.get('mode')}."
    return f"No decision ({deliberation.terminal}): {outcome.get('reason', '')}"


def _decided_by(deliberation: Deliberation, outcome: Mapping[str, Any]) -> str | None:
    """``person`` if a person's answer, rejection or default made it end so; else ``agents`` if it is a decision."""
    if (outcome.get("person") or {}).get("decided"):
        return "person"
    return "agents" if deliberation.terminal == "DECIDED" else None


def _waits(deliberation: Deliberation) -> dict[str, Any]:
    """What says, as with tasks, that a person is asked: the detail, and the task whose question it is."""
    asks = deliberation.state == Phase.INPUT_REQUIRED and deliberation.terminal is None
    return {
        "status_detail": TaskDetail.INPUT_REQUIRED.value if asks else None,
        "question_task_id": question_task_id(deliberation.request_id) if asks else None,
    }


def record_wire(deliberation: Deliberation) -> dict[str, Any]:
    duration = _duration(deliberation)
    wire: dict[str, Any] = {
        "request_id": deliberation.request_id,
        "task_id": deliberation.task_id,
        "status": record_status(deliberation.terminal),
        "deliberation_status": status(deliberation.state, deliberation.terminal),
        "state": deliberation.state,
        "terminal": deliberation.terminal,
        **_waits(deliberation),
        "question": deliberation.contract.get("question"),
        "created_at": _iso(deliberation.admitted_at),
        "completed_at": _iso(deliberation.completed_at),
        "changed_at": deliberation.changed_at,
        "result": result_wire(deliberation) if deliberation.terminal is not None else None,
        "error": None,
        "contract_digest": deliberation.contract_digest.hex(),
        **_conversation(deliberation),
        **_redacted(deliberation),
    }
    if duration is not None:
        outcome = deliberation.result or {}
        wire["error"] = result_wire(deliberation)["error"]
        wire["metrics"] = {
            "duration_seconds": duration,
            "rounds_completed": outcome.get("rounds", 0),
            "total_agent_responses": outcome.get("calls", 0),
            "consensus_confidence": outcome.get("confidence", 0.0),
            "sla_compliance": level_at(_counted(deliberation), float(deliberation.contract["timeout_s"])),
        }
    return wire


def status_wire(deliberation: Deliberation) -> dict[str, Any]:
    wire = {
        "request_id": deliberation.request_id,
        "status": status(deliberation.state, deliberation.terminal),
        "terminal": deliberation.terminal,
    }
    if deliberation.completed_at is not None:
        wire["completed_at"] = _iso(deliberation.completed_at)
    return wire


def transcript_wire(deliberation: Deliberation, events: Sequence[JournalEvent]) -> dict[str, Any]:
    """Every journalled event, with the agents' own words."""
    is_erased = deliberation.erased_at is not None
    return {
        "request_id": deliberation.request_id,
        "status": status(deliberation.state, deliberation.terminal),
        "contract": dict(deliberation.contract),
        "events": [
            {"n": e.n, "at": _iso(e.at), "kind": e.kind, "data": {} if is_erased else dict(e.data)} for e in events
        ],
        "total": len(events),
        **_redacted(deliberation),
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


# --- the log ----------------------------------------------------------------------------------------------------------

#: The kind of a row, its data, and the words that belong to it (``cluster.domain.base.log``).
LogEntry = tuple[str, dict[str, Any], dict[str, Any]]


def log_rows(kind: str, data: Mapping[str, Any], state: State) -> LogEntry | None:
    """The log row that announces a journal event, or None: names and numbers in its data, and previews of words apart from
    them, never whole texts."""
    row = _ROWS.get(kind)
    return row(data, state) if row is not None else None


def _panel_row(data: Mapping[str, Any], state: State) -> LogEntry:
    row = {
        "agents": [member["agent_id"] for member in data["members"]],
        "total_rounds": state.contract.rounds,
        "snapshot_id": data["snapshot_id"],
    }
    return "deliberation.started", row, {"task_preview": state.contract.question[:200]}


def _replaced_row(data: Mapping[str, Any], state: State) -> LogEntry:
    members = [member["agent_id"] for member in data["members"]]
    problem = f"replaced: {', '.join(data['gone'])} by {', '.join(members)}"
    row = {"agent": data["gone"][0], "agents": list(data["gone"])}
    return "deliberation.recovery_attempted", row, {"problem": problem}


def _phase_row(data: Mapping[str, Any], state: State) -> LogEntry | None:
    where = {"phase": data["phase"], "round": data["round"], "total_rounds": state.contract.rounds}
    if data["phase"] == Phase.EVALUATE:
        checked = {name: data[name] for name in ("reached", "confidence", "share", "cast", "stop")}
        leader = (data["leader"] or "")[:200] or None
        return "deliberation.consensus_check", {**where, **checked}, {"leader": leader}
    return None if data["phase"] == Phase.AGGREGATE else ("deliberation.round_start", where, {})


def _faulted_row(data: Mapping[str, Any], state: State) -> LogEntry | None:
    if data.get("problem"):
        return _repair_row(data, state)
    return "deliberation.agent_error", {**_who(data), "fault": data["fault"]}, {"detail": data["detail"][:200]}


def _cut_row(data: Mapping[str, Any], state: State) -> LogEntry:
    agents = [turn["agent"] for turn in data["turns"]]
    row = {"agent": agents[0], "agents": agents, "phase": data["turns"][0]["phase"], "fault": data["fault"]}
    return "deliberation.agent_error", row, {"detail": _CUT_WORDS.get(data["fault"], "")}


FAULTS = frozenset({"timeout", "http", "malformed", "refusal", "cancelled", "over_budget", "abandoned"})
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("request_id", "task_id", "snapshot_id", "agent", "agents", "critic", "target"), IDENTITY),
    "mode": frozenset({"sync", "async"}),
    "phase": frozenset(Phase),
    "stop": frozenset({"", *STOP_REASONS}),  # "" while asking goes on
    "fault": FAULTS,
    "severity": frozenset(SEVERITIES),
    "level": frozenset(SlaLevel),
    "sla_level": frozenset(SlaLevel),
    "confidence": frozenset(Confidence),
    "terminal": frozenset(Terminal),
    "status": frozenset({*_RECORD_STATUS.values(), "failed"}),
    "verdict": frozenset(Verdict),
    "answered_by": IDENTITY,
    "ended_as": frozenset({"", NO_ANSWER, UNUSABLE, *TaskStatus}),
}

_CUT_WORDS = {
    "timeout": "its phase's share of the time is over",
    "cancelled": "the answer could not change the decision",
    "over_budget": "the budget does not cover the call",
    "malformed": "the repaired reply does not fit either",
    "abandoned": "the worker was replaced",
}


def _person_asked_row(data: Mapping[str, Any], state: State) -> LogEntry:
    row = {"task_id": data["task_id"], "terminal": data["terminal"], "confidence": data["outcome"]["confidence"]}
    return "deliberation.input_required", row, {"question_preview": data["text"][:200]}


def _person_answered_row(data: Mapping[str, Any], state: State) -> LogEntry:
    row = {name: data[name] for name in ("verdict", "answered_by", "answered_at", "ended_as")}
    return "deliberation.input_answered", row, {"choice": data["choice"], "reason": data["rationale"][:200]}


def _sla_row(data: Mapping[str, Any], state: State) -> LogEntry:
    elapsed, timeout = data["elapsed_seconds"], data["timeout_seconds"]
    row = {
        **data,
        "remaining_seconds": max(0.0, round(timeout - elapsed, 6)),
        "pct_used": round(100 * elapsed / timeout, 2),
    }
    return f"deliberation.sla_{data['level']}", row, {}


def _who(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"agent": data["agent"], "phase": data["phase"], "round": data["round"]}


def _repair_row(data: Mapping[str, Any], state: State) -> LogEntry | None:
    """Says that an agent is asked again. None if its turn ended instead, since the row of that says so."""
    if not state.turns[Phase(data["phase"]), data["round"], data["agent"]].open:
        return None
    return "deliberation.recovery_attempted", _who(data), {"problem": data["problem"][:200]}


def _answered_row(data: Mapping[str, Any], state: State) -> LogEntry | None:
    if "answer" not in data:
        return _repair_row(data, state)
    return _ANSWER_ROWS[Phase(data["phase"])](data, data["answer"])


def _proposal(data: Mapping[str, Any], answer: Mapping[str, Any]) -> LogEntry:
    preview = {"proposal_preview": (answer["choice"] or "")[:200], "rationale_preview": answer["rationale"][:200]}
    return "deliberation.agent_proposal", {**_who(data), "confidence": answer["confidence"]}, preview


def _revision(data: Mapping[str, Any], answer: Mapping[str, Any]) -> LogEntry:
    _, row, preview = _proposal(data, answer)
    because = {"because": answer.get("because") or None}
    return "deliberation.agent_revision", {**row, "changed": answer.get("changed", False)}, {**preview, **because}


def _vote(data: Mapping[str, Any], answer: Mapping[str, Any]) -> LogEntry:
    words = {"choice": answer["choice"], "reasoning_preview": answer["rationale"][:200]}
    return "deliberation.vote", {**_who(data), "confidence": answer["confidence"]}, words


def _critique(data: Mapping[str, Any], answer: Mapping[str, Any]) -> LogEntry:
    found = answer.get("critiques", [])
    row = {
        **_who(data),
        "critic": data["agent"],
        "target": found[0]["target"] if found else None,
        "issue_count": len(found),
        "severity": found[0]["severity"] if found else None,
    }
    return (
        "deliberation.agent_critique",
        row,
        {"issues_preview": "; ".join(critique["defect"] for critique in found)[:200]},
    )


_ANSWER_ROWS: Mapping[Phase, Callable[[Mapping[str, Any], Mapping[str, Any]], LogEntry]] = {
    Phase.PROPOSE: _proposal,
    Phase.REVISE: _revision,
    Phase.CRITIQUE: _critique,
    Phase.VOTE: _vote,
    Phase.JUDGE: _vote,
}
_ROWS: Mapping[str, Callable[[Mapping[str, Any], State], LogEntry | None]] = {
    "panel": _panel_row,
    "replaced": _replaced_row,
    "phase": _phase_row,
    "faulted": _faulted_row,
    "cut": _cut_row,
    "sla": _sla_row,
    "person_asked": _person_asked_row,
    "person_answered": _person_answered_row,
    "answered": _answered_row,
}


def ended_row(
    ended: Mapping[str, Any], duration_s: float, timeout_s: float, counted_s: float | None = None
) -> LogEntry:
    """The log row of the ``ended`` event, whose data is ``ended``. ``counted_s``: seconds of the duration that the service level
    counts; None: all."""
    terminal, result = ended["terminal"], ended["outcome"]
    kind = {"CANCELLED": "deliberation.cancelled", "FAILED": "deliberation.failed"}.get(
        terminal, "deliberation.completed"
    )
    row = {
        "terminal": terminal,
        "status": record_status(terminal),
        "success": terminal == "DECIDED",
        "consensus_reached": terminal == "DECIDED",
        "confidence": result["confidence"],
        "duration_seconds": round(duration_s, 6),
        "rounds_completed": result["rounds"],
        "tokens": result.get("tokens", 0),
        "sla_level": level_at(duration_s if counted_s is None else counted_s, timeout_s),
    }
    return kind, row, {"winner": (result["answer"] or "")[:200] or None, "error": ended["reason"] or None}
