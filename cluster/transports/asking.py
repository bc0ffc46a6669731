"""What an agent is asked and what it answers, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.domain.agents import TransportKind

CHARS_PER_TOKEN = 4


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


def counted(ask: Ask, text: str, input_tokens: int | None, output_tokens: int | None) -> Reply:
    """A reply with the server's count; what it did not count is estimated, and the reply says so."""
    sent = sum(len(message.get("content", "")) for message in ask.messages)
    tokens_in = _estimate(sent) if input_tokens is None else input_tokens
    tokens_out = _estimate(len(text)) if output_tokens is None else output_tokens
    return Reply(
        text=text,
        tokens=tokens_in + tokens_out,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        estimated=input_tokens is None or output_tokens is None,
    )


def _estimate(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def number(value: Any) -> int | None:
    """A server's count, None where it is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
