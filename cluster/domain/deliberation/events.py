"""Everything that can happen to a deliberation."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.compact import compact
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.deliberation.person import PersonAnswered
from cluster.domain.deliberation.state import Member, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A worker has taken the deliberation. ``again``: its journal has events already, so calls may have been in flight."""

    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelChosen:
    """A panel was chosen, complete or not. ``pool``: agents that may replace silent members, best first. ``missing`` says
    what could not be found."""

    members: tuple[Member, ...]
    pool: tuple[Member, ...] = ()
    judge: Member | None = None
    snapshot: WeightSnapshot | None = None
    missing: str = ""


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An agent replied. Token counts are as its server reports them, all 0 if it does not. ``seconds``: how long the call
    took."""

    agent_id: str
    phase: Phase
    attempt: int
    text: str
    round: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """A call failed. ``fault``: timeout, http, malformed or refusal."""

    agent_id: str
    phase: Phase
    attempt: int
    fault: str
    detail: str
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed. ``next_alarm`` says when the next one is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody asked to cancel the deliberation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The control plane failed on this deliberation and cannot go on with it."""

    detail: str


Event = Taken | PanelChosen | Answered | Faulted | Tick | CancelAsked | PersonAnswered | Broken
