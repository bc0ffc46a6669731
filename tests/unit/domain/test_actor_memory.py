"""Which actor is restarted for its memory, and what is said about memory that grows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.actor_memory import (
    APART_S,
    AWAY_S,
    FIRST_WAIT_S,
    HELPED_S,
    LOOKS,
    MIB,
    PHASES,
    Looked,
    Memory,
    MemoryPhase,
    MemoryWatch,
    notice,
    phase_of,
    step,
)

BOUND = 1000 * MIB
LOOK_S = 10.0


class Fleet:
    """Actors that are looked at every ten seconds, and restarted when the bound says so."""

    def __init__(self, needs: dict[str, Callable[[float], int | None]], tasks: Callable[[float], int] = lambda _: 0):
        self.watch = MemoryWatch(bound=BOUND)
        self.needs = needs
        self.tasks = tasks
        self.now = 0.0
        self.born = dict.fromkeys(needs, 0.0)
        self.restarts: list[tuple[float, str]] = []

    def run(self, seconds: float) -> None:
        """Each actor's memory is a function of its age in seconds, in MiB; None: it does not answer."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            seen = {}
            for name, need in self.needs.items():
                used = need(self.now - self.born[name])
                seen[name] = None if used is None else Memory(int(self.born[name]) + 1, used * MIB)
            looked = Looked(seen=seen, open_tasks=self.tasks(self.now))
            self.watch, restarts = step(self.watch, looked, self.now)
            for restart in restarts:
                self.restarts.append((self.now, restart.name))
                self.born[restart.name] = self.now

    def notice(self, name: str = "shard") -> str:
        return notice(self.watch, name, self.now)


def test_an_actor_that_leaks_is_restarted_each_time() -> None:
    fleet = Fleet({"shard": lambda age: 200 + int(age / 10), "host": lambda age: 300})
    fleet.run(30_000)
    assert [name for _, name in fleet.restarts] == ["shard"] * 3
    times = [at for at, _ in fleet.restarts]
    assert max(b - a for a, b in pairwise(times)) < 8_100, "each restart helped: there is no wait"


def test_one_look_above_the_bound_is_no_reason() -> None:
    fleet = Fleet({"shard": lambda age: 2000 if age == 500 else 200})
    fleet.run(2000)
    assert (LOOKS, fleet.restarts) == (2, [])


def test_an_actor_whose_state_needs_more_is_not_restarted_for_ever() -> None:
    fleet = Fleet({"shard": lambda age: 1500})
    fleet.run(86_400)
    waits = [b[0] - a[0] for a, b in pairwise(fleet.restarts)]
    assert waits[0] >= FIRST_WAIT_S
    assert all(later >= 1.9 * earlier for earlier, later in pairwise(waits))
    assert len(fleet.restarts) <= 9
    assert "restarts did not help" in fleet.notice()
    assert "ARAGORA_ACTOR_MEMORY_MB" in fleet.notice()


def test_two_actors_above_the_bound_are_restarted_one_after_the_other() -> None:
    fleet = Fleet({"shard": lambda age: 1500, "host": lambda age: 1400 if age < 500 else None if age < 530 else 200})
    fleet.run(200)
    (first, one), (second, other) = fleet.restarts
    assert (one, other) == ("shard", "host")
    assert second - first >= APART_S


@pytest.mark.parametrize(("silent_s", "restarts"), [(AWAY_S - 60, 0), (AWAY_S + 60, 1)])
def test_an_actor_that_does_not_answer_postpones_restarts_for_a_while(silent_s: float, restarts: int) -> None:
    fleet = Fleet({"shard": lambda age: 1500, "host": lambda age: None})
    fleet.run(silent_s)
    assert len(fleet.restarts) == restarts


@pytest.mark.parametrize(("used", "said"), [(799, ""), (810, "nearly"), (1001, "restarted if that lasts")])
def test_what_is_said_near_the_bound_and_above(used: int, said: str) -> None:
    fleet = Fleet({"shard": lambda age: used})
    fleet.run(LOOK_S)
    assert (said in fleet.notice()) if said else fleet.notice() == ""


@pytest.mark.parametrize(
    ("need", "seconds", "phase"),
    [
        (lambda age: 100, 10, MemoryPhase.WITHIN),
        (lambda age: 801, 10, MemoryPhase.NEAR),
        (lambda age: 1001, 10, MemoryPhase.ABOVE),
        (lambda age: 1001, 40, MemoryPhase.IN_VAIN),
        (lambda age: 200 + int(age / 20), 4500, MemoryPhase.GROWING),
    ],
    ids=lambda value: value.value if isinstance(value, MemoryPhase) else "",
)
def test_each_phase_of_the_table_is_reached(
    need: Callable[[float], int | None], seconds: int, phase: MemoryPhase
) -> None:
    fleet = Fleet({"shard": need})
    fleet.run(seconds)
    assert phase_of(fleet.watch.actors["shard"], BOUND) is phase
    assert {row for row, _ in PHASES} == set(MemoryPhase)


def _rises(until_s: float = 1e9) -> Callable[[float], int]:
    return lambda age: 200 + int(min(age, until_s) / 20)


@pytest.mark.parametrize(
    ("memory", "tasks", "grows"),
    [
        (_rises(), lambda now: 50, True),
        (_rises(), lambda now: 5_000_000, True),
        (_rises(), lambda now: int(now), False),  # it has more to do
        (_rises(), lambda now: 30_000 if 3000 < now < 3300 else 0, False),  # it had, and may keep what it got
        (_rises(600), lambda now: 0, False),  # it has filled its caches
        (lambda age: 200 + int(age / 60), lambda now: 0, False),  # by little
        (lambda age: 200 + 150 * (int(age / 300) % 2), lambda now: 0, False),  # it comes and goes
    ],
    ids=["leaks", "leaks-under-load", "more-work", "a-burst", "starts", "little", "waves"],
)
def test_memory_grows_only_without_growth_of_open_tasks(
    memory: Callable[[float], int], tasks: Callable[[float], int], grows: bool
) -> None:
    fleet = Fleet({"shard": memory}, tasks)
    fleet.run(4500)
    assert ("has grown by" in fleet.notice()) is grows


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([None, 100, 900, 1100, 3000]), st.integers(1, 900)),
        max_size=60,
    )
)
def test_restarts_are_apart_and_ever_rarer_while_they_do_not_help(steps: list[tuple[str, int | None, int]]) -> None:
    watch, now = MemoryWatch(bound=BOUND), 0.0
    seen: dict[str, Memory | None] = dict.fromkeys("abc", Memory(1, 100 * MIB))
    last: dict[str, float] = {}
    waits: dict[str, float] = {}
    any_last = float("-inf")
    for name, used, seconds in steps:
        now += seconds
        seen[name] = None if used is None else Memory(1, used * MIB)
        watch, restarts = step(watch, Looked(seen=seen, open_tasks=0), now)
        if not restarts:
            continue
        (restart,) = (each.name for each in restarts)
        memory = seen[restart]
        assert memory is not None
        assert memory.resident > BOUND
        assert now - any_last >= APART_S
        if restart in last and now - last[restart] < HELPED_S:
            assert now - last[restart] >= waits[restart]
            waits[restart] *= 2
        else:
            waits[restart] = FIRST_WAIT_S
        last[restart] = any_last = now
