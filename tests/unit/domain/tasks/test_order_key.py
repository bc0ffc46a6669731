"""Between two places in a line there is always a third."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.tasks.order_key import before, between, decode, encode

START = (1_700_000_000.25, "task_000001")


@given(moves=st.lists(st.integers(0, 40), max_size=60), ties=st.integers(1, 5))
def test_every_new_place_lies_where_it_was_asked_for(moves: list[int], ties: int) -> None:
    line = [(START[0], f"task_{n:06}") for n in range(ties)]
    for move in moves:
        position = min(move, len(line))
        if position == 0:
            new = before(line[0], "task_x")
        else:
            new = between(line[position - 1], line[position] if position < len(line) else None)
        line.insert(position, new)
        assert line == sorted(set(line))
        assert decode(encode(new)) == new


def test_a_line_that_is_cut_at_the_same_spot_again_and_again_keeps_room() -> None:
    low, high = START, (START[0], "task_000002")
    for _ in range(500):
        high = between(low, high)
        assert low < high
    assert len(high[1]) < 200


def test_no_place_is_no_text() -> None:
    assert encode(None) is None
    assert decode(None) is None
