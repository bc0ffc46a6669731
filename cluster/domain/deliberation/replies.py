"""What an agent's reply is to the journal: the answer that is read from it, and the bill."""

from __future__ import annotations

from typing import Any

from cluster.domain.base.compact import evolve
from cluster.domain.base.json_values import cut_text, shown_text
from cluster.domain.deliberation import ballots
from cluster.domain.deliberation.answers import Answer, Malformed, parse_reply
from cluster.domain.deliberation.calls import prompt_estimate, shape_of
from cluster.domain.deliberation.events import Answered
from cluster.domain.deliberation.ledger import MAX_TOKENS, estimated_tokens, priced
from cluster.domain.deliberation.numbers import distance
from cluster.domain.deliberation.state import Phase, State, Turn, TurnKey

#: Bytes of a token at most, as a rule: English has four, and a token of another script has up to eight.
TOKEN_BYTES = 8
#: Bytes of a reply in the journal, whatever ``max_tokens`` is.
MAX_KEPT = 32_768


def kept_bytes(state: State) -> int:
    """Bytes of a reply, and of a rationale, that the journal keeps: what ``max_tokens`` can be, as an agent may ignore that."""
    return min(MAX_KEPT, TOKEN_BYTES * state.contract.max_tokens)


def reading_of(state: State, key: TurnKey, text: str) -> dict[str, Any]:
    try:
        answer = parse_reply(text.replace("\x00", ""), shape_of(state, key))
    except Malformed as problem:
        return {"problem": str(problem)}
    rationale = cut_text(answer.rationale, kept_bytes(state))
    if rationale is not answer.rationale:
        answer = evolve(answer, rationale=rationale)
    return {"answer": _compared(state, key, answer).to_json()}


def _compared(state: State, key: TurnKey, answer: Answer) -> Answer:
    """The answer with agents' ids as the targets of its critiques, and with whether a revision changed it."""
    phase, round_, agent = key
    if phase is Phase.CRITIQUE:
        names = {peer.label: peer.agent for peer in ballots.peers(state, agent, round_)}
        return evolve(
            answer, critiques=tuple({**critique, "target": names[critique["target"]]} for critique in answer.critiques)
        )
    if phase is not Phase.REVISE or answer.choice is None:
        return answer
    before = ballots.answer_of(state, agent, round_ - 1)
    return evolve(answer, changed=before is None or _differs(state, str(before.choice), answer.choice))


def _differs(state: State, before: str, after: str) -> bool:
    kind = state.contract.answer_type
    if kind.kind.value == "number":
        return distance(before, after) > kind.tolerance
    return ballots.normal(before) != ballots.normal(after)


def bill_of(state: State, key: TurnKey, event: Answered, turn: Turn | None) -> dict[str, Any]:
    """The bill by the usage that was reported, else by an estimate. Each copy of a repeated call is billed the same."""
    input_tokens, output_tokens, total = _believed(event)
    estimated = event.estimated
    known = key in state.turns
    if input_tokens + output_tokens == 0:
        prompt = prompt_estimate(state, key) if known else 0
        estimated = estimated or total == 0
        input_tokens = min(prompt, total) if total else prompt
        output_tokens = total - input_tokens if total else estimated_tokens(shown_text(event.text))
    copies = turn.copies if turn is not None else 1
    price = state.member(key[2]).price
    used = priced(price, input_tokens, output_tokens).times(copies)
    paid, overrun = state.ledger.bill((key, event.attempt), used)
    bill: dict[str, Any] = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "billed": paid.to_json(),
        "estimated": estimated or copies > 1,
    }
    if overrun:
        bill["overrun"] = overrun.to_json()
    return bill


def _believed(event: Answered) -> tuple[int, int, int]:
    """The reported tokens (input, output, total); all 0 if one of them is impossible. One such number would use up the
    whole budget, and a receipt could not carry sums with it exactly."""
    counts = (event.input_tokens, event.output_tokens, event.tokens)
    return counts if min(counts) >= 0 and max(counts) <= 2 * MAX_TOKENS else (0, 0, 0)
