"""The machine of one region in one zone: a table of rules, and ``step`` that looks one up and applies it.

- A region *follows* until the campaign key is free. It then campaigns if it may become primary, the most advanced first; with the
  key it proposes its election, and after that opens its own database under the new epoch. Each election draws a new epoch, also
  that of the primary that lost its key for no reason.
- A *primary* that is refused, loses its key, is not named, or whose trust ends, forgets its memory and follows. Nobody goes on
  under another epoch than that which it drew.
- ``TRANSITIONS`` has a row for every phase and event. Tests and the simulation read the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from regions.domain import primary, secondary
from regions.domain.leadership import (
    Appended,
    CampaignAnswered,
    DatabaseRefused,
    Event,
    ForkFound,
    GroupSeen,
    Leadership,
    Persisted,
    PrimaryHeard,
    ProposalAnswered,
    RegionPhase,
    Renewed,
    ReportReceived,
    Step,
    Tick,
    TransferAsked,
    WritesClosed,
    WritesOpened,
)

P = RegionPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRule:
    """What applies the event, the phases that may follow, and a note for readers."""

    apply: Callable[[Leadership, Any, float], Step]
    to: tuple[RegionPhase, ...]
    note: str = ""


def step(state: Leadership, event: Event, now: float) -> Step:
    """Applies the rule for ``event``. ``now`` is the process's clock.

    Raises: `Conflict` if a transfer is asked for that cannot be made; `TryLater` if it cannot be made yet."""
    return TRANSITIONS[state.phase, type(event)].apply(state, event, now)


_FORGETS = "forgets its memory, and asks the group what it is now"
_RULES: dict[tuple[RegionPhase, type[Event]], PhaseRule] = {
    (P.FOLLOWING, Tick): PhaseRule(apply=secondary.follow_tick, to=(P.FOLLOWING,)),
    (P.FOLLOWING, GroupSeen): PhaseRule(
        apply=secondary.follow_group,
        to=(P.FOLLOWING, P.CAMPAIGNING),
        note="campaigns if the key is free and it may lead",
    ),
    (P.CAMPAIGNING, Tick): PhaseRule(
        apply=secondary.campaign_tick, to=(P.CAMPAIGNING, P.FOLLOWING), note="asks for the key, the most advanced first"
    ),
    (P.CAMPAIGNING, GroupSeen): PhaseRule(
        apply=secondary.campaign_group, to=(P.CAMPAIGNING, P.FOLLOWING), note="another has the key"
    ),
    (P.CAMPAIGNING, ReportReceived): PhaseRule(
        apply=secondary.campaign_report,
        to=(P.CAMPAIGNING, P.FOLLOWING),
        note="asks for the key at once when all have told",
    ),
    (P.CAMPAIGNING, CampaignAnswered): PhaseRule(
        apply=secondary.campaign_answered, to=(P.ELECTING, P.FOLLOWING), note="proposes its election"
    ),
    (P.ELECTING, ProposalAnswered): PhaseRule(
        apply=secondary.election_answered,
        to=(P.ELECTING, P.OPENING, P.FOLLOWING),
        note="an unknown outcome counts as lost",
    ),
    (P.ELECTING, Tick): PhaseRule(apply=secondary.election_tick, to=(P.ELECTING, P.FOLLOWING), note="bounded"),
    (P.OPENING, WritesOpened): PhaseRule(
        apply=secondary.opened,
        to=(P.PRIMARY, P.FOLLOWING),
        note="the epoch is in its database; confirmations count from 0",
    ),
    (P.OPENING, DatabaseRefused): PhaseRule(apply=secondary.refused, to=(P.FOLLOWING,), note=_FORGETS),
    (P.OPENING, Tick): PhaseRule(apply=secondary.election_tick, to=(P.OPENING, P.FOLLOWING), note="bounded"),
    (P.PRIMARY, Tick): PhaseRule(
        apply=primary.primary_tick,
        to=(P.PRIMARY, P.FOLLOWING),
        note="renews; proposes who leaves or returns; needs trust",
    ),
    (P.PRIMARY, GroupSeen): PhaseRule(apply=primary.primary_group, to=(P.PRIMARY, P.FOLLOWING), note=_FORGETS),
    (P.PRIMARY, Renewed): PhaseRule(
        apply=primary.renewed, to=(P.PRIMARY, P.FOLLOWING), note="trust ends a margin before the lease"
    ),
    (P.PRIMARY, Appended): PhaseRule(apply=primary.appended, to=(P.PRIMARY,)),
    (P.PRIMARY, Persisted): PhaseRule(
        apply=primary.confirmed, to=(P.PRIMARY,), note="answers leave up to the watermark"
    ),
    (P.PRIMARY, ForkFound): PhaseRule(apply=primary.forked, to=(P.PRIMARY,), note="the member leaves at the next tick"),
    (P.PRIMARY, ProposalAnswered): PhaseRule(
        apply=primary.proposal_answered, to=(P.PRIMARY,), note="while the outcome is unknown, both sets are waited for"
    ),
    (P.PRIMARY, DatabaseRefused): PhaseRule(apply=secondary.refused, to=(P.FOLLOWING,), note=_FORGETS),
    (P.PRIMARY, TransferAsked): PhaseRule(
        apply=primary.transfer_asked, to=(P.DRAINING,), note="409 if the heir cannot"
    ),
    (P.DRAINING, Tick): PhaseRule(
        apply=primary.draining_tick, to=(P.DRAINING, P.FOLLOWING), note="bounded by the election"
    ),
    (P.DRAINING, GroupSeen): PhaseRule(apply=primary.primary_group, to=(P.DRAINING, P.FOLLOWING), note=_FORGETS),
    (P.DRAINING, Renewed): PhaseRule(apply=primary.draining_renewed, to=(P.DRAINING, P.FOLLOWING)),
    (P.DRAINING, Appended): PhaseRule(apply=primary.appended, to=(P.DRAINING,), note="commits from before the close"),
    (P.DRAINING, Persisted): PhaseRule(
        apply=primary.confirmed, to=(P.DRAINING,), note="offers when the heir holds every row"
    ),
    (P.DRAINING, WritesClosed): PhaseRule(apply=primary.drained, to=(P.DRAINING,)),
    (P.DRAINING, ProposalAnswered): PhaseRule(
        apply=primary.proposal_answered, to=(P.DRAINING, P.FOLLOWING), note="the heir may take the zone"
    ),
}
_ANYWHERE: dict[type[Event], PhaseRule] = {
    PrimaryHeard: PhaseRule(apply=secondary.heard, to=tuple(P), note="an older epoch is not heard"),
    GroupSeen: PhaseRule(apply=secondary.seen, to=(P.ELECTING, P.OPENING), note="the swap decides, not a read"),
    CampaignAnswered: PhaseRule(apply=secondary.late_key, to=tuple(P), note="a key that came too late is released"),
}


def _rule(phase: RegionPhase, event: type[Event]) -> PhaseRule:
    found = _RULES.get((phase, event)) or _ANYWHERE.get(event)
    return found or PhaseRule(apply=secondary.ignored, to=(phase,), note="means nothing in this phase")


TRANSITIONS: dict[tuple[RegionPhase, type[Event]], PhaseRule] = {
    (phase, event): _rule(phase, event) for phase in RegionPhase for event in get_args(Event)
}
