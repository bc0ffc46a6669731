"""What rows of the log say of a deliberation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.consensus.ballots import Confidence
from cluster.domain.deliberation.answers import SEVERITIES
from cluster.domain.deliberation.decision import STOP_REASONS
from cluster.domain.deliberation.person import NO_ANSWER, UNUSABLE
from cluster.domain.deliberation.sla import SlaLevel, level_at
from cluster.domain.deliberation.state import Phase, State, Terminal
from cluster.domain.deliberation.wire import RECORD_STATUS, record_status
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import TaskStatus

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
    "status": frozenset({*RECORD_STATUS.values(), "failed"}),
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
