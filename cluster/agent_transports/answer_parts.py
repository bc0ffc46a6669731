"""The parts of an answer that models of several formats share: texts, refusals, errors. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.agent_transports.failures import complaint_in, reported
from cluster.domain.base.errors import AgentMalformed, AgentRefused, PeerError
from cluster.domain.base.json_values import joined, shown_text
from cluster.domain.base.urls import safe_url
from cluster.ports.agent_transport import Ask


def no_error(ask: Ask, words: str | None) -> None:
    """Raises: `AgentFailed` and its like with these words of an error, if there are any."""
    if words is not None:
        raise reported(safe_url(ask.endpoint), words)


def no_answer(ask: Ask, value: Any, otherwise: str) -> PeerError:
    """The error for an answer that has not the shape of one: its words if it tells of an error in another shape."""
    words = complaint_in(value)
    return AgentMalformed(otherwise) if words is None else reported(safe_url(ask.endpoint), words)


def declined(refusal: Any) -> AgentRefused:
    """The error for an answer by which the model declines."""
    return AgentRefused(shown_text(refusal, 200) if isinstance(refusal, str) else "The model declined.")


def content_text(content: Any, otherwise: str) -> str:
    """A text, or the texts among its parts. Parts of other kinds (thinking, references, calls of tools) are left out.

    Raises: `AgentMalformed` with ``otherwise`` as its sentence if it is neither; `AgentRefused` if a part is a refusal."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Mapping):
        if not content.keys() & {"text", "parts", "type"}:
            raise AgentMalformed(otherwise)
        whole = isinstance(content.get("parts"), list) and _is_answer(content)
        content = content["parts"] if whole else [content]
    if not isinstance(content, list):
        raise AgentMalformed(otherwise)
    return joined(_part(part, otherwise) for part in content)


def _part(part: Any, otherwise: str) -> str:
    if part is None or isinstance(part, str):
        return part or ""
    if not isinstance(part, Mapping):
        raise AgentMalformed(otherwise)
    if part.get("type") == "refusal":
        raise declined(part.get("refusal"))
    if not _is_answer(part):
        return ""
    text = part.get("text")
    text = text.get("value") if isinstance(text, Mapping) else text
    return text if isinstance(text, str) else ""


def _is_answer(part: Mapping[str, Any]) -> bool:
    """Whether a part belongs to the answer. Its kind must be known: many kinds of thinking end with ``text`` as well."""
    return part.get("thought") is not True and part.get("type") in (None, "text", "output_text")


def object_of(value: Any, otherwise: str) -> dict[str, Any]:
    """The value as an object; None counts as an empty one. Raises: `AgentMalformed` with ``otherwise`` as its sentence."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AgentMalformed(otherwise)
    return value
