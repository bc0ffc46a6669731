"""What agents are asked and what they answer over any transport, and the rules by which every answer is read."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.credential_use import CredentialUse
from cluster.domain.agents.options import NO_OPTIONS, AgentOptions
from cluster.domain.base.errors import AgentMalformed, InvalidRequest
from cluster.domain.base.json_in_text import has_answer
from cluster.domain.base.json_values import check_text, shown_text, write_json
from cluster.domain.deliberation.ledger import MAX_TOKENS
from cluster.domain.deliberation.numbers import exact_json
from cluster.domain.tasks.progress import Progress

CHARS_PER_TOKEN = 4
#: How sentences that refuse an answer call it.
THE_ANSWER = "The answer"
#: Tokens of input that an agent may add to a question: its own instructions, what it looked up, descriptions of tools.
MAX_OWN_INPUT = 100_000
#: Tokens that servers count though they are no text: marks of beginning, end and role.
_MARKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one agent. ``timeout_s`` includes all its ``tries``; ``key`` is the same whenever the call is repeated.

    An ordinary task of an agent that does not chat is in ``task``, and ``messages`` is empty. ``options`` are those with
    which the agent registered. ``tries``: how often an agent that is unavailable may be asked;
    an attempt of a task is one unless the task asks for more, since it has retries of its own. ``allow_incomplete``: an empty
    answer, or one that was cut off, is an answer. ``revision`` changes with the agent's record, so at the latest when it
    registers again.
    """

    transport: TransportKind
    endpoint: str = field(repr=False)
    model: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str
    agent_id: str = ""
    task: Mapping[str, Any] | None = None
    options: AgentOptions = NO_OPTIONS
    tries: int = 1
    allow_incomplete: bool = False
    revision: float = 0.0
    #: What is sent with the call, read when it is made.
    credential: CredentialUse | None = None
    #: Takes the reports of progress of who works on the task in this process; None if nobody keeps them.
    report: Callable[[Progress], Awaitable[None]] | None = None
    #: Gets pieces of the answer's text as they come, if the server streams them.
    told: Callable[[str], None] | None = field(default=None, compare=False, repr=False)


class AgentTransport(Protocol):
    async def ask(self, ask: Ask) -> Reply:
        """Returns the agent's answer within ``ask.timeout_s``. Raises: `PeerError`."""


@contextlib.contextmanager
def judged() -> Iterator[None]:
    """Turns an InvalidRequest of the block, which checks an answer, into a malformed answer. Raises: `AgentMalformed`."""
    try:
        yield
    except InvalidRequest as odd:
        raise AgentMalformed(odd.message) from None


def counted(
    ask: Ask,
    text: str,
    input_tokens: int | None,
    output_tokens: int | None,
    *,
    received: int | None = None,
    hidden_tokens: int | None = None,
    finish_reason: str = "",
) -> Reply:
    """Makes a reply with the server's counts of tokens. Missing and impossible counts are replaced by estimates, and the reply
    says so. Raises: `InvalidRequest` if the text cannot be stored.

    A token has at least one byte, so there are at most as many tokens as ``received`` bytes, and as bytes were sent beside
    ``MAX_OWN_INPUT`` that the agent put before them. ``hidden_tokens`` are tokens of
    thinking, which a server counts and does not send: believed up to the number that it was allowed to write."""
    check_text(text, THE_ANSWER)
    sent = sum(len(message.get("content", "")) for message in ask.messages)
    arrived = len(text.encode()) + _MARKS if received is None else received
    most = arrived + min(hidden_tokens or 0, ask.max_tokens)
    believed = output_tokens if output_tokens is not None and output_tokens <= most else None
    read = input_tokens if input_tokens is None or _may_have_read(ask, input_tokens) else None
    tokens_in = _estimate(sent) if read is None else read
    tokens_out = _estimate(len(text)) if believed is None else believed
    return Reply(
        text=text,
        tokens=tokens_in + tokens_out,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        estimated=read is None or believed is None,
        finish_reason=finish_reason,
    )


def _may_have_read(ask: Ask, tokens: int) -> bool:
    """Whether an agent may have read so many tokens for a question."""
    return tokens <= MAX_OWN_INPUT or tokens <= MAX_OWN_INPUT + len(
        json.dumps([*map(dict, ask.messages), dict(ask.schema)])
    )


#: A finish reason that has one of these words says that the answer is not whole. Words and not whole reasons, because every
#: server has its own: length, MAX_TOKENS, model_context_window_exceeded, pause_turn, content_filter.
_LENGTH = frozenset({"exceeded", "length", "limit", "max", "truncated"})
_CUT = _LENGTH | {
    *("abort", "aborted", "blocklist", "canceled", "cancelled", "filter", "filtered", "incomplete", "insufficient"),
    *("interrupted", "pause", "prohibited", "recitation", "safety", "timeout"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def finish_of(value: Any) -> str:
    """A server's finish reason as it is kept: short, and empty if the server gives none."""
    return shown_text(value, 100).strip() if isinstance(value, str) else ""


def is_cut(finish_reason: str) -> bool:
    """Whether a finish reason says that the answer is not whole."""
    return not _CUT.isdisjoint(_words(finish_reason))


def _words(finish_reason: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(finish_reason)}


def check_whole(ask: Ask, text: str, finish_reason: str) -> None:
    """Checks that an answer of a model has a text that is whole, unless the question allows another one.

    Raises: `AgentMalformed` if nothing of the text can be read, or it was cut off; its message names the finish reason.
    `InvalidRequest` if the text cannot be stored: half a surrogate pair cannot be read either, but is not nothing."""
    check_text(text, THE_ANSWER)
    if ask.allow_incomplete:
        return
    words = _words(finish_reason)
    why = f"finish_reason: {finish_reason or 'none'}"
    if not has_answer(text):
        raise AgentMalformed(f"The answer is empty ({why}).")
    if words & _LENGTH:
        raise AgentMalformed(f"The answer was cut off ({why}); it needs more max_tokens, or has to be shorter.")
    if words & _CUT:
        raise AgentMalformed(f"The answer was cut off ({why}).")


def _estimate(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def number(value: Any) -> int | None:
    """A server's count; None if the value cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None


def contract_reply(ask: Ask, value: Any, received: int) -> Reply:
    """Reads the answer of an agent that speaks our contract, given at its endpoint or by completing a task that it claimed.

    For a question: the typed answer itself, or ``{"text": ..., "input_tokens"?, "output_tokens"?}``. For a task: any JSON.
    Raises: `AgentMalformed` if it is no JSON object; `InvalidRequest` if it cannot be stored."""
    if ask.task is not None:
        return Reply(text=write_json(value, THE_ANSWER))
    if not isinstance(value, dict):
        raise AgentMalformed("The answer is not a JSON object.")
    if isinstance(value.get("text"), str):
        tokens_in, tokens_out = number(value.get("input_tokens")), number(value.get("output_tokens"))
        return counted(ask, value["text"], tokens_in, tokens_out, received=received)
    return counted(ask, exact_json(value, THE_ANSWER), None, None)
