"""The secondary's side: it follows the group, notices that the campaign key is free, campaigns and is elected; and it says which
reads it may answer."""

from __future__ import annotations

from dataclasses import replace

from cluster.domain.base.errors import Conflict, TryLater
from cluster.domain.replication.quorum import ReplicationMode
from regions.domain.leadership import (
    AskReports,
    CampaignAnswered,
    Candidacy,
    CloseWrites,
    CreateKey,
    DatabaseRefused,
    Effect,
    Event,
    GroupSeen,
    Leadership,
    OpenWrites,
    PrimaryHeard,
    PrimaryTerm,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionPhase,
    RegionReport,
    ReleaseKey,
    RememberVersion,
    RenewLease,
    ReportReceived,
    Step,
    Tick,
    WritesOpened,
)
from regions.domain.transactions import Elect, changed, why_not_elected


def forgotten(state: Leadership, *effects: Effect) -> Step:
    """The state of a region that knows nothing of its part any more, and asks the group what it is now."""
    following = replace(state, phase=RegionPhase.FOLLOWING, candidacy=None, term=None)
    return following, (*effects, ReadGroup())


def seen(state: Leadership, event: GroupSeen, now: float) -> Step:
    """Takes over what the group says. A record of an older version than the database was told is kept too: the election refuses
    it by name."""
    known = state.own.version
    if (event.record, event.holder, event.group) == (
        state.record,
        state.holder,
        state.group,
    ) and event.holder is not None:
        return state, ()
    remember = (RememberVersion(version=event.record.version),) if event.record.version > known else ()
    free_since = None if event.holder is not None else (now if state.free_since is None else state.free_since)
    own = replace(state.own, version=max(known, event.record.version))
    return (
        replace(state, group=event.group, record=event.record, holder=event.holder, free_since=free_since, own=own),
        remember,
    )


def follow_group(state: Leadership, event: GroupSeen, now: float) -> Step:
    after, effects = seen(state, event, now)
    if not _may_campaign(after, now):
        return after, effects
    campaigning = replace(after, phase=RegionPhase.CAMPAIGNING, candidacy=Candidacy(since=now))
    return campaigning, (*effects, AskReports())


def follow_tick(state: Leadership, event: Tick, now: float) -> Step:
    return replace(state, own=event.own), (ReadGroup(),)


def heard(state: Leadership, event: PrimaryHeard, now: float) -> Step:
    """An older primary is not heard."""
    if event.epoch < state.own.epoch or (state.record is not None and event.epoch < state.record.epoch):
        return state, ()
    # A watermark of an earlier epoch says nothing here: after a loss that was accepted, this log may be shorter.
    before = state.watermark if event.epoch == state.heard_epoch else 0
    return replace(state, heard_at=now, heard_epoch=event.epoch, watermark=max(before, event.watermark)), ()


def leader_of(state: Leadership) -> str | None:
    """The region whose rows this one takes; None for none.

    A candidate takes none: it has told its rivals how far it is. Nor does who may have been elected without having heard of it:
    the rows of the primary before, which may write on until its trust ends, would be cut off by the election, and images that are
    later than the last of them would make a primary that is not whole.
    """
    record = state.record
    if state.phase is not RegionPhase.FOLLOWING or record is None or state.holder == state.key:
        return None
    return None if record.primary == state.region else record.primary


def _may_campaign(state: Leadership, now: float) -> bool:
    record, group = state.record, state.group
    if record is None or group is None or state.free_since is None or not state.own.is_whole:
        return False
    if record.heir not in (None, state.region) and now < state.free_since + state.timers.election_s:
        return False
    return why_not_elected(record, group, state.region) is None


def _rivals(state: Leadership) -> set[str]:
    """The other regions that may be elected too."""
    record, group = state.record, state.group
    assert record is not None
    assert group is not None
    others = set(group.data_regions()) - {state.region}
    return {region for region in others if why_not_elected(record, group, region) is None}


def _rank(state: Leadership, candidacy: Candidacy) -> int:
    """How many regions that answered may be elected too and come before this one: those that are further, then by name. Who is
    not whole does not campaign. An heir holds every row, and the others wait for it."""
    assert state.record is not None
    if state.record.heir == state.region:
        return 0
    before = 0
    for region in _rivals(state) & candidacy.reports.keys():
        report = candidacy.reports[region]
        if not report.is_whole:
            continue
        further = state.own.position.is_behind(report.position)
        before += further or (report.position == state.own.position and region < state.region)
    return before


def campaign_group(state: Leadership, event: GroupSeen, now: float) -> Step:
    after, effects = seen(state, event, now)
    if _may_campaign(after, now):
        return after, effects
    return forgotten(after, *effects)


def _told(state: Leadership, region: str, report: RegionReport | None) -> Leadership:
    """With what a region has told, or that it cannot be reached. What it told before counts still."""
    candidacy = state.candidacy
    assert candidacy is not None
    if report is None:
        return replace(state, candidacy=replace(candidacy, away=candidacy.away | {region}))
    if region == state.region:
        report = replace(report, version=max(report.version, state.own.version))
        state = replace(state, own=report)
    after = replace(candidacy, reports={**candidacy.reports, region: report}, away=candidacy.away - {region})
    return replace(state, candidacy=after)


def _asks(state: Leadership, now: float) -> bool:
    """Whether a candidate asks for the key now: a heartbeat later for each that comes before it.

    Rows that nobody was answered for may be at one region only. If another is elected, those rows are a surplus, its region is
    copied anew, and a set that is then the new primary alone refuses writes until the copy has ended. So a candidate waits for
    the reports of its rivals, a third of the election timeout at most. The old primary is not waited for if it cannot be
    reached, as when it is dead. If it answers, it has lost its key for no reason: it gets a heartbeat to close and to come first,
    since it may write on until then. What has no answer yet gets that heartbeat too.
    """
    candidacy, record = state.candidacy, state.record
    assert candidacy is not None
    assert record is not None
    waited_s = now - candidacy.since
    is_told = {state.region} | _rivals(state) - {record.primary} <= candidacy.reports.keys()
    if not is_told and waited_s < state.timers.renewal_s:
        return False
    is_over = state.region in (record.primary, record.heir) or record.primary in candidacy.away
    turns = _rank(state, candidacy) + (0 if is_told and is_over else 1)
    return waited_s >= turns * state.timers.heartbeat_s


def _campaigned(state: Leadership, now: float, *meanwhile: Effect) -> Step:
    """Asks for the key if it is time to, else does something meanwhile."""
    candidacy = state.candidacy
    assert candidacy is not None
    if not state.own.is_whole:
        return forgotten(state, ReleaseKey())
    if candidacy.asked or not _asks(state, now):
        return state, meanwhile
    return replace(state, candidacy=replace(candidacy, asked=True)), (CreateKey(),)


def campaign_report(state: Leadership, event: ReportReceived, now: float) -> Step:
    return _campaigned(_told(state, event.region, event.report), now)


def campaign_tick(state: Leadership, event: Tick, now: float) -> Step:
    candidacy = state.candidacy
    assert candidacy is not None
    state = _told(state, state.region, event.own)
    if now > candidacy.since + state.timers.election_s + len(candidacy.reports) * state.timers.heartbeat_s:
        return forgotten(state, ReleaseKey())
    return _campaigned(state, now, *((ReadGroup(),) if candidacy.asked else (ReadGroup(), AskReports())))


def campaign_answered(state: Leadership, event: CampaignAnswered, now: float) -> Step:
    candidacy, record, group = state.candidacy, state.record, state.group
    assert candidacy is not None
    assert record is not None
    assert group is not None
    if event.ttl_s is None:
        return forgotten(state)
    reports = [state.own, *candidacy.reports.values()]
    elect = Elect(
        candidate=state.region,
        epochs=tuple(report.epoch for report in reports),
        versions=tuple(report.version for report in reports),
    )
    try:
        after = changed(record, group, elect)
    except Conflict:
        return forgotten(state, ReleaseKey())
    electing = replace(candidacy, won_at=event.started, ttl_s=event.ttl_s, after=after)
    proposed = Propose(compared=record, after=after, with_key=True, delete_key=False)
    return replace(state, phase=RegionPhase.ELECTING, candidacy=electing), (proposed,)


def late_key(state: Leadership, event: CampaignAnswered, now: float) -> Step:
    """The key came after the candidate had given up."""
    return state, (ReleaseKey(),) if event.ttl_s is not None else ()


def election_answered(state: Leadership, event: ProposalAnswered, now: float) -> Step:
    """An outcome that is not known may mean that it is elected. Nothing was written under that epoch, so the next election, with
    an epoch of its own, costs nothing. Until the group is read again, nobody is followed."""
    candidacy = state.candidacy
    assert candidacy is not None
    assert candidacy.after is not None
    if event.after != candidacy.after:
        return state, ()
    if not event.succeeded:
        return forgotten(replace(state, holder=state.key), ReleaseKey())
    until = state.timers.trusted_until(candidacy.won_at, candidacy.ttl_s)
    return replace(state, phase=RegionPhase.OPENING, record=event.after), (
        RememberVersion(version=event.after.version),
        OpenWrites(epoch=event.after.epoch, trusted_until=until),
    )


def election_tick(state: Leadership, event: Tick, now: float) -> Step:
    assert state.candidacy is not None
    if now <= state.candidacy.since + 2 * state.timers.election_s:
        return state, ()
    return forgotten(replace(state, holder=state.key), CloseWrites(), ReleaseKey())


def opened(state: Leadership, event: WritesOpened, now: float) -> Step:
    """Confirmations of an earlier epoch say nothing now: each member has to confirm the log anew."""
    assert state.record is not None
    if event.epoch != state.record.epoch:
        return forgotten(state, CloseWrites(), ReleaseKey())
    term = PrimaryTerm(
        epoch=event.epoch,
        head=event.head,
        persisted={state.region: event.head},
        pending=((event.head, now),),
        renewal_at=now + state.timers.renewal_s,
        trusted_until=now + state.timers.election_s,
    )
    primary = replace(state, phase=RegionPhase.PRIMARY, candidacy=None, term=term, holder=state.key, free_since=None)
    return primary, (RenewLease(sent_at=now),)


def refused(state: Leadership, event: DatabaseRefused, now: float) -> Step:
    return forgotten(state, CloseWrites(), ReleaseKey())


def ignored(state: Leadership, event: Event, now: float) -> Step:
    return state, ()


def why_not_read(state: Leadership, applied: int, now: float) -> TryLater | None:
    """Why a secondary may not answer a read of bounded staleness from rows up to ``applied``; None if it may. Rows past the
    watermark may be lacking at the next primary, so nobody may see them."""
    if now - state.heard_at > state.timers.stale_s:
        return TryLater(
            "This region has not heard of its primary for too long to answer with a stated staleness; ask another region.",
            "stale_region",
        )
    asynchronous = state.record is not None and state.record.mode is ReplicationMode.ASYNC
    if applied > state.watermark and not asynchronous:
        return TryLater("The newest rows are not replicated everywhere yet; try again in a moment.", "not_replicated")
    return None
