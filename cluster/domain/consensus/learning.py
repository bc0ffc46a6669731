"""When weights are learned again, from which outcomes, and the alarms that are reported with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.domain.base.canonical import canonical_bytes, canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import IDENTITY, LogTexts, Origin
from cluster.domain.consensus.drift import WINDOW, Alarm, AlarmKind, Record, collusion_alarms, drift_alarms
from cluster.domain.consensus.kind_names import checked_kind
from cluster.domain.consensus.learned import build_snapshot
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot

#: How many of the newest outcomes are fitted: a sliding window, so that old records fade.
FIT_WINDOW = 5_000
#: Most agents in one fit; the most frequent ones, if a workspace has more.
MAX_AGENTS = 64
#: How many outcomes it takes before weights are learned, and how many new ones, at least and at most, before they are
#: learned again.
MIN_OUTCOMES = 20
MIN_NEW, MAX_NEW = 20, 100
#: In how many of the newest outcomes drift and collusion are looked for, and the shortest record that drift is measured by.
RECENT_DRIFT, RECENT_COLLUSION = 2 * WINDOW, 400
MIN_RECORD = 30
MAX_OPTION_CHARS = 500
#: The right answer of an outcome in which no candidate was right.
NONE_RIGHT = "(none)"

LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("outcome_id", "snapshot_id", "agents"), IDENTITY),
    "source": frozenset({"deliberation", "import"}),
    "gate": frozenset(Mode),
    "kind": frozenset(AlarmKind),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOutcome:
    """``panel`` is who was eligible, sorted; ``votes`` holds those of it who were asked."""

    id: str
    origin: Origin
    at: float
    outcome: Outcome
    panel: tuple[str, ...]
    source: str  # deliberation | import

    def digest(self) -> bytes:
        """Of what makes a repeat the same outcome. The kind is no part of it: outcomes that were recorded without one can be
        sent again with it, and stay as they are."""
        content = {
            "panel": list(self.panel),
            "votes": dict(self.outcome.votes),
            "right": self.outcome.right,
            "options": list(self.outcome.options),
        }
        return hashlib.sha256(canonical_bytes(content)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOutcome:
    """What came of recording an outcome. ``replayed``: the same outcome was recorded before. ``conflict``: the id belongs to
    a different outcome, which stays as it is."""

    id: str
    seq: int | None
    replayed: bool = False
    conflict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOutcome:
    n: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """``panel`` is sorted. ``version`` counts per panel from 1; ``through_n`` is the last outcome that was fitted."""

    id: str
    panel: tuple[str, ...]
    version: int
    through_n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    head: SnapshotHead
    created_at: float
    snapshot: WeightSnapshot
    alarms: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSnapshot:
    workspace: str
    at: float
    panel: tuple[str, ...]
    through_n: int
    snapshot: WeightSnapshot
    alarms: tuple[Alarm, ...]

    def summary(self) -> dict[str, Any]:
        """The data of its log row."""
        gate = self.snapshot.gate
        return {
            "snapshot_id": self.snapshot.id,
            "agents": list(self.panel),
            "outcomes": self.snapshot.outcomes,
            "gate": gate.choice.value,
            "gain": gate.gain,
            "alarms": [{"kind": alarm.kind.value, "agents": list(alarm.agents)} for alarm in self.alarms],
        }


def panel_of(agents: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(agents)))


def panel_key(agents: Sequence[str]) -> str:
    return canonical_sha256(list(panel_of(agents)))


def checked_outcome(
    votes: Mapping[str, str | None],
    right: str,
    options: Sequence[str],
    panel: Sequence[str] = (),
    kind: str | None = None,
) -> tuple[Outcome, tuple[str, ...]]:
    """(outcome, its panel). Raises: ``InvalidRequest`` if an id, an option or the kind is not valid, or the right answer is not
    an option."""
    members = panel_of([*panel, *votes])
    for agent in members:
        check_id(agent, "an agent of votes")
    if not members or len(members) > MAX_AGENTS:
        raise InvalidRequest(f"votes must name 1 to {MAX_AGENTS} agents.", "invalid_outcome")
    named = [right, *options, *(vote for vote in votes.values() if vote is not None)]
    if any(not 0 < len(option) <= MAX_OPTION_CHARS for option in named):
        raise InvalidRequest(f"An answer must be 1 to {MAX_OPTION_CHARS} characters.", "invalid_outcome")
    if options and right not in options and right != NONE_RIGHT:
        raise InvalidRequest(f"correct is {right!r}, which is not one of the options.", "invalid_outcome")
    checked_kind(kind, "kind")
    return Outcome(votes=dict(sorted(votes.items())), right=right, options=tuple(options), kind=kind), members


def due(new: int, fitted: int) -> bool:
    """Whether to fit again, ``new`` outcomes after a fit on ``fitted`` ones: after a tenth more, at least ``MIN_NEW`` and at
    most ``MAX_NEW``."""
    if fitted == 0:
        return new >= MIN_OUTCOMES
    return new >= min(MAX_NEW, max(MIN_NEW, fitted // 10))


def fit(
    workspace: str,
    at: float,
    agents: Sequence[str],
    stored: Sequence[StoredOutcome],
    owners: Mapping[str, str],
    owner_cap: float | None,
) -> NewSnapshot:
    """The snapshot that these outcomes give, oldest first. The same outcomes give the same snapshot in any process."""
    panel = panel_of(agents)
    outcomes = [row.outcome for row in stored]
    return NewSnapshot(
        workspace=workspace,
        at=at,
        panel=panel,
        through_n=max(row.n for row in stored),
        snapshot=build_snapshot(outcomes, panel, owners, owner_cap),
        alarms=tuple(alarms(outcomes, panel)),
    )


def alarms(outcomes: Sequence[Outcome], agents: Sequence[str]) -> list[Alarm]:
    """Alarms on agents whose newest answers differ from their record, then on pairs whose errors coincide."""
    recent = outcomes[-RECENT_DRIFT:]
    before = {agent: _record(outcomes[: -len(recent)], agent) for agent in agents} if recent else {}
    known = {agent: record for agent, record in before.items() if record.given >= MIN_RECORD}
    return [*drift_alarms(known, recent), *collusion_alarms(outcomes[-RECENT_COLLUSION:], agents)]


def _record(outcomes: Sequence[Outcome], agent: str) -> Record:
    given = [outcome for outcome in outcomes if outcome.votes.get(agent) is not None]
    return Record(right=sum(outcome.votes[agent] == outcome.right for outcome in given), given=len(given))


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    return {**asdict(alarm), "kind": alarm.kind.value, "agents": list(alarm.agents)}
