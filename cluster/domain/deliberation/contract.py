"""The contract of a deliberation: everything that decides its course, frozen and hashed when it is admitted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.canonical import canonical_bytes
from cluster.domain.consensus.rule import MODE_NAMES, Mode, parse_mode
from cluster.domain.errors import InvalidRequest
from cluster.domain.ids import check_id

DEFAULT_TIMEOUT_S = 300.0
DEFAULT_MAX_AGENTS = 7
DEFAULT_MAX_TOKENS = 256
MAX_OPTIONS = 26
MAX_QUESTION_CHARS = 20_000
#: Capabilities that the released client asks for by default; either of them will do.
DEFAULT_CAPABILITIES = ("deliberation",)
PANEL_CAPABILITIES = frozenset({"deliberation", "debate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """``options`` empty: the answers are free text and the vote is among the proposals. ``rounds`` 0: proposals of a
    choice are the ballots (quick). ``timeout_s`` covers the whole deliberation."""

    question: str
    options: tuple[str, ...]
    agents: tuple[str, ...]
    required_capabilities: tuple[str, ...]
    mode: str
    rounds: int
    min_votes: int
    quorum_ratio: float
    max_agents: int
    max_tokens: int
    timeout_s: float
    seed: str
    schema_version: int = 1

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Contract:
        fields: dict[str, Any] = {n: tuple(item) if isinstance(item, list) else item for n, item in value.items()}
        return cls(**fields)

    def digest(self) -> bytes:
        return hashlib.sha256(canonical_bytes(self.to_json())).digest()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def make_contract(
    *,
    question: str,
    decision_type: str,
    config: Mapping[str, Any],
    required_capabilities: Sequence[str],
    timeout_s: float | None,
    seed: str,
) -> Contract:
    """InvalidRequest, with one sentence, for anything that cannot be run as asked."""
    if decision_type not in ("auto", "debate", "quick"):
        raise InvalidRequest(
            "decision_type must be auto, debate or quick; it is never guessed from the words of the question.",
            "unsupported_decision_type",
        )
    if not question.strip() or len(question) > MAX_QUESTION_CHARS:
        raise InvalidRequest(f"content must be 1 to {MAX_QUESTION_CHARS} characters.", "invalid_content")
    mode = parse_mode(str(config.get("consensus", Mode.PLURALITY.value)))
    if mode is Mode.JUDGE:
        supported = ", ".join(name for name in MODE_NAMES if name != Mode.JUDGE.value)
        raise InvalidRequest(f"This version has no judge yet; the modes are {supported}.", "unsupported_consensus_mode")
    agents = tuple(dict.fromkeys(check_id(one, "config.agents") for one in _words(config, "agents", 64)))
    options = _words(config, "options", MAX_OPTIONS)
    if options and len(set(options)) != len(options):
        raise InvalidRequest("config.options names an option twice.", "invalid_options")
    if len(options) == 1:
        raise InvalidRequest("config.options needs at least two options, or none for a free answer.", "invalid_options")
    rounds = 0 if decision_type == "quick" else int(_number(config, "rounds", 1, 0, 2))
    return Contract(
        question=question,
        options=options,
        agents=agents,
        required_capabilities=tuple(sorted(set(required_capabilities))),
        mode=mode.value,
        rounds=rounds,
        min_votes=int(_number(config, "min_agents", 2, 1, 64)),
        quorum_ratio=float(_number(config, "quorum_ratio", 0.5, 0, 1)),
        max_agents=int(_number(config, "max_agents", DEFAULT_MAX_AGENTS, 1, 64)),
        max_tokens=int(_number(config, "max_tokens", DEFAULT_MAX_TOKENS, 16, 8192)),
        timeout_s=float(timeout_s or _number(config, "timeout_seconds", DEFAULT_TIMEOUT_S, 1, 86_400)),
        seed=seed,
    )


def _words(config: Mapping[str, Any], name: str, most: int) -> tuple[str, ...]:
    value = config.get(name) or []
    fits = isinstance(value, list) and len(value) <= most
    if not fits or not all(isinstance(one, str) and 0 < len(one.strip()) <= 500 for one in value):
        raise InvalidRequest(f"config.{name} must be a list of at most {most} non-empty strings.", f"invalid_{name}")
    return tuple(one.strip() for one in value)


def _number(config: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidRequest(f"config.{name} must be a number from {low:g} to {high:g}.", "invalid_config")
    return value
