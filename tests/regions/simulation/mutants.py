"""Machines with a mistake. The simulation has to find each of them, or it proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from regions.domain import primary, rejoin, secondary, transactions
from regions.domain.group import RegionGroup, RegionMember, ZoneRecord
from regions.domain.leadership import Leadership, Persisted, ReportReceived, Tick, WritesOpened
from regions.domain.machine import TRANSITIONS
from tests.regions.simulation import database

LOST = "no acknowledged row is lost"
SEEN = "no client has seen a row that is not there"
MEMBERS = "members only"
EPOCHS = "epochs increase"
ONE_PRIMARY = "one primary per epoch"
FENCED = "a fenced process writes nothing"
WHOLE_LEADS = "only who is whole leads"
WHOLE_COPIES = "answers rest on whole copies"
HOLDERS_LEAD = "only who holds payloads leads"
HOLDERS_COUNT = "copies without payloads do not count"
LIVE = "a healed network writes again"


@dataclass(frozen=True, slots=True)
class Mutant:
    """``patches``: (object, attribute, what stands there instead). ``breaks``: the invariants of which one must be breached.
    ``only``: the faults that show the mistake soonest; empty for all. ``zoned``: it takes more zones than one."""

    name: str
    patches: tuple[tuple[Any, str, Any], ...]
    breaks: frozenset[str]
    only: tuple[str, ...] = ()
    zoned: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The mistake is made, also by the tables and modules that hold the right function."""
        with ExitStack() as stack:
            for owner, attribute, mistake in self.patches:
                right = getattr(owner, attribute)
                stack.enter_context(patch.object(owner, attribute, mistake))
                for key, rule in TRANSITIONS.items():
                    if rule.apply is right:
                        stack.enter_context(patch.dict(TRANSITIONS, {key: replace(rule, apply=mistake)}))
                for module in (primary, secondary):
                    if module is not owner and getattr(module, attribute, None) is right:
                        stack.enter_context(patch.object(module, attribute, mistake))
            yield


def _mutant(
    name: str, owner: Any, attribute: str, mistake: Any, *breaks: str, only: tuple[str, ...] = (), zoned: bool = False
) -> Mutant:
    return Mutant(name, ((owner, attribute, mistake),), frozenset(breaks), only, zoned)


def _commit_unchecked(self: database.Database, epoch: int, row_id: str, now: float) -> int:
    self._append((epoch, row_id))
    return len(self.rows)


def _commit_without_trust(self: database.Database, epoch: int, row_id: str, now: float) -> int:
    if self.role is not database.RegionRole.PRIMARY or epoch != self.epoch:
        raise database.CommitRefused
    self._append((epoch, row_id))
    return len(self.rows)


def _follows_anybody(self: database.Database, epoch: int) -> bool:
    self.role = database.RegionRole.SECONDARY
    return True


_opened = secondary.opened


def _opened_with_old_confirmations(state: Leadership, event: WritesOpened, now: float) -> Any:
    after, effects = _opened(state, event, now)
    if after.term is None or after.group is None:
        return after, effects
    persisted = dict.fromkeys(after.group.data_regions(), event.head)
    return replace(after, term=replace(after.term, persisted=persisted)), effects


_answered = primary.proposal_answered


def _unknown_is_failed(state: Leadership, event: Any, now: float) -> Any:
    after, effects = _answered(state, event, now)
    if event.succeeded is None and after.term is not None:
        after = replace(after, term=replace(after.term, proposal=None))
    return after, effects


def _stops_waiting_first(record: ZoneRecord, proposal: Any) -> frozenset[str]:
    return record.in_sync if proposal is None else proposal.after.in_sync


_compared = rejoin.REJOIN[rejoin.RejoinPhase.STREAMING, rejoin.HistoriesCompared]


def _rebuilds_within_the_set(state: Any, event: Any) -> Any:
    return _compared(state, replace(event, in_sync=False))


_REJOIN = {
    **rejoin.REJOIN,
    (rejoin.RejoinPhase.STREAMING, rejoin.HistoriesCompared): _rebuilds_within_the_set,
    (rejoin.RejoinPhase.LEAVING, rejoin.HistoriesCompared): _rebuilds_within_the_set,
}


def _nobody_refused(record: Any, group: Any, candidate: str) -> None:
    return None


def _never_refused(state: Any, applied: int, now: float) -> None:
    return None


def _changes(**rules: Any) -> dict[Any, Any]:
    table = dict(transactions.CHANGES)
    for name, apply in rules.items():
        kind = getattr(transactions, name)
        table[kind] = replace(table[kind], apply=apply)
    return table


def _never_rejoins(record: ZoneRecord, group: Any, change: Any) -> ZoneRecord:
    return record


_may_campaign = secondary._may_campaign
_confirmed = primary.confirmed


def _campaigns_as_whole(state: Leadership, now: float) -> bool:
    return _may_campaign(replace(state, own=replace(state.own, is_whole=True)), now)


def _ticks_as_whole(state: Leadership, event: Tick, now: float) -> Any:
    return _campaign_tick(state, replace(event, own=replace(event.own, is_whole=True)), now)


def _told_as_whole(state: Leadership, event: ReportReceived, now: float) -> Any:
    report = event.report
    return _campaign_report(
        state, replace(event, report=None if report is None else replace(report, is_whole=True)), now
    )


_campaign_tick, _campaign_report = secondary.campaign_tick, secondary.campaign_report


def _counts_anybody(state: Leadership, event: Persisted, now: float) -> Any:
    return _confirmed(state, replace(event, is_whole=True), now)


MUTANTS = (
    Mutant(
        "who is not whole campaigns",
        (
            (secondary, "_may_campaign", _campaigns_as_whole),
            (secondary, "campaign_tick", _ticks_as_whole),
            (secondary, "campaign_report", _told_as_whole),
        ),
        frozenset({WHOLE_LEADS}),
        only=("drop_lease", "one_way"),
    ),
    _mutant("confirmations of who is not whole count", primary, "confirmed", _counts_anybody, WHOLE_COPIES),
    _mutant("acknowledge early", primary, "watermark", lambda term, record: term.head, LOST, SEEN, WHOLE_COPIES),
    Mutant(
        "promote any",
        ((transactions, "why_not_elected", _nobody_refused), (secondary, "why_not_elected", _nobody_refused)),
        frozenset({MEMBERS}),
    ),
    _mutant(
        *("commit unchecked", database.Database, "commit", _commit_unchecked, LOST, SEEN, ONE_PRIMARY, FENCED),
        only=("pause", "isolate"),
    ),
    _mutant("trust unchecked", database.Database, "commit", _commit_without_trust, FENCED, only=("pause", "isolate")),
    _mutant("epoch not raised", transactions, "_next_epoch", lambda record, epochs: max(1, record.epoch), EPOCHS, LIVE),
    _mutant(
        *(
            "confirmations of the epoch before",
            secondary,
            "opened",
            _opened_with_old_confirmations,
            LOST,
            SEEN,
            WHOLE_COPIES,
        ),
        only=("drop_lease", "crash"),
    ),
    _mutant("stops waiting before the swap", primary, "counted", _stops_waiting_first, LOST, SEEN, WHOLE_COPIES),
    _mutant("secondaries show what they have", secondary, "why_not_read", _never_refused, SEEN),
    _mutant("any region leads", RegionMember, "may_lead", lambda self, zone: self.data, HOLDERS_LEAD, zoned=True),
    _mutant(
        *("any copy counts", RegionGroup, "counting", lambda self, zone: frozenset(self.data_regions()), HOLDERS_COUNT),
        only=("crash",),
        zoned=True,
    ),
    _mutant("nobody returns to the set", transactions, "CHANGES", _changes(Rejoin=_never_rejoins), LIVE),
)
#: Found among hundreds of schedules: by the long run only.
RARE = (
    _mutant(
        *("receivers take any epoch", database.Database, "follows", _follows_anybody, LIVE, LOST, SEEN),
        only=("crash", "isolate", "drop_lease"),
    ),
    _mutant(
        *("an unknown swap counts as failed", primary, "proposal_answered", _unknown_is_failed, LOST, SEEN),
        only=("one_way", "crash", "cut"),
    ),
    _mutant("rebuild within the set", rejoin, "REJOIN", _REJOIN, LOST, SEEN, only=("drop_lease", "cut")),
)
