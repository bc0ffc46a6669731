"""The primary's side: it renews its trust, waits for the in-sync set, takes late members out of it and caught-up ones back, hands
the zone over, and stops when it is not trusted any more."""

from __future__ import annotations

from dataclasses import replace

from cluster.domain.base.errors import Conflict, TryLater
from cluster.domain.replication.quorum import ReplicationMode
from regions.domain.group import ZoneRecord
from regions.domain.leadership import (
    AnswerUpTo,
    Appended,
    CloseWrites,
    Effect,
    ForkFound,
    GroupSeen,
    Leadership,
    MoveTrust,
    Persisted,
    PrimaryTerm,
    Proposal,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionPhase,
    ReleaseKey,
    Renewed,
    RenewLease,
    Step,
    Tick,
    TransferAsked,
    WritesClosed,
)
from regions.domain.secondary import forgotten, seen
from regions.domain.transactions import CHANGES, Leave, OfferTransfer, Rejoin, ZoneChange, changed

MOST_PENDING = 512


def why_not_write(state: Leadership) -> TryLater | None:
    """Why a write is refused before the local commit; None if it is not."""
    record = state.record
    if state.phase is not RegionPhase.PRIMARY or record is None:
        return TryLater(
            "This region does not write for the zone now; ask its primary, or try again in a moment.", "not_primary"
        )
    if record.mode is ReplicationMode.SYNC and record.in_sync <= {state.region}:
        return TryLater(
            "No other region holds the acknowledged rows now, so a write could be lost; try again when a region is back, or let "
            "an operator set the replication mode to async.",
            "not_replicated",
        )
    return None


def counted(record: ZoneRecord, proposal: Proposal | None) -> frozenset[str]:
    """The regions that an answer waits for. While a change of the set may or may not have happened: those of both sets."""
    return record.in_sync if proposal is None else record.in_sync | proposal.after.in_sync


def watermark(term: PrimaryTerm, record: ZoneRecord) -> int:
    """The last row that every member of the set holds; in async mode the last row of the primary's own log."""
    if record.mode is ReplicationMode.ASYNC:
        return term.head
    return min((term.persisted.get(region, 0) for region in counted(record, term.proposal)), default=0)


def _parts(state: Leadership) -> tuple[PrimaryTerm, ZoneRecord]:
    assert state.term is not None
    assert state.record is not None
    return state.term, state.record


def _stopped(state: Leadership) -> Step:
    return forgotten(state, CloseWrites(), ReleaseKey())


def _advanced(state: Leadership, term: PrimaryTerm, *effects: Effect) -> Step:
    """With the answers that may leave now."""
    _, record = _parts(state)
    mark = watermark(term, record)
    if mark <= term.answered:
        return replace(state, term=term), effects
    after = replace(term, answered=mark)
    told = replace(state, term=after, heard_epoch=term.epoch, watermark=mark)
    return told, (*effects, AnswerUpTo(seq=mark))


def appended(state: Leadership, event: Appended, now: float) -> Step:
    term, _ = _parts(state)
    if event.seq <= term.head:
        return state, ()
    persisted = {**term.persisted, state.region: event.seq}
    pending = _thinned((*term.pending, (event.seq, now)))
    return _advanced(state, replace(term, head=event.seq, persisted=persisted, pending=pending))


def confirmed(state: Leadership, event: Persisted, now: float) -> Step:
    """A confirmation of another epoch is about another log. One of a region that is not whole does not count, so such a region
    does not return to the set, and leaves it when it is late."""
    term, record = _parts(state)
    if event.epoch != term.epoch or not event.is_whole or event.seq <= term.persisted.get(event.region, -1):
        return state, ()
    persisted = {**term.persisted, event.region: event.seq}
    assert state.group is not None
    all_hold = min(persisted.get(region, 0) for region in state.group.counting(record.zone) | record.in_sync)
    pending = tuple(commit for commit in term.pending if commit[0] > all_hold)
    after = replace(term, persisted=persisted, pending=pending, forked=term.forked - {event.region})
    stepped, effects = _advanced(state, after)
    offer = _offer(stepped)
    return (stepped, effects) if offer is None else _proposed(stepped, offer, *effects)


def forked(state: Leadership, event: ForkFound, now: float) -> Step:
    term, _ = _parts(state)
    persisted = {region: seq for region, seq in term.persisted.items() if region != event.region}
    return replace(state, term=replace(term, persisted=persisted, forked=term.forked | {event.region})), ()


def _thinned(pending: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """Bounds what a region that is away for long makes the primary keep. The oldest stay, since they say who is late."""
    if len(pending) <= MOST_PENDING:
        return pending
    half = len(pending) // 2
    return (*pending[:half], *pending[half::2])


def _late_by(term: PrimaryTerm, region: str, now: float) -> float:
    """For how long a region has lacked a row."""
    persisted = term.persisted.get(region, 0)
    return next((now - at for seq, at in term.pending if seq > persisted), 0.0)


def _next_change(state: Leadership, now: float) -> ZoneChange | None:
    """The change of the set that is due."""
    term, record = _parts(state)
    if record.mode is ReplicationMode.ASYNC or state.group is None:
        return None
    counting = state.group.counting(record.zone)
    for region in sorted(record.in_sync - {state.region}):
        if region in term.forked or _late_by(term, region, now) > state.timers.sync_s:
            return Leave(region=region)
        if region not in counting and record.in_sync & counting - {state.region}:
            return Leave(region=region)  # a region that holds payloads has come
    for region in sorted(counting - record.in_sync):
        persisted = term.persisted.get(region, -1)
        # Half the interval: who comes back when it is nearly late again would only leave.
        if (
            persisted >= term.answered
            and region not in term.forked
            and 2 * _late_by(term, region, now) < state.timers.sync_s
        ):
            return Rejoin(region=region, persisted=persisted, answered=term.answered)
    return None


def _proposed(state: Leadership, change: ZoneChange, *effects: Effect) -> Step:
    term, record = _parts(state)
    assert state.group is not None
    proposal = Proposal(change=change, compared=record, after=changed(record, state.group, change))
    return replace(state, term=replace(term, proposal=proposal)), (*effects, _sent(proposal))


def _sent(proposal: Proposal) -> Propose:
    offered = isinstance(proposal.change, OfferTransfer)
    with_key = CHANGES[type(proposal.change)].key
    return Propose(compared=proposal.compared, after=proposal.after, with_key=with_key, delete_key=offered)


def primary_tick(state: Leadership, event: Tick, now: float) -> Step:
    term, _ = _parts(state)
    state = replace(state, own=replace(event.own, version=max(event.own.version, state.own.version)))
    if now >= term.trusted_until:
        return _stopped(state)
    effects: tuple[Effect, ...] = (ReadGroup(),)
    if now >= term.renewal_at:
        effects = (*effects, RenewLease(sent_at=now))
        state = replace(state, term=replace(term, renewal_at=now + state.timers.renewal_s))
    if term.proposal is not None:
        return state, (*effects, _sent(term.proposal)) if term.proposal.unresolved else effects
    change = _next_change(state, now)
    return (state, effects) if change is None else _proposed(state, change, *effects)


def renewed(state: Leadership, event: Renewed, now: float) -> Step:
    term, _ = _parts(state)
    if event.ttl_s is None:
        return _stopped(state)
    until = max(term.trusted_until, state.timers.trusted_until(event.sent_at, event.ttl_s))
    by_database = state.timers.trusted_until(event.started, event.ttl_s)
    return replace(state, term=replace(term, trusted_until=until)), (
        MoveTrust(epoch=term.epoch, trusted_until=by_database),
    )


def primary_group(state: Leadership, event: GroupSeen, now: float) -> Step:
    """Whoever is not named, or whose key has another value or none, stops: only the key says who lost, never a renewal."""
    term, record = _parts(state)
    if event.record.version < record.version and event.holder == state.key and event.record.epoch == term.epoch:
        return state, ()  # an answer that was overtaken
    if event.holder != state.key or event.record.primary != state.region or event.record.epoch != term.epoch:
        after, effects = seen(state, event, now)
        return forgotten(after, *effects, CloseWrites(), ReleaseKey())
    if state.region not in event.record.in_sync:
        return _stopped(state)
    after, effects = seen(state, event, now)
    if term.proposal is not None and event.record != term.proposal.compared:
        term = replace(term, proposal=None)
    return _advanced(after, term, *effects)


def proposal_answered(state: Leadership, event: ProposalAnswered, now: float) -> Step:
    term, _ = _parts(state)
    proposal = term.proposal
    if proposal is None or event.after != proposal.after:
        return state, ()
    if event.succeeded is None:
        return replace(state, term=replace(term, proposal=replace(proposal, unresolved=True))), (ReadGroup(),)
    if not event.succeeded:
        # The record has another version, or the key another value; the read says which. Until then both sets count.
        return replace(state, term=replace(term, proposal=replace(proposal, unresolved=True))), (ReadGroup(),)
    if isinstance(proposal.change, OfferTransfer):
        return forgotten(replace(state, record=event.after), CloseWrites())
    return _advanced(replace(state, record=event.after), replace(term, proposal=None))


def transfer_asked(state: Leadership, event: TransferAsked, now: float) -> Step:
    """Raises: `Conflict` if the heir is not one that can take over; `TryLater` if a change of the set is on its way."""
    term, record = _parts(state)
    assert state.group is not None
    if event.heir not in record.in_sync - {state.region} or not state.group.may_lead(record.zone, event.heir):
        raise Conflict(
            f"{event.heir} is not a data region of zone {record.zone} in the in-sync set; choose one that is.",
            "not_in_sync",
        )
    if term.proposal is not None:
        raise TryLater("The in-sync set is changing; try again in a moment.")
    draining = replace(term, heir=event.heir, closed=False, draining_since=now)
    return replace(state, phase=RegionPhase.DRAINING, term=draining), (CloseWrites(),)


def drained(state: Leadership, event: WritesClosed, now: float) -> Step:
    """``head`` is the last row, since the database takes no more."""
    term, _ = _parts(state)
    persisted = {**term.persisted, state.region: event.head}
    stepped, effects = _advanced(state, replace(term, head=event.head, persisted=persisted, closed=True))
    offer = _offer(stepped)
    return (stepped, effects) if offer is None else _proposed(stepped, offer, *effects)


def _offer(state: Leadership) -> OfferTransfer | None:
    """The offer that is due. None if the heir is not in the set any more, as when an operator has changed the mode meanwhile: the
    time of a transfer is bounded."""
    term, record = _parts(state)
    if state.phase is not RegionPhase.DRAINING or not term.closed or term.proposal is not None:
        return None
    if term.heir is None or term.heir not in record.in_sync:
        return None
    persisted = term.persisted.get(term.heir, 0)
    return OfferTransfer(heir=term.heir, persisted=persisted, head=term.head) if persisted >= term.head else None


def draining_tick(state: Leadership, event: Tick, now: float) -> Step:
    """Who drains for longer than an election takes stops, so that any member of the set may be elected."""
    term, _ = _parts(state)
    if now >= term.trusted_until or now > term.draining_since + state.timers.election_s:
        return _stopped(replace(state, own=event.own))
    if now < term.renewal_at:
        return replace(state, own=event.own), (ReadGroup(),)
    renewing = replace(term, renewal_at=now + state.timers.renewal_s)
    return replace(state, own=event.own, term=renewing), (ReadGroup(), RenewLease(sent_at=now))


def draining_renewed(state: Leadership, event: Renewed, now: float) -> Step:
    """The database is fenced, so its trust does not move."""
    term, _ = _parts(state)
    if event.ttl_s is None:
        return _stopped(state)
    until = max(term.trusted_until, state.timers.trusted_until(event.sent_at, event.ttl_s))
    return replace(state, term=replace(term, trusted_until=until)), ()
