"""The machine of schedules: each due run is decided once, however time passes and whatever happens in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.schedules.machine import (
    GRACE_S,
    MOST_RUNS,
    TRANSITIONS,
    Cancel,
    Change,
    Due,
    Fire,
    Pause,
    Resume,
    RunNow,
    Skip,
    step,
)
from cluster.domain.schedules.schedule import CatchUp, Overlap, Plan, RunKind, Schedule, SkipReason, State, checked
from cluster.domain.schedules.timing import interval

EVERY = 100
EVENTS = (Due(), RunNow(key="k"), Pause(), Resume(), Change(principal="q", name="n", plan=Plan(timing=interval(50, 0))))


def a_schedule(**plan: Any) -> Schedule:
    plan = {"timing": interval(EVERY, 0)} | plan
    return Schedule(
        id="sched_1",
        workspace="w",
        principal="p",
        name="",
        plan=Plan(**plan),
        template={"task": {}},
        created_at=0.0,
        changed_at=0.0,
        next_due=EVERY,
    )


def fired(effects: Any) -> list[int | None]:
    return [effect.due for effect in effects if isinstance(effect, Fire)]


def skipped(effects: Any) -> list[Skip]:
    return [effect for effect in effects if isinstance(effect, Skip)]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=[type(event).__name__ for event in EVENTS])
def test_steps_end_in_a_state_of_the_table(state: State, event: Any) -> None:
    ended = Plan(timing=interval(EVERY, 0), ends_at=0.0)
    one_more = Plan(timing=interval(EVERY, 0), ends_at=150.0)
    changes = (event, Change(principal="q", name="n", plan=ended)) if isinstance(event, Change) else (event,)
    seen: set[State] = set()
    for plan in (Plan(timing=interval(EVERY, 0)), one_more):
        for change in changes:
            before = replace(
                a_schedule(), plan=plan, paused=state is State.PAUSED, next_due=None if state is State.ENDED else EVERY
            )
            for paused in (True, False) if state is State.ENDED else (before.paused,):
                after, _ = step(replace(before, paused=paused), change, 160.0)
                if after.revision != before.revision:
                    seen.add(after.state)
    assert seen == TRANSITIONS.get((state, type(event)), frozenset())


def test_a_run_in_time_starts_once() -> None:
    schedule, effects = step(a_schedule(), Due(), 100.0)
    assert fired(effects) == [100]
    assert (schedule.next_due, schedule.last_due, schedule.revision) == (200, 100, 2)
    assert step(schedule, Due(), 100.0) == (schedule, ())


def test_the_id_of_a_run_is_that_of_its_due_time() -> None:
    _, first = step(a_schedule(), Due(), 100.0)
    _, again = step(a_schedule(), Due(), 130.0)
    _, later = step(replace(a_schedule(), next_due=200), Due(), 200.0)
    assert first == again
    assert first != later


@pytest.mark.parametrize(
    ("catch_up", "starts", "leaves"),
    [
        (CatchUp.SKIP, [1000], [(100, 900)]),
        (CatchUp.ONE, [1000], [(100, 900)]),
        (CatchUp.ALL, [800, 900, 1000], [(100, 700)]),
    ],
    ids=list(CatchUp),
)
def test_missed_runs_follow_the_catch_up_policy(catch_up: CatchUp, starts: list[int], leaves: list[Any]) -> None:
    _, effects = step(a_schedule(catch_up=catch_up, limit=2, overlap=Overlap.ALLOW), Due(), 1000.0)
    assert fired(effects) == starts
    assert [(skip.first, skip.last) for skip in skipped(effects)] == leaves


def test_one_run_is_made_up_if_none_is_in_time() -> None:
    _, effects = step(a_schedule(catch_up=CatchUp.ONE), Due(), 1000.0 + GRACE_S + 10)
    assert fired(effects) == [1000]
    assert [effect.late for effect in effects if isinstance(effect, Fire)] == [True]


def test_what_is_older_than_the_window_is_not_made_up() -> None:
    plan = {"catch_up": CatchUp.ALL, "window_s": 250.0, "overlap": Overlap.ALLOW}
    _, effects = step(a_schedule(**plan), Due(), 100_000.0)
    assert fired(effects) == [99_800, 99_900, 100_000]


def test_an_old_schedule_is_looked_at_within_its_window() -> None:
    """Years of an interval of ten seconds are passed over at once."""
    plan = a_schedule(timing=interval(10, 0), catch_up=CatchUp.ALL, window_s=60.0)
    schedule, effects = step(plan, Due(), 1e9)
    assert schedule.next_due == 10**9 + 10
    assert skipped(effects)[0].first == 100


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.SKIP, [Skip(first=200, last=200, reason=SkipReason.OVERLAP)]),
        (Overlap.QUEUE, [("fire", ("run",))]),
        (Overlap.CANCEL, [Cancel(run="run"), ("fire", ("run",))]),
        (Overlap.ALLOW, [("fire", ())]),
    ],
    ids=list(Overlap),
)
def test_a_run_that_has_not_ended_is_met_by_policy(overlap: Overlap, expected: list[Any]) -> None:
    schedule = replace(a_schedule(overlap=overlap), next_due=200, runs=("run", "ended"))
    _, effects = step(schedule, Due(open_runs=frozenset({"run"})), 200.0)
    assert [("fire", effect.after) if isinstance(effect, Fire) else effect for effect in effects] == expected


def test_runs_that_have_ended_hold_nobody_up() -> None:
    schedule = replace(a_schedule(), runs=("ended",))
    after, effects = step(schedule, Due(), 100.0)
    assert fired(effects) == [100]
    assert len(after.runs) == 1


def test_the_queue_of_runs_has_a_bound() -> None:
    runs = tuple(str(n) for n in range(MOST_RUNS))
    _, effects = step(replace(a_schedule(overlap=Overlap.QUEUE), runs=runs), Due(open_runs=frozenset(runs)), 100.0)
    assert effects == (Skip(first=100, last=100, reason=SkipReason.QUEUE_FULL),)


def test_what_a_pause_covers_is_not_made_up() -> None:
    paused, _ = step(a_schedule(catch_up=CatchUp.ALL), Pause(), 50.0)
    assert paused.fire_at is None
    assert step(paused, Due(), 400.0) == (paused, ())
    resumed, effects = step(paused, Resume(), 450.0)
    assert (resumed.next_due, effects) == (500, ())


def test_a_change_of_the_template_alone_keeps_what_is_due() -> None:
    schedule = a_schedule()
    changed, _ = step(schedule, Change(principal="q", name="n", plan=schedule.plan, template={"task": {"x": 1}}), 150.0)
    assert changed.next_due == EVERY


def test_a_change_of_the_plan_runs_nothing_twice() -> None:
    schedule = replace(a_schedule(), next_due=300, last_due=200)
    changed, _ = step(schedule, Change(principal="q", name="", plan=Plan(timing=interval(50, 0))), 120.0)
    assert changed.next_due == 250


def test_a_run_on_demand_ignores_pause_and_overlap() -> None:
    schedule = replace(a_schedule(), paused=True, runs=("open",))
    after, effects = step(schedule, RunNow(key="once"), 50.0)
    assert effects == (Fire(run=schedule.run_id("once"), due=None),)
    assert after.next_due == EVERY
    assert after.runs == ("open", schedule.run_id("once"))


def test_starts_and_ends_bound_the_due_times() -> None:
    plan = Plan(timing=interval(EVERY, 0), starts_at=200.0, ends_at=400.0)
    assert [due for due, _ in replace(a_schedule(), plan=plan).preview(0.0, 10)] == [200, 300]


def test_plans_that_never_run_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="ends_at"):
        checked(Plan(timing=interval(EVERY, 0), ends_at=50.0), 0.0, RunKind.TASK)
    for kind in (RunKind.DELIBERATION, RunKind.WORKFLOW):
        with pytest.raises(InvalidRequest, match="queue"):
            checked(Plan(timing=interval(EVERY, 0), overlap=Overlap.QUEUE), 0.0, kind)


def test_jitter_is_the_same_whenever_it_is_asked() -> None:
    schedule = a_schedule(jitter_s=50.0)
    jitters = {schedule.jitter(due) for due in range(0, 10_000, 100)}
    assert schedule.jitter(100) == schedule.jitter(100)
    assert len(jitters) == 100
    assert all(0 <= jitter < 50 for jitter in jitters)
    assert schedule.fire_at == 100 + schedule.jitter(100)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(CatchUp),
    st.sampled_from(Overlap),
    st.floats(0, 150),
    st.lists(
        st.tuples(st.integers(1, 700), st.sampled_from(["due", "due", "due", "pause", "resume", "end"])), max_size=12
    ),
)
def test_each_due_time_is_fired_or_skipped_once(
    catch_up: CatchUp, overlap: Overlap, jitter: float, moves: list[tuple[int, str]]
) -> None:
    """However late and often the machine is asked: no due time is decided twice, and each that had come while the schedule was
    active is decided."""
    schedule = a_schedule(catch_up=catch_up, overlap=overlap, jitter_s=jitter, limit=3)
    now, decided, began = 0, set[int](), 0
    open_runs: set[str] = set()
    for passed, move in moves:
        now += passed
        if move == "end":
            open_runs.clear()
        event = {"pause": Pause(), "resume": Resume()}.get(move, Due(open_runs=frozenset(open_runs)))
        before = schedule
        schedule, effects = step(schedule, event, float(now))
        if move == "resume" and before.paused:
            began = now
            decided = set(range(EVERY, now + 1, EVERY))  # those of the pause are nobody's
            continue
        for effect in effects:
            times = (
                range(effect.first, effect.last + 1, EVERY)
                if isinstance(effect, Skip)
                else [effect.due]
                if isinstance(effect, Fire)
                else []
            )
            for due in times:
                assert due not in decided
                decided.add(due)
            if isinstance(effect, Fire):
                open_runs.add(effect.run)
        if isinstance(event, Due) and not schedule.paused:
            ripe = {due for due in range(EVERY, now + 1, EVERY) if due + jitter <= now and due > began}
            assert ripe <= decided
