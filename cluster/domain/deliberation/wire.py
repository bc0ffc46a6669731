"""A deliberation as the released client sees it: statuses, record, result, transcript (wire 2.4, 1.2 rows 41-44)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.domain.deliberations import Deliberation, JournalEvent

SLA_WARNING, SLA_CRITICAL, SLA_VIOLATED = 0.80, 0.95, 1.0

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


def sla_level(duration_s: float, timeout_s: float) -> str:
    used = duration_s / timeout_s
    if used >= SLA_VIOLATED:
        return "violated"
    if used >= SLA_CRITICAL:
        return "critical"
    return "warning" if used >= SLA_WARNING else "compliant"


def status(state: str, terminal: str | None) -> str:
    if terminal is not None:
        return _STATUS_OF_TERMINAL.get(terminal, "failed")
    return {"ADMITTED": "pending", "SCHEDULED": "scheduled"}.get(state, "in_progress")


def record_status(terminal: str | None) -> str:
    return "in_progress" if terminal is None else _RECORD_STATUS.get(terminal, "failed")


def _duration(one: Deliberation) -> float | None:
    return None if one.completed_at is None else max(0.0, one.completed_at - one.admitted_at)


def result_wire(one: Deliberation) -> dict[str, Any]:
    """The synchronous answer."""
    outcome: Mapping[str, Any] = one.result or {}
    return {
        "request_id": one.request_id,
        "task_id": one.task_id,
        "status": record_status(one.terminal),
        "terminal": one.terminal,
        "decision_type": "quick" if one.contract.get("rounds") == 0 else "debate",
        "answer": outcome.get("answer"),
        "confidence": outcome.get("confidence", 0.0),
        "confidence_calibrated": outcome.get("confidence_calibrated", False),
        "consensus_reached": one.terminal == "DECIDED",
        "authoritative": one.terminal == "DECIDED",
        "reasoning": _reasoning(one, outcome),
        "evidence_used": [],
        "dissent": outcome.get("dissent", []),
        "dissenting_views": [f"{d['agent']}: {d['answer']}" for d in outcome.get("dissent", [])],
        "supporters": outcome.get("supporters", []),
        "abstained": outcome.get("abstained", []),
        "tally": outcome.get("tally", {}),
        "panel": outcome.get("panel", []),
        "debate_delta": outcome.get("debate_delta"),
        "mode": outcome.get("mode", one.contract.get("mode")),
        "total_tokens": outcome.get("tokens", 0),
        "agent_calls": outcome.get("calls", 0),
        "duration_seconds": _duration(one),
        "error": None if one.terminal in (None, "DECIDED") else (outcome.get("reason") or one.terminal),
    }


def _reasoning(one: Deliberation, outcome: Mapping[str, Any]) -> str:
    if one.terminal is None:
        return ""
    supporters = outcome.get("supporters", [])
    panel = outcome.get("panel", [])
    if one.terminal == "DECIDED":
        return f"{len(supporters)} of {len(panel)} agents chose it by {outcome.get('mode')}."
    return f"No decision ({one.terminal}): {outcome.get('reason', '')}"


def record_wire(one: Deliberation) -> dict[str, Any]:
    duration = _duration(one)
    wire: dict[str, Any] = {
        "request_id": one.request_id,
        "task_id": one.task_id,
        "status": record_status(one.terminal),
        "deliberation_status": status(one.state, one.terminal),
        "state": one.state,
        "terminal": one.terminal,
        "question": one.contract.get("question"),
        "created_at": _iso(one.admitted_at),
        "completed_at": _iso(one.completed_at),
        "result": result_wire(one) if one.terminal is not None else None,
        "error": None,
        "contract_digest": one.contract_digest.hex(),
    }
    if duration is not None:
        outcome = one.result or {}
        wire["error"] = result_wire(one)["error"]
        wire["metrics"] = {
            "duration_seconds": duration,
            "total_agent_responses": outcome.get("calls", 0),
            "consensus_confidence": outcome.get("confidence", 0.0),
            "sla_compliance": sla_level(duration, float(one.contract["timeout_s"])),
        }
    return wire


def status_wire(one: Deliberation) -> dict[str, Any]:
    wire = {"request_id": one.request_id, "status": status(one.state, one.terminal), "terminal": one.terminal}
    if one.completed_at is not None:
        wire["completed_at"] = _iso(one.completed_at)
    return wire


def transcript_wire(one: Deliberation, events: Sequence[JournalEvent]) -> dict[str, Any]:
    """Every journalled step, with the agents' own words."""
    return {
        "request_id": one.request_id,
        "status": status(one.state, one.terminal),
        "contract": dict(one.contract),
        "events": [{"n": e.n, "at": _iso(e.at), "kind": e.kind, "data": dict(e.data)} for e in events],
        "total": len(events),
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def log_rows(kind: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The log row that announces a journal event: names, previews and numbers, never whole texts."""
    if kind == "panel":
        return "deliberation.started", {"agents": [m["agent_id"] for m in data["members"]], "total_rounds": 1}
    if kind == "phase":
        return "deliberation.round_start", {"phase": data["phase"], "round": 1}
    if kind == "faulted":
        return "deliberation.agent_error", {**_who(data), "fault": data["fault"], "detail": data["detail"][:200]}
    if kind == "answered" and "answer" in data:
        return _answered_row(data)
    if kind == "answered":
        return "deliberation.recovery_attempted", {**_who(data), "problem": data["problem"]}
    return None


def _who(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"agent": data["agent"], "phase": data["phase"]}


def _answered_row(data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    answer = data["answer"]
    if data["phase"] == "PROPOSE":
        preview = {"proposal_preview": (answer["choice"] or "")[:200], "rationale_preview": answer["rationale"][:200]}
        return "deliberation.agent_proposal", {**_who(data), **preview, "confidence": answer["confidence"]}
    vote = {"choice": answer["choice"], "confidence": answer["confidence"]}
    return "deliberation.vote", {**_who(data), **vote, "reasoning_preview": answer["rationale"][:200]}


def ended_row(one: Mapping[str, Any], duration_s: float, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """``one`` is the data of the ``ended`` event."""
    terminal, result = one["terminal"], one["outcome"]
    kind = {"CANCELLED": "deliberation.cancelled", "FAILED": "deliberation.failed"}.get(
        terminal, "deliberation.completed"
    )
    return kind, {
        "terminal": terminal,
        "status": record_status(terminal),
        "success": terminal == "DECIDED",
        "consensus_reached": terminal == "DECIDED",
        "confidence": result["confidence"],
        "winner": (result["answer"] or "")[:200] or None,
        "duration_seconds": round(duration_s, 6),
        "sla_level": sla_level(duration_s, timeout_s),
        "error": one["reason"] or None,
    }
