"""How a deliberation ends, and the outcome that its end states."""

from __future__ import annotations

from typing import Any

from cluster.domain.consensus.aggregate import Aggregation
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation import ballots
from cluster.domain.deliberation.decision import ProvisionalResult, final, last_round, provisional
from cluster.domain.deliberation.state import Phase, State, Terminal


def terminal_of(state: State) -> tuple[Terminal, str]:
    """(how the deliberation ends, the reason), once it is in AGGREGATE."""
    _, last = final(state)
    result = last.result
    if result.reached:
        return Terminal.DECIDED, ""
    short = any(turn.fault == "over_budget" for turn in state.turns.values())
    if state.stop == "budget" or short:
        return Terminal.BUDGET_EXHAUSTED, f"the budget does not cover the next calls ({result.reason})"
    if result.reason in ("quorum", "no_votes"):
        return Terminal.QUORUM_LOST, missing(state, result)
    return Terminal.NO_CONSENSUS, result.reason


def missing(state: State, result: Result) -> str:
    silent = ", ".join(f"{agent} ({last_fault(state, agent)})" for agent in result.abstained)
    return f"quorum: {result.cast} of {result.quorum} votes; none from {silent or 'anybody'}"


def last_fault(state: State, agent: str) -> str:
    return next(
        (turn.fault for (_, _, who), turn in reversed(list(state.turns.items())) if who == agent and turn.fault),
        "abstained",
    )


def outcome(state: State, terminal: Terminal, reason: str) -> dict[str, Any]:
    """The end as JSON: what was decided, how sure, by whom, against whom, and at what cost."""
    base: dict[str, Any] = {
        "reason": reason,
        "authoritative": terminal is Terminal.DECIDED,
        "calls": state.calls,
        "mode": state.contract.mode.value,
        "answer_type": state.contract.answer_type.kind.value,
        "panel": list(state.agents),
        "lost": lost(state),
        "rounds": last_round(state),
        "stop": state.stop,
        **_cost(state),
    }
    if not state.panel:
        nothing: dict[str, Any] = {"supporters": [], "dissent": [], "abstained": [], "tally": {}}
        delta = {"round_0": None, "final": None, "changed": False, "calls": 0, "tokens": 0}
        return {**base, **nothing, "answer": None, "value": None, "confidence": 0.0, "debate_delta": delta}
    first, last = final(state)
    result = last.result
    answer = ballots.text_of(state, result.leader, last.round)
    return {
        **base,
        "answer": answer,
        "value": state.contract.answer_type.value_of(answer),
        "option": result.leader,
        "applied": result.applied.value,
        "confidence": result.uncalibrated_share if result.confidence is None else result.confidence,
        "confidence_calibrated": result.confidence is not None,
        "snapshot_id": result.snapshot_id,
        "kind": result.kind,
        "supporters": [a for a in state.agents if _supports(last, a)],
        "dissent": [_dissent(state, last, dissent.agent, dissent.options) for dissent in result.dissent],
        "abstained": [{"agent": a, "reason": last.asked.ballots[a].reason} for a in result.abstained],
        "tally": dict(result.tally),
        "tie_path": list(result.tie_path),
        "pairwise": result.pairwise,
        "quorum": result.quorum,
        "cast": result.cast,
        "candidates": ballots.candidates(state, last.round) if ballots.is_text(state) else {},
        "evidence": _evidence(state, last),
        "debate_delta": _delta(state, first, last),
    }


def lost(state: State) -> list[str]:
    """Agents that the contract names but that were not available when the panel was chosen. Nobody takes their place."""
    if len(state.panel) >= state.contract.max_agents:
        return []
    there = {member.agent_id for member in (*state.panel, *state.replaced)}
    return [agent for agent in state.contract.agents if agent not in there]


def _supports(last: ProvisionalResult, agent: str) -> bool:
    ballot = last.asked.ballots[agent]
    return last.result.leader is not None and (
        ballot.top() == last.result.leader
        or (last.result.applied is Mode.APPROVAL and last.result.leader in ballot.approved())
    )


def _dissent(state: State, last: ProvisionalResult, agent: str, options: tuple[str, ...]) -> dict[str, Any]:
    turn = state.turn(Phase.VOTE, last.round, agent) if ballots.is_text(state) else None
    answer = turn.answer if turn is not None and turn.answer else ballots.answer_of(state, agent, last.round)
    return {
        "agent": agent,
        "answer": ballots.text_of(state, options[0], last.round) if options else None,
        "options": list(options),
        "rationale": answer.rationale if answer is not None else "",
    }


def _evidence(state: State, last: ProvisionalResult) -> list[str]:
    found = [
        item
        for agent in state.agents
        if _supports(last, agent) and (answer := ballots.answer_of(state, agent, last.round)) is not None
        for item in answer.evidence
    ]
    return list(dict.fromkeys(found))


def _delta(state: State, first: ProvisionalResult, last: ProvisionalResult) -> dict[str, Any]:
    """What the debate changed: the answer of round 0, the final one, and the calls that it took."""
    before = ballots.text_of(state, first.result.leader, 0)
    after = ballots.text_of(state, last.result.leader, last.round)
    debated = [key for key in state.turns if key[0] is not Phase.JUDGE and key[1] > 0]
    refused = None
    if last_round(state) > 0 and last.round == 0:
        ended = provisional(state, last_round(state))
        refused = ballots.text_of(state, ended.result.leader, ended.round)
    return {
        "round_0": before,
        "final": after,
        "changed": before != after,
        "rounds": last_round(state),
        "calls": sum(state.turns[key].attempt + 1 for key in debated),
        "confidence_round_0": first.score,
        "confidence_final": last.score,
        "refused": refused,
    }


def _cost(state: State) -> dict[str, Any]:
    """The cost with every call that is still in flight billed at its reservation, as the end bills it."""
    ledger = state.ledger
    total = ledger.held + ledger.overrun
    cost = ledger.to_json()
    cost.update(tokens=total.tokens, usd=total.nanos / 1_000_000_000)
    cost["estimated"] = ledger.estimated or bool(ledger.reserved)
    return {"tokens": total.tokens, "cost": cost}


def deciding(state: State) -> tuple[Aggregation, int]:
    """The input of the final aggregation, and its round."""
    _, last = final(state)
    return last.asked, last.round
