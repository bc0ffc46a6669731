from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from regions.domain.rejoin import (
    AskToLeave,
    ForkPoint,
    HistoriesCompared,
    Rebuild,
    Rebuilt,
    Rejoining,
    RejoinPhase,
    SaveSurplus,
    SurplusSaved,
    cursor_lost,
    extended,
    fork_point,
    step,
)

THEIRS = ((1, 10), (3, 15))


def test_the_fork_is_the_last_shared_row() -> None:
    assert fork_point(((1, 10), (2, 12)), THEIRS) == ForkPoint(epoch=1, seq=10, surplus=2)
    assert fork_point(((1, 13),), THEIRS) == ForkPoint(epoch=1, seq=10, surplus=3)
    assert fork_point(((1, 8),), THEIRS) == ForkPoint(epoch=1, seq=8, surplus=0)
    assert fork_point(((1, 8), (2, 9)), THEIRS) == ForkPoint(epoch=1, seq=8, surplus=1)
    assert fork_point((), THEIRS) == ForkPoint(epoch=0, seq=0, surplus=0)


@given(
    st.lists(st.integers(1, 3), max_size=8),
    st.lists(st.integers(4, 6), max_size=4),
    st.lists(st.integers(7, 9), max_size=4),
)
def test_histories_say_what_the_rows_say(shared: list[int], mine: list[int], theirs: list[int]) -> None:
    """Two logs share rows, and each goes on under epochs of its own."""

    def history(*parts: list[int]) -> tuple[tuple[int, int], ...]:
        found: tuple[tuple[int, int], ...] = ()
        for seq, epoch in enumerate([epoch for part in parts for epoch in sorted(part)], 1):
            found = extended(found, epoch, seq)
        return found

    fork = fork_point(history(shared, mine), history(shared, theirs))
    assert (fork.seq, fork.surplus) == (len(shared), len(mine))


def _compared(*, in_sync: bool, epoch: int = 3) -> HistoriesCompared:
    return HistoriesCompared(mine=((1, 10), (2, 12)), theirs=THEIRS, epoch=epoch, in_sync=in_sync)


def test_a_member_with_a_surplus_leaves_the_set_before_it_is_rebuilt() -> None:
    state, effects = step(Rejoining(), _compared(in_sync=True))
    assert (state.phase, effects) == (RejoinPhase.LEAVING, (AskToLeave(),))
    assert step(state, SurplusSaved()) == (state, ())
    state, effects = step(state, _compared(in_sync=False))
    assert (state.phase, effects) == (RejoinPhase.SAVING, (SaveSurplus(after=10),))
    state, effects = step(state, SurplusSaved())
    assert (state.phase, effects) == (RejoinPhase.REBUILDING, (Rebuild(),))
    assert step(state, _compared(in_sync=False)) == (state, ())
    assert step(state, Rebuilt()) == (Rejoining(), ())


def test_a_member_whose_rows_are_kept_no_more_is_rebuilt() -> None:
    """Whether it ends under the primary's epoch or before, and whether it has rows of its own."""
    for mine, theirs, surplus in ((((3, 8),), ((3, 15),), 0), (((1, 8),), THEIRS, 0), (((1, 8), (2, 9)), THEIRS, 1)):
        lost = HistoriesCompared(mine=mine, theirs=(), epoch=3, in_sync=True, is_lost=True)
        state, effects = step(Rejoining(), lost)
        assert (state.phase, effects) == (RejoinPhase.LEAVING, (AskToLeave(),))
        state, effects = step(state, replace(lost, theirs=theirs, in_sync=False))
        if surplus:
            assert effects == (SaveSurplus(after=8),)
            state, effects = step(state, SurplusSaved())
        assert (state.phase, effects) == (RejoinPhase.REBUILDING, (Rebuild(),))
        assert step(state, Rebuilt()) == (Rejoining(), ())


def test_a_message_that_was_overtaken_is_no_fork() -> None:
    late = HistoriesCompared(mine=((1, 10), (3, 17)), theirs=((1, 10), (3, 15)), epoch=3, in_sync=False)
    assert step(Rejoining(), late) == (Rejoining(), ())


def test_a_cursor_past_a_fork_or_before_retention_says_where_to_resume() -> None:
    assert cursor_lost(THEIRS, 1, 1, 10) is None
    assert cursor_lost(THEIRS, 1, 3, 12) is None
    assert cursor_lost(THEIRS, 1, 0, 0) is None
    past = cursor_lost(THEIRS, 1, 2, 12)
    assert past is not None
    assert past.resume_after == 10
    behind = cursor_lost(THEIRS, 6, 1, 4)
    assert behind is not None
    assert behind.resume_after == 5
    assert cursor_lost(THEIRS, 6, 1, 5) is None
