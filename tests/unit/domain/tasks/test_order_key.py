"""Between any two order keys there is a third."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.tasks.order_key import before, between, decode, encode

START = (1_700_000_000.25, "task_000001")


@given(moves=st.lists(st.integers(0, 40), max_size=60), ties=st.integers(1, 5))
def test_every_new_order_key_lies_between_its_neighbours(moves: list[int], ties: int) -> None:
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


def test_repeated_insertion_at_one_position_keeps_keys_short() -> None:
    low, high = START, (START[0], "task_000002")
    for _ in range(500):
        high = between(low, high)
        assert low < high
    assert len(high[1]) < 200


def test_a_text_that_is_no_order_key_is_refused() -> None:
    assert encode(None) is None
    assert decode(None) is None
