"""From agents' answers to what is counted: answers by round, candidates among texts, peers, critiques, ballots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.consensus.aggregate import Aggregation
from cluster.domain.consensus.ballots import Ballot, BallotKind, Confidence, Electorate, abstain, choice
from cluster.domain.consensus.result import Judgement
from cluster.domain.consensus.rule import Mode
from cluster.domain.deliberation.answers import NO_REASON, SEVERITIES, Answer, AnswerKind, group_numbers
from cluster.domain.deliberation.prompts import shuffled
from cluster.domain.deliberation.state import Phase, State, Turn

#: Modes that read more than a first choice, and the kind of ballot that they ask for.
BALLOT_OF = {
    Mode.APPROVAL: BallotKind.APPROVAL,
    Mode.BORDA: BallotKind.RANKING,
    Mode.SCHULZE: BallotKind.RANKING,
}
#: Weight of an answer that was changed in a debate without a reason.
UNREASONED = 0.5
MAX_CRITIQUES = 3
#: Stop reasons that make it needless to ask the rest of the panel. Quorum is then measured among the members that were
#: asked: the others did not abstain.
SETTLED = frozenset({"lossless", "agree_k", "posterior", "unanimous", "gain"})


@dataclass(frozen=True, slots=True)
class Peer:
    """A participant as another one is shown it: anonymous, as ``label``."""

    label: str
    agent: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Critique:
    """A defect that ``critic`` found in an agent's answer. ``id``: by which that agent's revision names it."""

    id: str
    critic: str
    defect: str
    claim_quote: str
    severity: str
    fix: str


def is_text(state: State) -> bool:
    return state.contract.answer_type.kind is AnswerKind.TEXT


def asks_some(state: State) -> bool:
    """Whether not everybody is asked at once: a few answers may be enough."""
    contract = state.contract
    return contract.mode is Mode.AGREE_K and not is_text(state) and contract.debate_on != "always"


def ballot_kind(state: State) -> BallotKind:
    return BALLOT_OF.get(state.contract.mode, BallotKind.CHOICE)


# --- answers ----------------------------------------------------------------------------------------------------------


def answer_of(state: State, agent: str, round_: int) -> Answer | None:
    """The answer that an agent holds after a round. An abstention or a fault in a debate leaves the earlier answer."""
    for step in range(round_, -1, -1):
        turn = state.turn(Phase.REVISE if step else Phase.PROPOSE, step, agent)
        if turn is not None and turn.answer is not None and turn.answer.choice is not None:
            return turn.answer
    return None


def answers(state: State, round_: int) -> Mapping[str, Answer]:
    return state.derived.value(2 * round_, "answers", lambda: _answers(state, round_))


def _answers(state: State, round_: int) -> dict[str, Answer]:
    return {a: answer for a in state.agents if (answer := answer_of(state, a, round_)) is not None}


def options(state: State, round_: int) -> Mapping[str, str]:
    """Agent → the option that its answer counts for: numbers within the tolerance are one option, equal texts one
    candidate."""
    return state.derived.value(2 * round_, "options", lambda: _options(state, round_))


def _options(state: State, round_: int) -> dict[str, str]:
    given = {agent: str(answer.choice) for agent, answer in answers(state, round_).items()}
    if is_text(state):
        labels = {normal(text): label for label, text in candidates(state, round_).items()}
        return {agent: labels[normal(text)] for agent, text in given.items()}
    if state.contract.answer_type.kind is AnswerKind.NUMBER:
        groups = group_numbers(list(given.values()), state.contract.answer_type.tolerance)
        return {agent: groups[number] for agent, number in given.items()}
    return given


def normal(text: str) -> str:
    """The form in which texts are compared: those that differ only in case and white space are one candidate."""
    return " ".join(text.split()).casefold()


def candidates(state: State, round_: int) -> Mapping[str, str]:
    """Label → text, in an order that says nothing about who gave it."""
    return state.derived.value(2 * round_, "candidates", lambda: _candidates(state, round_))


def _candidates(state: State, round_: int) -> dict[str, str]:
    texts: dict[str, str] = {}
    for answer in answers(state, round_).values():
        texts.setdefault(normal(str(answer.choice)), str(answer.choice))
    order = shuffled(sorted(texts), state.contract.seed, f"candidates{round_}")
    return {f"#{index}": texts[key] for index, key in enumerate(order, start=1)}


def rationale_for(state: State, option: str, round_: int) -> str:
    """The first rationale given for an option."""
    named = options(state, round_)
    by_agent = answers(state, round_)
    return next((by_agent[agent].rationale for agent in state.agents if named.get(agent) == option), "")


def text_of(state: State, option: str | None, round_: int) -> str | None:
    """The text of an option: of a label, the candidate that it stands for."""
    return candidates(state, round_).get(option or "") if is_text(state) else option


# --- debate -----------------------------------------------------------------------------------------------------------


def peers(state: State, agent: str, round_: int) -> Sequence[Peer]:
    """The participants whose answers an agent is shown in a round: anonymous and shuffled, at most ``contract.peers``, those
    with different answers only, and each option once before any option twice."""
    return state.derived.value(2 * (round_ - 1), ("peers", agent, round_), lambda: _peers(state, agent, round_))


def _peers(state: State, agent: str, round_: int) -> list[Peer]:
    named = options(state, round_ - 1)
    by_agent = answers(state, round_ - 1)
    others = [a for a in named if a != agent and named[a] != named.get(agent)]
    if not others and state.contract.debate_on == "always":
        others = [a for a in named if a != agent]
    order = shuffled(others, state.contract.seed, f"{round_}|{agent}")
    first = [a for index, a in enumerate(order) if named[a] not in [named[b] for b in order[:index]]]
    chosen = [*first, *(a for a in order if a not in first)][: state.contract.peers]
    return [Peer(f"P{index}", a, by_agent[a]) for index, a in enumerate(chosen, start=1)]


def critiques_of(state: State, agent: str, round_: int) -> list[Critique]:
    """The defects that others found in an agent's answer, the severest first, numbered for this agent."""
    found = [
        (critic, critique)
        for critic in state.agents
        if (turn := state.turn(Phase.CRITIQUE, round_, critic)) is not None and turn.answer is not None
        for critique in turn.answer.critiques
        if critique["target"] == agent
    ]
    found.sort(key=lambda pair: -SEVERITIES.index(pair[1]["severity"]))
    return [
        Critique(
            f"c{index}", critic, critique["defect"], critique["claim_quote"], critique["severity"], critique["fix"]
        )
        for index, (critic, critique) in enumerate(found[:MAX_CRITIQUES], start=1)
    ]


def accepted(state: State, round_: int) -> Mapping[str, int]:
    """Option → how many critics were shown a rationale for it and found no defect."""
    return state.derived.value(2 * round_, "accepted", lambda: _accepted(state, round_))


def _accepted(state: State, round_: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in range(1, round_ + 1):
        named = options(state, step - 1)
        for critic in state.agents:
            turn = state.turn(Phase.CRITIQUE, step, critic)
            if turn is None or turn.answer is None:
                continue
            blamed = {critique["target"] for critique in turn.answer.critiques}
            for peer in peers(state, critic, step):
                if peer.agent not in blamed:
                    counts[named[peer.agent]] = counts.get(named[peer.agent], 0) + 1
    return counts if not is_text(state) else {}


def strength(state: State, agent: str, round_: int) -> float:
    """How much an agent's ballot counts: half, if its answer was last changed without a reason."""
    weight = 1.0
    for step in range(1, round_ + 1):
        turn = state.turn(Phase.REVISE, step, agent)
        if turn is not None and turn.answer is not None and turn.answer.changed:
            weight = UNREASONED if turn.answer.because == NO_REASON else 1.0
    return weight


def changed_in(state: State, round_: int) -> bool:
    revised = [state.turn(Phase.REVISE, round_, agent) for agent in state.agents]
    return any(turn is not None and turn.answer is not None and turn.answer.changed for turn in revised)


# --- what is counted --------------------------------------------------------------------------------------------------


def voted(state: State, round_: int) -> bool:
    return any(phase is Phase.VOTE and step == round_ for phase, step, _ in state.turns)


def ballots(state: State, round_: int) -> dict[str, Ballot]:
    """One ballot per member of the panel: its vote if texts were voted on, else its answer."""
    if is_text(state) and voted(state, round_):
        kind = ballot_kind(state)
        return {agent: _vote(state.turn(Phase.VOTE, round_, agent), kind) for agent in state.agents}
    named = options(state, round_)
    return {agent: _ballot(state, agent, named, round_) for agent in state.agents}


def _ballot(state: State, agent: str, named: Mapping[str, str], round_: int) -> Ballot:
    answer = answer_of(state, agent, round_)
    if answer is None:
        return abstain(why_silent(state.turn(Phase.PROPOSE, 0, agent)))
    kind, weight = ballot_kind(state), strength(state, agent, round_)
    if answer.ranked:
        return Ballot(kind=kind, options=answer.ranked, confidence=_confidence(answer), strength=weight)
    return choice(named[agent], _confidence(answer), weight)


def _vote(turn: Turn | None, kind: BallotKind) -> Ballot:
    if turn is None or turn.answer is None or turn.answer.choice is None:
        return abstain(why_silent(turn))
    answer = turn.answer
    if answer.ranked:
        return Ballot(kind=kind, options=answer.ranked, confidence=_confidence(answer))
    return choice(str(answer.choice), _confidence(answer))


def why_silent(turn: Turn | None) -> str:
    if turn is None:
        return "not_asked"
    return turn.fault or ("unanswered" if turn.open else "abstained")


def _confidence(answer: Answer) -> Confidence | None:
    return Confidence(answer.confidence) if answer.confidence else None


def judged_options(state: State, order: int) -> dict[str, str]:
    """Label → option as the judge is shown them; the second time (``order`` 1) in the opposite order."""
    named = sorted(set(options(state, state.round).values()))
    listed = shuffled(named, state.contract.seed, "judge")
    return {f"#{index}": option for index, option in enumerate(listed[::-1] if order else listed, start=1)}


def judgement(state: State) -> Judgement | None:
    """The judge's verdicts; None unless both are in."""
    if state.judge is None:
        return None
    verdicts = []
    for order in (0, 1):
        turn = state.turn(Phase.JUDGE, order, state.judge.agent_id)
        if turn is None or turn.answer is None or turn.answer.choice is None:
            return None
        verdicts.append(judged_options(state, order)[turn.answer.choice])
    return Judgement(judge=state.judge.agent_id, verdicts=tuple(verdicts))


def electorate(state: State, options: Sequence[str] = ()) -> Electorate:
    """Who may vote. Quorum is measured among the members that were asked, if there was no need to ask the others
    (``SETTLED``)."""
    contract = state.contract
    asked = tuple(agent for agent in state.agents if state.turn(Phase.PROPOSE, 0, agent) is not None)
    settled = state.stop == "" or state.stop in SETTLED
    return Electorate(
        eligible=state.agents,
        options=tuple(options),
        asked=asked if settled and asked else None,
        owners={member.agent_id: member.owner for member in state.panel if member.owner},
        min_votes=min(contract.min_votes, len(state.panel)),
        quorum_ratio=contract.quorum_ratio,
    )


def aggregation(state: State, round_: int) -> Aggregation:
    """The input of the provisional result of a round."""
    contract = state.contract
    closed: Sequence[str] = contract.answer_type.closed or (tuple(candidates(state, round_)) if is_text(state) else ())
    return Aggregation(
        rule=contract.rule,
        electorate=electorate(state, closed),
        ballots=ballots(state, round_),
        judgement=judgement(state),
        accepted=accepted(state, round_),
        kind=contract.kind or None,
        effort=contract.effort if asks_some(state) else None,
    )
