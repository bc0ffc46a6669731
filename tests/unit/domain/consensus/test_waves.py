"""Early stops: an answer that is called settled stays what it is, whatever the others would have said."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.consensus.waves import decided_regardless, next_wave, run_waves, tally_of

NAMES = ("p", "q", "r", "s", "t")
ANSWERS = st.sampled_from(("a", "b", "c", None))


def _leaders(tally: dict[str, float]) -> set[str]:
    top = max(tally.values(), default=0.0)
    return {option for option, value in tally.items() if value >= top - 1e-9}


@given(
    st.lists(ANSWERS, min_size=5, max_size=5),
    st.lists(st.sampled_from((0.0, 0.5, 1.0, 1.5)), min_size=5, max_size=5),
    st.integers(0, 5),
)
def test_what_is_decided_regardless_cannot_be_overturned(
    given_: list[str | None], weight: list[float], asked: int
) -> None:
    answers, weights = dict(zip(NAMES, given_, strict=True)), dict(zip(NAMES, weight, strict=True))
    partial = tally_of({name: answers[name] for name in NAMES[:asked]}, weights)
    outstanding = sum(weights[name] for name in NAMES[asked:])
    if not decided_regardless(partial, outstanding):
        return
    winner = _leaders(partial)
    for rest in product("abz", repeat=5 - asked):
        full = tally_of(
            {**{n: answers[n] for n in NAMES[:asked]}, **dict(zip(NAMES[asked:], rest, strict=True))}, weights
        )
        assert _leaders(full) == winner


@given(
    st.lists(ANSWERS, min_size=5, max_size=5),
    st.lists(st.sampled_from((0.3, 0.5, 1.0, 1.5)), min_size=5, max_size=5),
    st.integers(1, 5),
)
def test_without_agree_k_asking_in_waves_loses_nothing(
    given_: list[str | None], weight: list[float], max_waves: int
) -> None:
    answers, weights = dict(zip(NAMES, given_, strict=True)), dict(zip(NAMES, weight, strict=True))
    asked = run_waves(NAMES, answers.__getitem__, weights, agree_k=0, max_waves=max_waves)
    if len(asked) < 5:
        assert _leaders(tally_of(asked, weights)) == _leaders(tally_of(answers, weights))


@given(st.lists(ANSWERS, min_size=5, max_size=5), st.integers(1, 5))
def test_waves_ask_each_agent_once_in_order_and_keep_their_number(given_: list[str | None], max_waves: int) -> None:
    answers = dict(zip(NAMES, given_, strict=True))
    weights = dict.fromkeys(NAMES, 1.0)
    asked: dict[str, str | None] = {}
    waves = 0
    while wave := next_wave(order=NAMES, answers=asked, weights=weights, waves=waves, max_waves=max_waves):
        assert not set(wave) & set(asked)
        asked.update((name, answers[name]) for name in wave)
        waves += 1
    assert list(asked) == list(NAMES[: len(asked)])
    assert waves <= max(2, max_waves)


def test_two_agreeing_answers_end_it_and_two_different_ones_do_not() -> None:
    weights = dict.fromkeys(NAMES, 1.0)
    assert run_waves(NAMES, lambda _: "a", weights) == {"p": "a", "q": "a"}
    differing = {"p": "a", "q": "b", "r": "a", "s": "a", "t": "c"}
    assert list(run_waves(NAMES, differing.__getitem__, weights)) == ["p", "q", "r", "s"], "t could not change it"
    # An abstention is no disagreement, but one answer alone is no agreement of two.
    assert next_wave(order=NAMES, answers={"p": "a", "q": None}, weights=weights, waves=1) != ()
    assert next_wave(order=NAMES, answers={"p": "a", "q": None, "r": "a"}, weights=weights, waves=2) == ()


def test_a_wave_asks_only_as_many_as_could_settle_it() -> None:
    weights = {"p": 3.0, "q": 1.0, "r": 1.0, "s": 0.1, "t": 0.1}
    # p leads q by 2 with 1.2 outstanding: nobody can overturn it.
    assert next_wave(order=NAMES, answers={"p": "a", "q": "b"}, weights=weights, waves=1) == ()
    close = {**weights, "p": 1.5}
    assert next_wave(order=NAMES, answers={"p": "a", "q": "b"}, weights=close, waves=1) == ("r",)
    assert next_wave(order=NAMES, answers={"p": "a", "q": "b"}, weights=close, waves=2) == ("r", "s", "t")
