"""Attempts in any order of looks, outcomes and ends, against a list of them."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.notifications.attempts import (
    MOST_AT_ONCE,
    MOST_BEGUN,
    MOST_OF_FAILING,
    TRANSITIONS,
    Attempts,
    Begin,
    Begun,
    ChannelState,
    Ended,
    Look,
    LookAgain,
    Refused,
    Taken,
    step,
)
from tests.support.samples import NOW

CHANNELS = [("w", f"c{n}") for n in range(12)]


class AttemptsMachine(RuleBasedStateMachine):
    """A dumb model: the attempts one by one, and the last outcome of each channel."""

    @initialize()
    def start(self) -> None:
        self.attempts = Attempts()
        self.begun: list[tuple[str, str]] = []
        self.last: dict[tuple[str, str], bool] = {}

    def _failing(self) -> int:
        return sum(1 for channel in self.begun if self.last.get(channel) is False)

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        before, full, failing = len(self.begun), len(self.begun) >= MOST_AT_ONCE, self._failing()
        self.attempts, effects = step(self.attempts, Look(), NOW)
        assert (effects == ()) == full
        for effect in effects:
            assert isinstance(effect, Begin)
            assert effect.busy >= set(self.begun)
            free = [channel for channel in CHANNELS if channel not in effect.busy]
            assert {c for c in CHANNELS if self.last.get(c, True) and c not in self.begun} <= set(free), "none waits"
            if failing >= MOST_OF_FAILING:
                assert all(self.last.get(channel, True) for channel in free), "others have places left"
            for channel in data.draw(st.lists(st.sampled_from(free), max_size=effect.room) if free else st.just([])):
                self.attempts, after = step(self.attempts, Begun(channel), NOW)
                assert after == ()
                self.begun.append(channel)
        assert len(self.begun) - before <= MOST_BEGUN
        if self._failing() > failing:
            assert self._failing() <= MOST_OF_FAILING

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), taken=st.sampled_from([True, False, None]))
    def ends(self, data: st.DataObject, taken: bool | None) -> None:
        channel = data.draw(st.sampled_from(self.begun))
        if taken is not None:  # None: it could not be made or settled
            self.attempts, effects = step(self.attempts, Taken(channel) if taken else Refused(channel), NOW)
            assert effects == ()
            self.last[channel] = taken
        self.attempts, effects = step(self.attempts, Ended(channel), NOW)
        self.begun.remove(channel)
        assert effects == (() if channel in self.begun else (LookAgain(),))

    @invariant()
    def it_is_the_list(self) -> None:
        assert self.attempts.under_way == {channel: self.begun.count(channel) for channel in set(self.begun)}
        assert self.attempts.failing == {channel for channel, taken in self.last.items() if not taken}
        assert len(self.begun) <= MOST_AT_ONCE


TestAttempts = AttemptsMachine.TestCase


@pytest.mark.parametrize("state", ChannelState)
@pytest.mark.parametrize("event", [Begun, Taken, Refused, Ended])
def test_only_outcomes_change_a_channels_state(
    state: ChannelState, event: type[Begun | Taken | Refused | Ended]
) -> None:
    channel = CHANNELS[0]
    failing = frozenset({channel}) if state is ChannelState.FAILING else frozenset[tuple[str, str]]()
    after, _ = step(Attempts({channel: 2}, failing), event(channel), NOW)
    assert after.state(channel) is TRANSITIONS.get((state, event), state)


def test_an_attempt_that_never_began_cannot_end() -> None:
    with pytest.raises(KeyError):
        step(Attempts(), Ended(CHANNELS[0]), NOW)
