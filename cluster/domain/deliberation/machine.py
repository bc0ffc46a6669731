"""The protocol as a fold over its journal.

``plan`` answers what to write when something happens, ``apply`` folds what was written, ``outstanding`` are the calls
that have been announced and not answered. A worker journals first and calls afterwards, so one that is rebuilt from the
journal repeats only calls whose answers never reached it, under the same call keys.

    ADMITTED → PROPOSE → VOTE → terminal

Terminals: DECIDED, NO_CONSENSUS, QUORUM_LOST, DEADLINE_EXCEEDED, CANCELLED, FAILED. All but FAILED carry the best answer
so far and the dissent; only DECIDED is authoritative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from cluster.domain.consensus.aggregate import Aggregation, aggregate
from cluster.domain.consensus.ballots import Ballot, Confidence, Electorate, abstain, choice
from cluster.domain.consensus.result import Result
from cluster.domain.consensus.rule import Mode, Rule
from cluster.domain.deliberation import prompts
from cluster.domain.deliberation.answers import Answer, Malformed, answer_schema, parse_answer
from cluster.domain.deliberation.contract import Contract
from cluster.domain.deliberations import JournalEvent


class Phase(StrEnum):
    ADMITTED = "ADMITTED"
    PROPOSE = "PROPOSE"
    VOTE = "VOTE"
    ENDED = "ENDED"


class Terminal(StrEnum):
    DECIDED = "DECIDED"
    NO_CONSENSUS = "NO_CONSENSUS"
    QUORUM_LOST = "QUORUM_LOST"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


#: Share of the whole time by whose end a phase's calls must be answered.
PHASE_SHARE = {Phase.ADMITTED: 0.25, Phase.PROPOSE: 0.55, Phase.VOTE: 0.95}
MAX_REPAIRS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An agent on the panel, as it was when the panel was chosen."""

    agent_id: str
    model: str = "unknown"
    provider: str = "unknown"
    persona: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One agent in one phase. ``attempt`` counts repairs; ``answer`` None while it is asked or when it abstained."""

    attempt: int = 0
    open: bool = True
    text: str = ""
    problem: str = ""
    repairing: str = ""
    answer: Answer | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    request_id: str
    contract: Contract
    admitted_at: float
    phase: Phase = Phase.ADMITTED
    panel: tuple[Member, ...] = ()
    turns: Mapping[tuple[Phase, str], Turn] = field(default_factory=dict)
    events: int = 0
    tokens: int = 0
    calls: int = 0
    terminal: Terminal | None = None

    def phase_deadline(self) -> float:
        return self.admitted_at + self.contract.timeout_s * PHASE_SHARE.get(self.phase, 1.0)

    @property
    def deadline(self) -> float:
        return self.admitted_at + self.contract.timeout_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to make. ``key`` is the same whenever the same call is repeated."""

    agent_id: str
    phase: Phase
    attempt: int
    key: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int


# --- what happens -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelChosen:
    members: tuple[Member, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    agent_id: str
    phase: Phase
    attempt: int
    text: str
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """``fault``: timeout, http, malformed, refusal."""

    agent_id: str
    phase: Phase
    attempt: int
    fault: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineReached:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    pass


Happening = PanelChosen | Answered | Faulted | DeadlineReached | CancelAsked
Record = tuple[str, Mapping[str, Any]]
"""(kind, data) of a journal event to be"""


def plan(state: State, happening: Happening) -> tuple[list[Record], State]:
    """What to journal because of this, and the state as it is once that is journalled."""
    records: list[Record] = []
    if state.phase is not Phase.ENDED:
        for kind, data in _direct(state, happening):
            records.append((kind, data))
            state = apply(state, kind, data)
        while (following := _follows(state)) is not None:
            records.append(following)
            state = apply(state, *following)
    return records, state


def _direct(state: State, happening: Happening) -> list[Record]:
    if isinstance(happening, PanelChosen):
        return _panel(state, happening)
    if isinstance(happening, DeadlineReached):
        return [_end(state, Terminal.DEADLINE_EXCEEDED, "the deadline was reached")]
    if isinstance(happening, CancelAsked):
        return [_end(state, Terminal.CANCELLED, "cancelled by request")]
    turn = state.turns.get((happening.phase, happening.agent_id))
    where = {"agent": happening.agent_id, "phase": happening.phase.value, "attempt": happening.attempt}
    late = turn is None or not turn.open or turn.attempt != happening.attempt or happening.phase is not state.phase
    if isinstance(happening, Faulted):
        return [] if late else [("faulted", {**where, "fault": happening.fault, "detail": happening.detail[:500]})]
    said = {**where, "text": happening.text.replace("\x00", ""), "tokens": happening.tokens}
    if late:
        return [("late", said)]
    return [("answered", {**said, **_read(state, happening)})]


def _read(state: State, happening: Answered) -> dict[str, Any]:
    try:
        return {"answer": parse_answer(happening.text, labels(state)).to_json()}
    except Malformed as problem:
        return {"problem": str(problem)}


def _panel(state: State, happening: PanelChosen) -> list[Record]:
    if len(happening.members) < state.contract.min_votes:
        reason = happening.missing or "too few agents"
        return [_end(state, Terminal.QUORUM_LOST, f"{reason}: {len(happening.members)} of {state.contract.min_votes}")]
    return [("panel", {"members": [member.to_json() for member in happening.members]})]


def _follows(state: State) -> Record | None:
    """The next thing that the state itself demands."""
    if state.phase in (Phase.ADMITTED, Phase.ENDED):
        return None
    mine = {agent: turn for (phase, agent), turn in state.turns.items() if phase is state.phase}
    if not mine:
        return "asked", {"phase": state.phase.value, "agents": [m.agent_id for m in state.panel], "attempt": 0}
    broken = [agent for agent, turn in mine.items() if turn.open and turn.problem]
    for agent in broken:
        if mine[agent].attempt < MAX_REPAIRS:
            return "asked", {"phase": state.phase.value, "agents": [agent], "attempt": mine[agent].attempt + 1}
        detail = mine[agent].problem
        where = {"agent": agent, "phase": state.phase.value, "attempt": mine[agent].attempt}
        return "faulted", {**where, "fault": "malformed", "detail": detail}
    if any(turn.open for turn in mine.values()):
        return None
    if state.phase is Phase.PROPOSE and _needs_vote(state):
        return "phase", {"phase": Phase.VOTE.value}
    return _decide(state)


def _needs_vote(state: State) -> bool:
    answers = [turn.answer for turn in state.turns.values() if turn.answer is not None and turn.answer.choice]
    return bool(answers) and (state.contract.rounds > 0 or not state.contract.options)


def _decide(state: State) -> Record:
    result = tally(state)
    if result.reached:
        return _end(state, Terminal.DECIDED, "")
    terminal = Terminal.QUORUM_LOST if result.reason in ("quorum", "no_votes") else Terminal.NO_CONSENSUS
    return _end(state, terminal, result.reason)


def _end(state: State, terminal: Terminal, reason: str) -> Record:
    return "ended", {"terminal": terminal.value, "reason": reason, "outcome": outcome(state, terminal, reason)}


# --- the fold ---------------------------------------------------------------------------------------------------------


def apply(state: State, kind: str, data: Mapping[str, Any]) -> State:
    """One journalled event."""
    state = replace(state, events=state.events + 1)
    if kind == "panel":
        return replace(state, panel=tuple(Member(**one) for one in data["members"]), phase=Phase.PROPOSE)
    if kind == "phase":
        return replace(state, phase=Phase(data["phase"]))
    if kind == "ended":
        return replace(state, phase=Phase.ENDED, terminal=Terminal(data["terminal"]))
    turns = dict(state.turns)
    if kind == "asked":
        for agent in data["agents"]:
            key = (Phase(data["phase"]), agent)
            before = turns.get(key, Turn())
            turns[key] = replace(before, attempt=data["attempt"], problem="", repairing=before.problem)
        return replace(state, turns=turns)
    tokens = state.tokens + int(data.get("tokens", 0))
    if kind == "late":
        return replace(state, tokens=tokens, calls=state.calls + 1)
    key = (Phase(data["phase"]), data["agent"])
    if kind == "faulted":
        turns[key] = replace(turns[key], open=False, fault=data["fault"], problem="")
    elif "answer" in data:
        turns[key] = replace(turns[key], open=False, text=data["text"], answer=Answer.from_json(data["answer"]))
    else:
        turns[key] = replace(turns[key], text=data["text"], problem=data["problem"])
    return replace(state, turns=turns, tokens=tokens, calls=state.calls + (kind == "answered"))


def fold(request_id: str, contract: Contract, admitted_at: float, events: Sequence[JournalEvent]) -> State:
    state = State(request_id=request_id, contract=contract, admitted_at=admitted_at)
    for event in events:
        state = apply(state, event.kind, event.data)
    return state


# --- calls ------------------------------------------------------------------------------------------------------------


def outstanding(state: State) -> list[Call]:
    """Calls of the present phase that were announced and have no answer yet."""
    personas = {member.agent_id: member.persona for member in state.panel}
    return [
        _call(state, agent, turn, personas[agent])
        for (phase, agent), turn in state.turns.items()
        if phase is state.phase and turn.open
    ]


def _call(state: State, agent: str, turn: Turn, persona: str) -> Call:
    allowed = labels(state)
    if state.phase is Phase.PROPOSE:
        messages = prompts.propose(state.contract, persona)
    else:
        shown = {_label(state, member): text for member, text in _proposals(state).items() if member != agent}
        messages = prompts.vote(state.contract, persona, shown or _own(state), allowed, agent)
    if turn.attempt:
        messages = prompts.repair(messages, turn.text, turn.repairing)
    return Call(
        agent_id=agent,
        phase=state.phase,
        attempt=turn.attempt,
        key=f"{state.request_id}/{state.phase.value}/{agent}/{turn.attempt}",
        messages=messages,
        schema=answer_schema(allowed),
        max_tokens=state.contract.max_tokens,
    )


def labels(state: State) -> tuple[str, ...]:
    """What may be answered in this phase: the options, a proposal's label, or anything."""
    if state.contract.options:
        return state.contract.options
    return tuple(_label(state, agent) for agent in _proposals(state)) if state.phase is not Phase.PROPOSE else ()


def _label(state: State, agent: str) -> str:
    """Anonymous, and in an order that does not follow the panel's."""
    if state.contract.options:
        proposed = state.turns[Phase.PROPOSE, agent].answer
        place = [member.agent_id for member in state.panel].index(agent) + 1
        return f"{proposed.choice if proposed else ''} (participant {place})"
    order = prompts.shuffled([member.agent_id for member in state.panel], state.contract.seed, "labels")
    return f"#{order.index(agent) + 1}"


def _proposals(state: State) -> dict[str, str]:
    found = {}
    for member in state.panel:
        turn = state.turns.get((Phase.PROPOSE, member.agent_id))
        if turn is not None and turn.answer is not None and turn.answer.choice is not None:
            found[member.agent_id] = f"{turn.answer.choice} - {turn.answer.rationale}".strip(" -")
    return found


def _own(state: State) -> dict[str, str]:
    return {_label(state, agent): text for agent, text in _proposals(state).items()}


# --- the decision -----------------------------------------------------------------------------------------------------


def _ballot(turn: Turn | None) -> Ballot:
    if turn is None or turn.answer is None or turn.answer.choice is None:
        return abstain((turn.fault if turn is not None and turn.fault else "") or "abstained")
    confidence = Confidence(turn.answer.confidence) if turn.answer.confidence else None
    return choice(turn.answer.choice, confidence)


def _deciding_phase(state: State) -> Phase:
    """Votes where there are any; else the proposals of a choice are the ballots."""
    voted = any(phase is Phase.VOTE for phase, _ in state.turns)
    return Phase.VOTE if voted or not state.contract.options else Phase.PROPOSE


def tally(state: State, phase: Phase | None = None) -> Result:
    phase = phase or _deciding_phase(state)
    panel = tuple(member.agent_id for member in state.panel)
    contract = state.contract
    return aggregate(
        Aggregation(
            rule=Rule(mode=Mode(contract.mode), seed=contract.seed),
            electorate=Electorate(
                eligible=panel,
                options=contract.options,
                min_votes=min(contract.min_votes, len(panel)),
                quorum_ratio=contract.quorum_ratio,
            ),
            ballots={agent: _ballot(state.turns.get((phase, agent))) for agent in panel},
        )
    )


def _text_of(state: State, label: str | None) -> str | None:
    """A label of a free-text vote stands for the proposal that it names."""
    if label is None or state.contract.options:
        return label
    for member in state.panel:
        if _label(state, member.agent_id) == label:
            turn = state.turns.get((Phase.PROPOSE, member.agent_id))
            return turn.answer.choice if turn is not None and turn.answer is not None else None
    return None


def outcome(state: State, terminal: Terminal, reason: str) -> dict[str, Any]:
    """The end as JSON: what was decided, how sure, by whom, against whom, and at what cost."""
    base: dict[str, Any] = {
        "reason": reason,
        "authoritative": terminal is Terminal.DECIDED,
        "calls": state.calls,
        "tokens": state.tokens,
        "mode": state.contract.mode,
        "panel": [member.agent_id for member in state.panel],
    }
    if not state.panel:
        return {**base, "answer": None, "confidence": 0.0, "dissent": [], "abstained": [], "tally": {}}
    result = tally(state)
    phase = _deciding_phase(state)
    agreed = [
        member.agent_id
        for member in state.panel
        if result.leader is not None and _ballot(state.turns.get((phase, member.agent_id))).top() == result.leader
    ]
    base.update(
        answer=_text_of(state, result.leader),
        confidence=result.uncalibrated_share if result.confidence is None else result.confidence,
        confidence_calibrated=result.confidence is not None,
        supporters=agreed,
        dissent=[
            {
                "agent": one.agent,
                "answer": _text_of(state, one.options[0]) if one.options else None,
                **_why(state, one.agent),
            }
            for one in result.dissent
        ],
        abstained=[
            {"agent": agent, "reason": _ballot(state.turns.get((phase, agent))).reason} for agent in result.abstained
        ],
        tally=dict(result.tally),
        quorum=result.quorum,
        cast=result.cast,
    )
    if state.contract.options and phase is Phase.VOTE:
        first = tally(state, Phase.PROPOSE)
        base["debate_delta"] = {
            "round_0": first.leader,
            "final": result.leader,
            "changed": first.leader != result.leader,
        }
    return base


def _why(state: State, agent: str) -> dict[str, str]:
    turn = state.turns.get((_deciding_phase(state), agent))
    return {"rationale": turn.answer.rationale if turn is not None and turn.answer is not None else ""}
