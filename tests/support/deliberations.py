"""Journals of ended deliberations, as a worker writes them, decided by the real aggregation: no store, no machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.consensus.aggregate import Aggregation, aggregate
from cluster.domain.consensus.ballots import Ballot, BallotKind, Electorate, abstain
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.rule import ConsensusRule, Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.stored import JournalEvent
from tests.support.samples import NOW

OPTIONS = ("Postgres", "Redis")
Ended = dict[str, Any]


@dataclass
class Journal:
    """``add`` numbers and times events; what is added goes through JSON, as it would through the store."""

    contract: dict[str, Any]
    request_id: str = "delib_1"
    events: list[JournalEvent] = field(default_factory=list)

    def add(self, kind: str, **data: Any) -> None:
        n = len(self.events) + 1
        self.events.append(JournalEvent(n=n, at=NOW + n / 10, kind=kind, data=json.loads(json.dumps(data))))


@dataclass(frozen=True)
class Vote:
    """What an agent handed in. ``ballot`` None: it did not answer."""

    agent: str
    ballot: Ballot | None
    rationale: str = ""


def decided(
    votes: Sequence[Vote],
    *,
    rule: ConsensusRule | None = None,
    options: tuple[str, ...] = OPTIONS,
    snapshot: WeightSnapshot | None = None,
    recorded: bool = True,
    **electorate: Any,
) -> Journal:
    """``recorded`` False: as a version journalled that did not record what it decided from."""
    rule = rule or ConsensusRule(mode=Mode.PLURALITY)
    journal = Journal(
        contract={
            "question": "Which database should the team use for its first product?",
            "options": list(options),
            "mode": rule.mode.value,
            "rounds": 0,
            "timeout_s": 60.0,
            "seed": "a-seed",
            "schema_version": 1,
        }
    )
    agents = [vote.agent for vote in votes]
    members = [
        {"agent_id": agent, "model": "m", "persona": f"You are {agent}, and you have seen it all."} for agent in agents
    ]
    journal.add("panel", members=members, **({"snapshot": snapshot.document()} if snapshot else {}))
    journal.add("asked", phase="PROPOSE", agents=agents, attempt=0)
    for vote in votes:
        _answer(journal, vote)
    asked = Aggregation(
        rule=rule,
        electorate=Electorate(eligible=tuple(agents), options=options, **electorate),
        ballots={vote.agent: vote.ballot or abstain("timeout") for vote in votes},
    )
    result = aggregate(asked, snapshot)
    aggregation = {"aggregation": asked.document()} if recorded else {}
    journal.add("ended", **_ended(result, {vote.agent: vote.rationale for vote in votes}), **aggregation)
    return journal


def _answer(journal: Journal, vote: Vote) -> None:
    where = {"agent": vote.agent, "phase": "PROPOSE", "attempt": 0}
    if vote.ballot is None:
        journal.add("faulted", **where, fault="timeout", detail="no answer before the deadline")
        return
    answer = {"choice": vote.ballot.options[0], "rationale": vote.rationale, "confidence": "high", "abstained": False}
    answer["ranked"] = list(vote.ballot.options) if vote.ballot.kind is not BallotKind.CHOICE else []
    text = json.dumps({"answer": answer["choice"], "rationale": vote.rationale}, ensure_ascii=False)
    journal.add("answered", **where, text=text, tokens=12, answer=answer)


def _ended(result: Result, why: Mapping[str, str]) -> Ended:
    terminal = (
        "DECIDED" if result.reached else "QUORUM_LOST" if result.reason in ("quorum", "no_votes") else "NO_CONSENSUS"
    )
    supporters = [a for a in why if a not in {d.agent for d in result.dissent} and a not in result.abstained]
    return {
        "terminal": terminal,
        "reason": result.reason,
        "outcome": {
            "reason": result.reason,
            "mode": result.mode.value,
            "answer": result.leader,
            "option": result.leader,
            "confidence": result.uncalibrated_share if result.confidence is None else result.confidence,
            "confidence_calibrated": result.confidence is not None,
            "supporters": supporters if result.leader is not None else [],
            "dissent": [
                {"agent": dissent.agent, "answer": dissent.options[0], "rationale": why[dissent.agent]}
                for dissent in result.dissent
            ],
            "abstained": [{"agent": agent, "reason": "timeout"} for agent in result.abstained],
            "tally": dict(result.tally),
            "tie_path": list(result.tie_path),
            "quorum": result.quorum,
            "cast": result.cast,
        },
    }
