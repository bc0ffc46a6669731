"""A question to an agent on its way to the host that owns the agent, and the agent's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """One question to one agent, on its way from a deliberation worker to the host that owns the agent."""

    workspace: str
    agent_id: str
    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]
    max_tokens: int
    timeout_s: float
    key: str
    cause: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer. ``tokens`` are input and output together, as the server counted them or ``estimated`` from the texts.
    ``finish_reason`` is why a model stopped, in its server's words; empty if the server does not say. ``complaint`` is a
    sentence with the words by which the server refused the question as it was first asked; empty if it did not."""

    text: str
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    finish_reason: str = ""
    complaint: str = ""
