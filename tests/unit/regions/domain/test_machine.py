from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from cluster.domain.base.errors import Conflict, TryLater
from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from regions.domain.group import RegionGroup, RegionMember, founded
from regions.domain.leadership import (
    AnswerUpTo,
    Appended,
    AskReports,
    CampaignAnswered,
    CloseWrites,
    CreateKey,
    DatabaseRefused,
    Event,
    ForkFound,
    GroupSeen,
    Leadership,
    LogPosition,
    MoveTrust,
    OpenWrites,
    Persisted,
    PrimaryHeard,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionPhase,
    RegionReport,
    ReleaseKey,
    Renewed,
    RenewLease,
    ReportReceived,
    Tick,
    TransferAsked,
    WritesClosed,
    WritesOpened,
)
from regions.domain.machine import TRANSITIONS, step
from regions.domain.primary import MOST_PENDING, why_not_write
from regions.domain.secondary import leader_of, why_not_read

GROUP = RegionGroup(members=tuple(RegionMember(region=name) for name in ("a", "b", "c")))
RECORD = replace(founded("default", "a", ("b", "c"), ReplicationMode.SYNC), epoch=4, version=9)
TIMERS = RegionTimers()


def report(seq: int, epoch: int = 4) -> RegionReport:
    return RegionReport(epoch=4, version=9, position=LogPosition(epoch=epoch, seq=seq), is_whole=True)


OWN = report(20)
FREE = GroupSeen(group=GROUP, record=RECORD, holder=None)


def after(state: Leadership, *events: Event, now: float = 0.0) -> Leadership:
    for event in events:
        state, _ = step(state, event, now)
    return state


def follower(region: str = "b") -> Leadership:
    return Leadership(region=region, key=f"{region}/1", timers=TIMERS, own=OWN)


def asks(state: Leadership) -> bool:
    assert state.candidacy is not None
    return state.candidacy.asked


def elected() -> Leadership:
    state = after(follower(), FREE, ReportReceived(region="c", report=report(20)))
    state, effects = step(state, Tick(own=OWN), 5.0)
    assert CreateKey() in effects
    state, (proposed,) = step(state, CampaignAnswered(started=100.0, ttl_s=10.0), 5.0)
    assert isinstance(proposed, Propose)
    return after(state, ProposalAnswered(after=proposed.after, succeeded=True), now=5.0)


def new_primary() -> Leadership:
    """``b``, epoch 5, whose set is b and c; its last row is 21."""
    return after(elected(), WritesOpened(epoch=5, head=21), now=5.0)


def test_the_table_has_a_row_for_every_phase_and_event() -> None:
    assert len(TRANSITIONS) == len(RegionPhase) * len(get_args(Event))


def test_a_member_of_the_set_campaigns_when_the_key_is_free() -> None:
    state, effects = step(follower(), FREE, 0.0)
    assert state.phase is RegionPhase.CAMPAIGNING
    assert AskReports() in effects
    held = GroupSeen(group=GROUP, record=RECORD, holder="a/1")
    assert after(follower(), held).phase is RegionPhase.FOLLOWING
    left = GroupSeen(group=GROUP, record=replace(RECORD, in_sync=frozenset({"a", "c"})), holder=None)
    assert after(follower(), left).phase is RegionPhase.FOLLOWING


def test_whoever_is_further_asks_for_the_key_first() -> None:
    state = after(follower(), FREE, ReportReceived(region="c", report=report(21)))
    assert CreateKey() not in step(state, Tick(own=OWN), 1.5)[1]
    assert CreateKey() in step(state, Tick(own=OWN), 2.0)[1]
    ahead = after(follower(), FREE, ReportReceived(region="c", report=report(90, epoch=3)))
    assert CreateKey() in step(ahead, Tick(own=OWN), 1.0)[1]  # an older epoch's log is not ahead


def test_a_candidate_waits_for_reports_of_rivals_and_not_of_the_primary() -> None:
    state = after(follower(), FREE)
    assert step(state, Tick(own=OWN), 3.0)[1] == (ReadGroup(), AskReports())
    assert CreateKey() in step(state, Tick(own=OWN), TIMERS.renewal_s)[1]
    told = after(state, ReportReceived(region="c", report=report(19)))
    assert CreateKey() in step(told, Tick(own=OWN), 1.0)[1]
    alone = replace(RECORD, in_sync=frozenset({"a", "b"}))
    state = after(follower(), GroupSeen(group=GROUP, record=alone, holder=None))
    assert CreateKey() in step(state, Tick(own=OWN), 1.0)[1]


def test_a_candidate_asks_at_once_when_all_have_told() -> None:
    rival, own = ReportReceived(region="c", report=report(20)), ReportReceived(region="b", report=OWN)
    away, lives = ReportReceived(region="a", report=None), ReportReceived(region="a", report=report(22))
    for told in ((rival, own, away), (own, away, rival), (away, rival, own)):
        state = after(follower(), FREE, *told[:2])
        assert not asks(state)
        assert step(state, told[2], 0.0)[1] == (CreateKey(),)
        assert step(after(state, told[2]), rival, 0.1)[1] == ()  # once
    # A primary that lives has lost its key for no reason, and may have rows that nobody else has.
    state = after(follower(), FREE, rival, own, away, lives)
    assert not asks(after(follower(), FREE, rival, own, lives))
    assert CreateKey() not in step(after(follower(), FREE, rival, own, lives), Tick(own=OWN), 1.0)[1]
    held = GroupSeen(group=GROUP, record=RECORD, holder="a/2")
    assert after(state, held).phase is RegionPhase.FOLLOWING
    former = after(follower("a"), FREE, rival, ReportReceived(region="b", report=OWN))
    assert step(former, ReportReceived(region="a", report=report(22)), 0.0)[1] == (CreateKey(),)


def test_what_a_candidate_has_now_decides() -> None:
    state = after(follower(), Tick(own=report(10)), FREE, ReportReceived(region="a", report=None))
    state = after(state, ReportReceived(region="c", report=report(20)))
    assert step(state, ReportReceived(region="b", report=OWN), 0.0)[1] == (CreateKey(),)
    part = replace(OWN, is_whole=False)
    assert after(state, ReportReceived(region="b", report=part)).phase is RegionPhase.FOLLOWING


def test_the_heir_asks_at_once_when_all_have_told() -> None:
    """The primary lives, and others are as far as the heir: it comes before them."""
    offered = GroupSeen(group=GROUP, record=replace(RECORD, heir="c"), holder=None)
    state = after(follower("c"), offered, ReportReceived(region="b", report=OWN))
    assert step(state, ReportReceived(region="c", report=OWN), 0.0)[1] == (CreateKey(),)


def test_the_election_opens_the_database_under_its_epoch_and_trust() -> None:
    state = after(follower(), FREE, ReportReceived(region="c", report=report(20)))
    state, _ = step(state, Tick(own=OWN), 5.0)
    state, (proposed,) = step(state, CampaignAnswered(started=100.0, ttl_s=10.0), 5.0)
    assert isinstance(proposed, Propose)
    assert (proposed.compared, proposed.with_key) == (RECORD, True)
    state, effects = step(state, ProposalAnswered(after=proposed.after, succeeded=True), 5.0)
    assert OpenWrites(epoch=5, trusted_until=109.0) in effects
    assert why_not_write(state) is not None
    state, effects = step(state, WritesOpened(epoch=5, head=21), 5.0)
    assert (state.phase, effects) == (RegionPhase.PRIMARY, (RenewLease(sent_at=5.0),))


def test_an_election_of_unknown_outcome_counts_as_lost() -> None:
    state = after(follower(), FREE)
    state, _ = step(state, Tick(own=OWN), 5.0)
    state, (proposed,) = step(state, CampaignAnswered(started=100.0, ttl_s=10.0), 5.0)
    assert isinstance(proposed, Propose)
    state, effects = step(state, ProposalAnswered(after=proposed.after, succeeded=None), 5.0)
    assert state.phase is RegionPhase.FOLLOWING
    assert ReleaseKey() in effects
    # It may have been elected, or be so as long as its key is there: the rows of the primary before would cut it off from itself.
    assert leader_of(state) is None
    assert leader_of(after(state, GroupSeen(group=GROUP, record=RECORD, holder=state.key))) is None
    assert leader_of(after(state, GroupSeen(group=GROUP, record=proposed.after, holder=None))) is None
    assert leader_of(after(state, GroupSeen(group=GROUP, record=RECORD, holder="a/2"))) == "a"


def test_a_candidate_whose_database_refuses_the_epoch_follows() -> None:
    assert after(elected(), DatabaseRefused()).phase is RegionPhase.FOLLOWING


def test_an_answer_waits_for_every_member_of_the_set() -> None:
    state, effects = step(new_primary(), Appended(seq=22), 6.0)
    assert effects == ()
    state, effects = step(state, Persisted(region="c", epoch=4, seq=22), 6.0)
    assert effects == ()  # another epoch, another log
    state, effects = step(state, Persisted(region="c", epoch=5, seq=22), 6.0)
    assert effects == (AnswerUpTo(seq=22),)


def test_a_late_member_leaves_before_the_primary_stops_waiting() -> None:
    state = after(new_primary(), Appended(seq=22), now=6.0)
    state, effects = step(state, Tick(own=report(22)), 6.0 + TIMERS.sync_s)
    (proposed,) = [effect for effect in effects if isinstance(effect, Propose)]
    assert proposed.after.in_sync == {"b"}
    assert state.term is not None
    assert state.term.answered == 0
    state, effects = step(state, ProposalAnswered(after=proposed.after, succeeded=True), 11.0)
    assert AnswerUpTo(seq=22) in effects
    refused = why_not_write(state)
    assert refused is not None
    assert (refused.code, refused.status) == ("not_replicated", 503)


def test_both_sets_count_while_a_swap_is_unresolved() -> None:
    state = after(new_primary(), Persisted(region="c", epoch=5, seq=21), now=6.0)
    state = after(state, Persisted(region="a", epoch=5, seq=21), now=6.0)
    state, effects = step(state, Tick(own=report(21)), 6.0)
    (proposed,) = [effect for effect in effects if isinstance(effect, Propose)]
    assert proposed.after.in_sync == {"a", "b", "c"}
    state = after(state, ProposalAnswered(after=proposed.after, succeeded=None), Appended(seq=22), now=6.0)
    state, effects = step(state, Persisted(region="c", epoch=5, seq=22), 6.0)
    assert effects == ()  # a may be in the set already
    unchanged = GroupSeen(group=GROUP, record=proposed.compared, holder="b/1")
    state, effects = step(state, unchanged, 6.0)
    assert effects == ()  # the swap may still arrive
    state, effects = step(state, Tick(own=report(22)), 6.5)
    assert proposed in effects
    state, effects = step(state, Persisted(region="a", epoch=5, seq=22), 6.5)
    assert effects == (AnswerUpTo(seq=22),)


def test_a_member_past_the_fork_leaves_the_set_at_once() -> None:
    state = after(new_primary(), ForkFound(region="c"), now=5.0)
    _, effects = step(state, Tick(own=report(21)), 5.1)
    (proposed,) = [effect for effect in effects if isinstance(effect, Propose)]
    assert proposed.after.in_sync == {"b"}


def test_renewals_move_the_trust_by_the_clock_of_the_database() -> None:
    state, effects = step(new_primary(), Renewed(sent_at=6.0, started=200.0, ttl_s=10.0), 7.0)
    assert effects == (MoveTrust(epoch=5, trusted_until=209.0),)
    assert state.phase is RegionPhase.PRIMARY
    _, effects = step(new_primary(), Tick(own=report(21)), 5.0 + TIMERS.renewal_s)
    assert RenewLease(sent_at=5.0 + TIMERS.renewal_s) in effects


@pytest.mark.parametrize(
    "event",
    [
        GroupSeen(group=GROUP, record=replace(RECORD, epoch=5, version=10, primary="b"), holder=None),
        GroupSeen(group=GROUP, record=replace(RECORD, epoch=6, version=11, primary="c"), holder="c/1"),
        GroupSeen(
            group=GROUP, record=replace(RECORD, epoch=5, version=11, primary="b", in_sync=frozenset()), holder="b/1"
        ),
        Renewed(sent_at=6.0, started=200.0, ttl_s=None),
        DatabaseRefused(),
    ],
    ids=["key lost", "another elected", "set emptied", "lease ended", "database refuses"],
)
def test_a_primary_that_lost_stops_and_forgets(event: Event) -> None:
    state, effects = step(new_primary(), event, 7.0)
    assert (state.phase, state.term) == (RegionPhase.FOLLOWING, None)
    assert CloseWrites() in effects


def test_a_primary_whose_trust_ends_stops() -> None:
    _, effects = step(new_primary(), Tick(own=report(21)), 5.0 + TIMERS.election_s)
    assert CloseWrites() in effects


def test_a_transfer_waits_until_the_heir_holds_every_row() -> None:
    state = after(new_primary(), Appended(seq=22), now=6.0)
    with pytest.raises(Conflict):
        step(state, TransferAsked(heir="a"), 6.0)
    state, effects = step(state, TransferAsked(heir="c"), 6.0)
    assert (state.phase, effects) == (RegionPhase.DRAINING, (CloseWrites(),))
    state, effects = step(state, Persisted(region="c", epoch=5, seq=22), 6.0)
    assert effects == (AnswerUpTo(seq=22),)  # not before the database says which row is the last
    state = after(state, WritesClosed(head=23), now=6.0)
    state, effects = step(state, Persisted(region="c", epoch=5, seq=23), 6.0)
    (proposed,) = [effect for effect in effects if isinstance(effect, Propose)]
    assert (proposed.after.heir, proposed.delete_key) == ("c", True)
    assert after(state, ProposalAnswered(after=proposed.after, succeeded=True)).phase is RegionPhase.FOLLOWING


def test_an_heir_that_is_taken_out_of_the_set_is_offered_nothing() -> None:
    """An operator has changed the mode while the transfer drains."""
    state = after(new_primary(), TransferAsked(heir="c"), now=6.0)
    assert state.record is not None
    alone = replace(state.record, in_sync=frozenset({"b"}), version=state.record.version + 1)
    state = after(state, GroupSeen(group=GROUP, record=alone, holder=state.key), WritesClosed(head=21), now=6.1)
    state, effects = step(state, Persisted(region="c", epoch=5, seq=21), 6.2)
    assert (state.phase, [effect for effect in effects if isinstance(effect, Propose)]) == (RegionPhase.DRAINING, [])
    assert after(state, Tick(own=OWN), now=6.0 + TIMERS.election_s + 0.1).phase is RegionPhase.FOLLOWING


def test_the_heir_comes_before_the_others() -> None:
    offered = GroupSeen(group=GROUP, record=replace(RECORD, heir="c"), holder=None)
    state = after(follower(), offered)
    assert state.phase is RegionPhase.FOLLOWING
    assert after(state, offered, now=TIMERS.election_s).phase is RegionPhase.CAMPAIGNING
    assert after(follower("c"), offered).phase is RegionPhase.CAMPAIGNING


def test_a_secondary_reads_what_is_replicated_and_not_stale() -> None:
    state = after(follower(), PrimaryHeard(epoch=4, watermark=18), now=100.0)
    assert why_not_read(state, applied=18, now=100.0) is None
    codes = []
    for applied, now in ((19, 100.0), (18, 100.0 + TIMERS.stale_s + 1)):
        refused = why_not_read(state, applied, now)
        assert isinstance(refused, TryLater)
        codes.append(refused.code)
    assert codes == ["not_replicated", "stale_region"]
    assert after(state, PrimaryHeard(epoch=3, watermark=30), now=101.0) == state
    # Of the same epoch a later answer may be overtaken by an earlier one; another epoch's log may be shorter.
    assert after(state, PrimaryHeard(epoch=4, watermark=17), now=101.0).watermark == 18
    anew = after(state, PrimaryHeard(epoch=5, watermark=10), now=101.0)
    assert (anew.heard_epoch, anew.watermark) == (5, 10)


def test_asynchronous_answers_wait_for_nobody() -> None:
    asynchronous = replace(RECORD, mode=ReplicationMode.ASYNC, in_sync=frozenset({"a"}))
    state = after(follower(), GroupSeen(group=GROUP, record=asynchronous, holder=None))
    state, _ = step(state, Tick(own=OWN), 5.0)
    state, (proposed,) = step(state, CampaignAnswered(started=100.0, ttl_s=10.0), 5.0)
    assert isinstance(proposed, Propose)
    state = after(state, ProposalAnswered(after=proposed.after, succeeded=True), WritesOpened(epoch=5, head=21))
    assert why_not_write(state) is None
    assert step(state, Appended(seq=22), 6.0)[1] == (AnswerUpTo(seq=22),)


def test_a_region_that_is_away_costs_bounded_memory() -> None:
    state = new_primary()
    for seq in range(22, 22 + 3 * MOST_PENDING):
        state = after(state, Appended(seq=seq), Persisted(region="c", epoch=5, seq=seq), now=6.0)
    assert state.term is not None
    assert len(state.term.pending) <= MOST_PENDING
    assert state.term.pending[0] == (21, 5.0)
