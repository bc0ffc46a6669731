"""A deliberation as clients see it: statuses, record, result, transcript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.domain.deliberation.person import agents_time, question_task_id
from cluster.domain.deliberation.sla import level_at
from cluster.domain.deliberation.state import Phase, Terminal
from cluster.domain.deliberation.stored import Deliberation, JournalEvent
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import TaskDetail

_STATUS_OF_TERMINAL = {
    "DECIDED": "consensus_reached",
    "NO_CONSENSUS": "no_consensus",
    "DEADLINE_EXCEEDED": "timeout",
    "CANCELLED": "cancelled",
}
#: The status of a record, by terminal; "failed" for others.
RECORD_STATUS = {
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
    return "in_progress" if terminal is None else RECORD_STATUS.get(terminal, "failed")


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
