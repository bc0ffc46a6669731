"""The contract of a deliberation: all that is decided about it in advance, frozen and hashed when it is admitted.

The panel and the weights are chosen later; the ``panel`` event binds them to the contract's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.consensus.ballots import Denominator
from cluster.domain.consensus.effort import Effort
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak
from cluster.domain.deliberation.answers import AnswerType
from cluster.domain.deliberation.asking import AskPerson
from cluster.domain.deliberation.ledger import NANOS, Budget
from cluster.domain.deliberation.prompts import template_hashes

DEFAULT_TIMEOUT_S = 300.0
DEFAULT_MAX_AGENTS = 7
DEFAULT_MAX_TOKENS = 256
DEFAULT_ROUNDS = 2
#: The released client asks for ``DEFAULT_CAPABILITIES`` if it is told nothing else. An agent then suits if it has any of
#: ``PANEL_CAPABILITIES``.
DEFAULT_CAPABILITIES = ("deliberation",)
PANEL_CAPABILITIES = frozenset({"deliberation", "debate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """``rounds`` 0: no debate (quick). ``kind`` "": nobody said what kind of question it is. ``effort``: how
    much loss is accepted for fewer calls; None: nobody said, and two that agree are enough. ``timeout_s`` covers the whole
    deliberation. ``tau``: at this calibrated confidence nobody more is asked. ``peers``: how many differing answers each
    agent is shown in a debate. ``judge`` "": one is chosen with the panel. ``material``: documents, attachments and evidence
    that were given with the question, each kind a list. ``ask_person``: whether a person is asked at the end."""

    question: str
    context: Mapping[str, Any] = field(default_factory=dict)
    material: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    answer_type: AnswerType = field(default_factory=AnswerType)
    agents: tuple[str, ...] = ()
    required_capabilities: tuple[str, ...] = ()
    mode: Mode = Mode.AGREE_K
    denominator: Denominator = Denominator.ELIGIBLE
    q: float = 2 / 3
    k: int = 2
    escalate_to: Mode = Mode.LEARNED
    tie_break: TieBreak = TieBreak.NO_CONSENSUS
    tau: float = 0.9
    rounds: int = DEFAULT_ROUNDS
    debate_on: str = "auto"
    peers: int = 2
    judge: str = ""
    min_votes: int = 2
    quorum_ratio: float = 0.5
    max_agents: int = DEFAULT_MAX_AGENTS
    max_tokens: int = DEFAULT_MAX_TOKENS
    timeout_s: float = DEFAULT_TIMEOUT_S
    budget_tokens: int | None = None
    budget_nanos: int | None = None
    seed: str = ""
    kind: str = ""
    effort: Effort | None = None
    ask_person: AskPerson | None = None
    prompts: Mapping[str, str] = field(default_factory=template_hashes)
    schema_version: int = 2

    @property
    def asks_by_gain(self) -> bool:
        """Whether the next agent is asked only if that is worth its price."""
        return self.effort in (Effort.LEAST, Effort.DEFAULT)

    @property
    def options(self) -> tuple[str, ...]:
        return self.answer_type.options

    @property
    def budget(self) -> Budget:
        return Budget(tokens=self.budget_tokens, nanos=self.budget_nanos)

    @property
    def rule(self) -> ConsensusRule:
        return ConsensusRule(
            mode=self.mode,
            denominator=self.denominator,
            q=self.q,
            k=self.k,
            escalate_to=self.escalate_to,
            tie_break=self.tie_break,
            seed=self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        plain = {name: _plain(getattr(self, name)) for name in self.__slots__}
        if not self.kind:
            del plain["kind"]  # contracts without one keep the digest that they had before there were kinds
        if self.effort is None:
            del plain["effort"]
        del plain["ask_person"]  # and so do those that ask nobody
        if self.ask_person is not None:
            plain["ask_person"] = self.ask_person.to_json()
        return {**plain, "answer_type": self.answer_type.to_json(), "options": list(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Contract:
        fields: dict[str, Any] = {n: tuple(item) if isinstance(item, list) else item for n, item in value.items()}
        fields.pop("options")
        for name, enum in _ENUMS.items():
            if name in fields:
                fields[name] = enum(fields[name])
        if "ask_person" in fields:
            fields["ask_person"] = AskPerson.from_json(fields["ask_person"])
        return cls(**{**fields, "answer_type": AnswerType.from_json(value["answer_type"])})

    def digest(self) -> bytes:
        return hashlib.sha256(canonical_bytes(self.to_json())).digest()


_ENUMS: dict[str, Any] = {
    "mode": Mode,
    "escalate_to": Mode,
    "denominator": Denominator,
    "tie_break": TieBreak,
    "effort": Effort,
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def budget_usd(contract: Contract) -> float | None:
    return None if contract.budget_nanos is None else contract.budget_nanos / NANOS
