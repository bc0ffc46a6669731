"""What an agent is asked and what it answers, whatever carries it, and the rules that every answer is read by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import AgentMalformed, InvalidRequest
from cluster.domain.base.json_values import check_text, write_json
from cluster.domain.deliberation.ledger import MAX_TOKENS

CHARS_PER_TOKEN = 4
#: What an answer is called in the sentence that refuses it.
THE_ANSWER = "The answer"
#: Tokens that are counted and are no text: marks of beginning, end and role.
_MARKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one agent. ``timeout_s`` covers retries too; ``key`` is the same whenever the call is repeated.

    ``task`` instead of ``messages`` for an ordinary task of an agent that does not chat. ``options`` are the agent's own
    (``stream``, ``import_path``).
    """

    transport: TransportKind
    endpoint: str
    model: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str
    provider: str = "unknown"
    agent_id: str = ""
    task: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """``tokens`` in and out, as the server counted them, or ``estimated`` from the length of the texts."""

    text: str
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False


class AgentTransport(Protocol):
    async def ask(self, ask: Ask) -> Reply:
        """The agent's answer within ``ask.timeout_s``. Raises PeerError."""


@contextlib.contextmanager
def judged() -> Iterator[None]:
    """What does not pass the gate inside is a malformed answer."""
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
) -> Reply:
    """A reply with the server's count; what it did not count, or cannot have counted, is estimated, and the reply says
    so. InvalidRequest for a text that cannot be kept.

    A token is a byte at least, so nobody has written more of them than the bytes that were ``received``. ``hidden_tokens`` are
    tokens of thinking that a server counts and keeps to itself: believed up to what it was allowed to write."""
    check_text(text, THE_ANSWER)
    sent = sum(len(message.get("content", "")) for message in ask.messages)
    arrived = len(text.encode()) + _MARKS if received is None else received
    most = arrived + min(hidden_tokens or 0, ask.max_tokens)
    believed = output_tokens if output_tokens is not None and output_tokens <= most else None
    tokens_in = _estimate(sent) if input_tokens is None else input_tokens
    tokens_out = _estimate(len(text)) if believed is None else believed
    return Reply(
        text=text,
        tokens=tokens_in + tokens_out,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        estimated=input_tokens is None or believed is None,
    )


def _estimate(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def number(value: Any) -> int | None:
    """A server's count, None where it is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None


def contract_reply(ask: Ask, value: Any, received: int) -> Reply:
    """What an agent that speaks our contract answered, at its endpoint or by completing a task that it claimed.

    A turn: the typed answer itself, or ``{"text": ..., "input_tokens"?, "output_tokens"?}``. A task: any JSON.
    AgentMalformed, or InvalidRequest for what cannot be kept."""
    if ask.task is not None:
        return Reply(text=write_json(value, THE_ANSWER))
    if not isinstance(value, dict):
        raise AgentMalformed("The answer is not a JSON object.")
    if isinstance(value.get("text"), str):
        tokens_in, tokens_out = number(value.get("input_tokens")), number(value.get("output_tokens"))
        return counted(ask, value["text"], tokens_in, tokens_out, received=received)
    return counted(ask, write_json(value, THE_ANSWER), None, None)
