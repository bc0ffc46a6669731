"""The calls that a state asks for: prompt, shape of the reply, key and price, all computed from the journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.budget import Amount, estimated_tokens
from cluster.domain.consensus.ballots import BallotKind
from cluster.domain.deliberation import ballots as said
from cluster.domain.deliberation import prompts
from cluster.domain.deliberation.answers import AnswerKind, AnswerType, Shape, answer_schema
from cluster.domain.deliberation.state import Phase, State, Turn, TurnKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to make. ``key`` is the same whenever the same call is repeated."""

    agent_id: str
    phase: Phase
    round: int
    attempt: int
    key: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int


def outstanding(state: State) -> list[TurnKey]:
    """Turns whose call was announced and has no answer yet."""
    return [key for key, turn in state.turns.items() if turn.open and turn.running]


def call_of(state: State, key: TurnKey) -> Call:
    phase, round_, agent = key
    turn = state.turns[key]
    shape, messages = _ask(state, key)
    if turn.attempt:
        messages = prompts.repair(messages, turn.text, turn.repairing, _shape_text(shape))
    return Call(
        agent_id=agent,
        phase=phase,
        round=round_,
        attempt=turn.attempt,
        key=f"{state.request_id}/{phase.value}/{round_}/{agent}/{turn.attempt}",
        messages=messages,
        schema=answer_schema(shape),
        max_tokens=state.contract.max_tokens,
    )


def reservation(state: State, key: TurnKey, repairing: Turn | None = None) -> Amount:
    """What a call may cost: the prompt as estimated and all the tokens that it may answer with."""
    tokens = prompt_estimate(state, key)
    if repairing is not None:
        shape, messages = _ask(state, key)
        tokens = prompt_tokens(prompts.repair(messages, repairing.text, repairing.problem, _shape_text(shape)), shape)
    return state.member(key[2]).price.amount(tokens, state.contract.max_tokens)


def prompt_tokens(messages: Sequence[Mapping[str, str]], shape: Shape) -> int:
    return estimated_tokens(*(m["content"] for m in messages), json.dumps(answer_schema(shape), ensure_ascii=False))


def prompt_estimate(state: State, key: TurnKey) -> int:
    def count() -> int:
        shape, messages = _ask(state, key)
        return prompt_tokens(messages, shape)

    return said.remembered(state, ("tokens", key[1], key), count)


def shape_of(state: State, key: TurnKey) -> Shape:
    return _ask(state, key)[0]


# --- prompts by phase -------------------------------------------------------------------------------------------------


def _ask(state: State, key: TurnKey) -> tuple[Shape, list[prompts.Message]]:
    """What the reply must look like, and the words."""
    return said.remembered(state, ("ask", key[1], key), lambda: _build(state, key))


def _build(state: State, key: TurnKey) -> tuple[Shape, list[prompts.Message]]:
    phase, round_, agent = key
    build = {
        Phase.PROPOSE: _propose,
        Phase.VOTE: _vote,
        Phase.CRITIQUE: _critique,
        Phase.REVISE: _revise,
        Phase.JUDGE: _judge,
    }[phase]
    shape, template, parts = build(state, round_, agent)
    contract = state.contract
    messages = prompts.ask(
        template,
        state.member(agent).persona,
        contract.question,
        contract.context,
        **{"shape": _shape_text(shape), "kind": _kind_text(shape), **parts},
    )
    return shape, messages


Built = tuple[Shape, str, dict[str, str]]


def _answer_shape(state: State, reasons: tuple[str, ...] | None = None) -> Shape:
    answer = state.contract.answer_type
    closed = answer.closed
    ballot = said.ballot_kind(state) if closed else BallotKind.CHOICE
    return Shape(answer=answer, labels=closed, ballot=ballot, reasons=reasons)


def _propose(state: State, round_: int, agent: str) -> Built:
    return _answer_shape(state), "propose", {}


def _vote(state: State, round_: int, agent: str) -> Built:
    """Every candidate, in an order of the recipient's own."""
    texts = said.candidates(state, round_)
    shown = prompts.shuffled(list(texts), state.contract.seed, agent)
    lines = [
        {"proposal": label, "text": _short(texts[label], said.rationale_for(state, label, round_))} for label in shown
    ]
    shape = Shape(labels=tuple(texts), ballot=said.ballot_kind(state))
    return shape, "vote", {"peers": prompts.quoted(lines)}


def _critique(state: State, round_: int, agent: str) -> Built:
    peers = said.peers(state, agent, round_)
    lines = [{"id": p.label, "answer": p.answer.choice, "rationale": p.answer.rationale} for p in peers]
    shape = Shape(targets=tuple(p.label for p in peers))
    return shape, "critique", {"peers": prompts.quoted(lines), "own": _own(state, round_, agent)}


def _revise(state: State, round_: int, agent: str) -> Built:
    lines: list[dict[str, Any]] = [
        {"id": p.label, "answer": p.answer.choice, "rationale": p.answer.rationale}
        for p in said.peers(state, agent, round_)
    ]
    found = said.critiques_of(state, agent, round_)
    lines += [{"critique": c.id, "of": c.claim_quote, "defect": c.defect, "fix": c.fix} for c in found]
    shape = _answer_shape(state, tuple(c.id for c in found))
    return shape, "revise", {"peers": prompts.quoted(lines) or "(none)", "own": _own(state, round_, agent)}


def _judge(state: State, order: int, agent: str) -> Built:
    named = said.judged_options(state, order)
    lines = [
        {
            "candidate": label,
            "answer": said.text_of(state, option, state.round),
            "rationale": said.rationale_for(state, option, state.round),
        }
        for label, option in named.items()
    ]
    return Shape(labels=tuple(named)), "judge", {"peers": prompts.quoted(lines)}


def _own(state: State, round_: int, agent: str) -> str:
    answer = said.answer_of(state, agent, round_ - 1)
    if answer is None:
        return "(none yet)"
    return json.dumps({"answer": answer.choice, "rationale": answer.rationale}, ensure_ascii=False)


def _short(text: str, rationale: str) -> str:
    return f"{text} - {rationale}".strip(" -")


def _shape_text(shape: Shape) -> str:
    if shape.targets is not None:
        return prompts.shape_text("critique")
    name = {BallotKind.APPROVAL: "approval", BallotKind.RANKING: "ranking"}.get(shape.ballot, "answer")
    return prompts.shape_text(name if shape.labels else "answer", with_reason=shape.reasons is not None)


def _kind_text(shape: Shape) -> str:
    """The sentence that says what may be answered."""
    if shape.labels:
        listed = json.dumps(list(shape.labels), ensure_ascii=False)
        field = {BallotKind.APPROVAL: "approve", BallotKind.RANKING: "ranking"}.get(shape.ballot)
        if field is not None:
            return f'"{field}" holds some of {listed}.'
        return f'"answer" must be exactly one of {listed}.'
    return _TYPE_TEXT[shape.answer.kind](shape.answer)


def _set_text(answer: AnswerType) -> str:
    among = f" of {json.dumps(list(answer.options), ensure_ascii=False)}" if answer.options else ""
    return f'"answer" is a list of texts{among}.'


def _number_text(answer: AnswerType) -> str:
    return f'"answer" is a number{f" in {answer.unit}" if answer.unit else ""}.'


def _json_text(answer: AnswerType) -> str:
    schema = json.dumps(dict(answer.schema), ensure_ascii=False)
    return f'"answer" is a JSON value with this schema: {schema}.'


def _text_text(answer: AnswerType) -> str:
    return '"answer" is a short text.'


_TYPE_TEXT: Mapping[AnswerKind, Callable[[AnswerType], str]] = {
    AnswerKind.NUMBER: _number_text,
    AnswerKind.SET: _set_text,
    AnswerKind.JSON: _json_text,
    AnswerKind.TEXT: _text_text,
}
