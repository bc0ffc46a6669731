"""The calls of a deliberation: prompt, shape of the reply, key and price, all computed from its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.consensus.ballots import BallotKind
from cluster.domain.deliberation import ballots, prompts
from cluster.domain.deliberation.answers import AnswerKind, AnswerType, Shape, answer_schema
from cluster.domain.deliberation.derived import BEFORE_ANSWERS
from cluster.domain.deliberation.ledger import Amount, estimated_tokens, priced
from cluster.domain.deliberation.state import Phase, State, Turn, TurnKey


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to make. ``key`` is the same if the same call is made again."""

    agent_id: str
    phase: Phase
    round: int
    attempt: int
    key: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int


def outstanding(state: State) -> list[TurnKey]:
    """Turns whose call was announced and has no answer yet, without those that are no longer waited for."""
    return [key for key, turn in state.turns.items() if turn.open and turn.running]


def call_of(state: State, key: TurnKey) -> Call:
    phase, round_, agent = key
    turn = state.turns[key]
    words = _words(state, key)
    messages = words.messages
    if turn.attempt:
        messages = prompts.repair(messages, turn.text, turn.repairing, _shape_text(words.shape))
    return Call(
        agent_id=agent,
        phase=phase,
        round=round_,
        attempt=turn.attempt,
        key=f"{state.request_id}/{phase.value}/{round_}/{agent}/{turn.attempt}",
        messages=messages,
        schema=words.schema,
        max_tokens=state.contract.max_tokens,
    )


def reservation(state: State, key: TurnKey, repairing: Turn | None = None) -> Amount:
    """What a call may cost: the estimated tokens of its prompt, and all the tokens that its answer may have.
    ``repairing``: the turn whose reply it repairs."""
    words = _words(state, key)
    tokens = words.tokens
    if repairing is not None:
        again = prompts.repair(words.messages, repairing.text, repairing.problem, _shape_text(words.shape))
        tokens += estimated_tokens(*(message["content"] for message in again[len(words.messages) :]))
    return priced(state.member(key[2]).price, tokens, state.contract.max_tokens)


def prompt_estimate(state: State, key: TurnKey) -> int:
    return _words(state, key).tokens


def shape_of(state: State, key: TurnKey) -> Shape:
    return _words(state, key).shape


# --- prompts by phase -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Words:
    """A prompt with the shape and the schema of its reply, and the estimated tokens of messages and schema."""

    shape: Shape
    messages: list[prompts.Message]
    schema: Mapping[str, Any]
    tokens: int


def _words(state: State, key: TurnKey) -> _Words:
    depends = _DEPENDS_ON[key[0]](key[1])
    # A prompt that depends on no answer is the same for all agents with the same persona.
    whose = (key[0], state.member(key[2]).persona) if depends < 0 else key
    return state.derived.value(depends, ("words", whose), lambda: _build(state, key))


#: The last step whose answers the prompt of a round shows (``state.step_of``). A judge sees all of them.
_DEPENDS_ON: Mapping[Phase, Callable[[int], int]] = {
    Phase.PROPOSE: lambda _: BEFORE_ANSWERS,
    Phase.CRITIQUE: lambda round_: 2 * (round_ - 1),
    Phase.REVISE: lambda round_: 2 * round_ - 1,
    Phase.VOTE: lambda round_: 2 * round_,
    Phase.JUDGE: lambda _: 1 << 30,
}


def _build(state: State, key: TurnKey) -> _Words:
    phase, round_, agent = key
    shape, template, parts = _BUILD[phase](state, round_, agent)
    messages = prompts.ask(
        template,
        state.member(agent).persona,
        _question(state),
        {"shape": _shape_text(shape), "kind": _kind_text(shape), **parts},
    )
    schema, tokens = _schema(state, shape)
    return _Words(shape, messages, schema, tokens + estimated_tokens(*(message["content"] for message in messages)))


def _question(state: State) -> str:
    """The question, with the context and the material that were given with it."""
    contract = state.contract

    def make() -> str:
        return prompts.question_text(contract.question, contract.context, contract.material)

    return state.derived.value(BEFORE_ANSWERS, "question", make)


def _schema(state: State, shape: Shape) -> tuple[Mapping[str, Any], int]:
    """JSON schema of a reply and its tokens, made once for all replies of the same shape."""

    def make() -> tuple[Mapping[str, Any], int]:
        schema = answer_schema(shape)
        return schema, estimated_tokens(prompts.encode(schema))

    return state.derived.value(
        BEFORE_ANSWERS, ("schema", shape.labels, shape.ballot, shape.reasons, shape.targets), make
    )


Built = tuple[Shape, str, dict[str, str]]
"""(shape of the reply, name of the template, what fills the template besides the question)"""


def _answer_shape(state: State, reasons: tuple[str, ...] | None = None) -> Shape:
    answer = state.contract.answer_type
    closed = answer.closed
    ballot = ballots.ballot_kind(state) if closed else BallotKind.CHOICE
    return Shape(answer=answer, labels=closed, ballot=ballot, reasons=reasons)


def _propose(state: State, round_: int, agent: str) -> Built:
    return _answer_shape(state), "propose", {}


def _vote(state: State, round_: int, agent: str) -> Built:
    """Shows every candidate, in an order of its own for each agent."""
    texts = ballots.candidates(state, round_)
    shown = prompts.shuffled(list(texts), state.contract.seed, agent)
    lines = [
        {"proposal": label, "text": _short(texts[label], ballots.rationale_for(state, label, round_))}
        for label in shown
    ]
    shape = Shape(labels=tuple(texts), ballot=ballots.ballot_kind(state))
    return shape, "vote", {"peers": prompts.quoted(lines)}


def _critique(state: State, round_: int, agent: str) -> Built:
    shape = Shape(targets=tuple(peer.label for peer in ballots.peers(state, agent, round_)))
    return shape, "critique", {"peers": _peers_text(state, round_, agent), "own": _own(state, round_, agent)}


def _revise(state: State, round_: int, agent: str) -> Built:
    found = ballots.critiques_of(state, agent, round_)
    lines = [{"critique": c.id, "of": c.claim_quote, "defect": c.defect, "fix": c.fix} for c in found]
    given = (_peers_text(state, round_, agent), prompts.quoted(lines))
    shape = _answer_shape(state, tuple(c.id for c in found))
    peers = "\n".join(text for text in given if text)
    return shape, "revise", {"peers": peers or "(none)", "own": _own(state, round_, agent)}


def _judge(state: State, order: int, agent: str) -> Built:
    named = ballots.judged_options(state, order)
    lines = [
        {
            "candidate": label,
            "answer": ballots.text_of(state, option, state.round),
            "rationale": ballots.rationale_for(state, option, state.round),
        }
        for label, option in named.items()
    ]
    return Shape(labels=tuple(named)), "judge", {"peers": prompts.quoted(lines)}


_BUILD: Mapping[Phase, Callable[[State, int, str], Built]] = {
    Phase.PROPOSE: _propose,
    Phase.VOTE: _vote,
    Phase.CRITIQUE: _critique,
    Phase.REVISE: _revise,
    Phase.JUDGE: _judge,
}


def _peers_text(state: State, round_: int, agent: str) -> str:
    """What a member reads of its peers, written once: its critique and its revision of a round quote the same."""

    def make() -> str:
        return prompts.quoted(
            [
                {"id": peer.label, "answer": peer.answer.choice, "rationale": peer.answer.rationale}
                for peer in ballots.peers(state, agent, round_)
            ]
        )

    return state.derived.value(2 * (round_ - 1), ("peers_text", agent, round_), make)


def _own(state: State, round_: int, agent: str) -> str:
    """A member's own answer before this round, written once for its critique and its revision."""

    def make() -> str:
        answer = ballots.answer_of(state, agent, round_ - 1)
        if answer is None:
            return "(none yet)"
        return prompts.encode({"answer": answer.choice, "rationale": answer.rationale})

    return state.derived.value(2 * (round_ - 1), ("own", agent, round_), make)


def _short(text: str, rationale: str) -> str:
    return f"{text} - {rationale}".strip(" -")


def _shape_text(shape: Shape) -> str:
    if shape.targets is not None:
        return prompts.shape_text("critique")
    name = {BallotKind.APPROVAL: "approval", BallotKind.RANKING: "ranking"}.get(shape.ballot, "answer")
    return prompts.shape_text(name if shape.labels else "answer", with_reason=shape.reasons is not None)


def _kind_text(shape: Shape) -> str:
    """The sentence of a prompt that says what may be answered."""
    if shape.labels:
        listed = prompts.encode(shape.labels)
        field = {BallotKind.APPROVAL: "approve", BallotKind.RANKING: "ranking"}.get(shape.ballot)
        if field is not None:
            return f'"{field}" holds some of {listed}.'
        return f'"answer" must be exactly one of {listed}.'
    return _TYPE_TEXT[shape.answer.kind](shape.answer)


def _set_text(answer: AnswerType) -> str:
    among = f" of {prompts.encode(answer.options)}" if answer.options else ""
    return f'"answer" is a list of texts{among}.'


def _number_text(answer: AnswerType) -> str:
    return f'"answer" is a number{f" in {answer.unit}" if answer.unit else ""}.'


def _json_text(answer: AnswerType) -> str:
    schema = prompts.encode(dict(answer.schema))
    return f'"answer" is a JSON value with this schema: {schema}.'


def _text_text(answer: AnswerType) -> str:
    return '"answer" is a short text.'


_TYPE_TEXT: Mapping[AnswerKind, Callable[[AnswerType], str]] = {
    AnswerKind.NUMBER: _number_text,
    AnswerKind.SET: _set_text,
    AnswerKind.JSON: _json_text,
    AnswerKind.TEXT: _text_text,
}
