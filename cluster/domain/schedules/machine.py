"""The machine of a schedule: what becomes of runs that are due. It knows no clock; ``step`` gets the time.

A commit of its effects states the schedule's revision, and its runs have ids made of schedule and due time. So each due run
starts once, whoever decides and however often.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cluster.domain.schedules.schedule import CatchUp, Overlap, Plan, Schedule, SkipReason, State

#: A run that starts this much later than it should have was missed.
GRACE_S: Final = 60.0
#: Most runs of a schedule that have not ended, of which all but one wait.
MOST_RUNS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Time has passed. ``open_runs``: those of the schedule's runs that have not ended."""

    open_runs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """Somebody wants a run at once, whatever the policies say. ``key`` names the request."""

    key: str


@dataclass(frozen=True, slots=True)
class Pause:
    pass


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another definition, by ``principal``, in whose name runs start from now on."""

    principal: str
    name: str
    plan: Plan
    template: Mapping[str, Any] = field(default_factory=dict)


Event = Due | RunNow | Pause | Resume | Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A run starts, when all of ``after`` have ended. ``late``: it is made up. ``due`` is None if somebody asked for it."""

    run: str
    due: int | None
    after: tuple[str, ...] = ()
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """An earlier run is to end."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Runs that do not start: the one due at ``first`` and those after it that are due up to ``last``."""

    first: int
    last: int
    reason: SkipReason


Effect = Fire | Cancel | Skip

#: (state, event) → the states that may follow. A pair that is not here changes nothing.
TRANSITIONS: Final[Mapping[tuple[State, type], frozenset[State]]] = {
    (State.ACTIVE, Due): frozenset({State.ACTIVE, State.ENDED}),
    (State.ACTIVE, RunNow): frozenset({State.ACTIVE}),
    (State.ACTIVE, Pause): frozenset({State.PAUSED}),
    (State.ACTIVE, Change): frozenset({State.ACTIVE, State.ENDED}),
    (State.PAUSED, RunNow): frozenset({State.PAUSED}),
    (State.PAUSED, Resume): frozenset({State.ACTIVE, State.ENDED}),
    (State.PAUSED, Change): frozenset({State.PAUSED, State.ENDED}),
    (State.ENDED, RunNow): frozenset({State.ENDED}),
    (State.ENDED, Change): frozenset({State.ACTIVE, State.PAUSED, State.ENDED}),
}


def step(schedule: Schedule, event: Event, now: float) -> tuple[Schedule, tuple[Effect, ...]]:
    """The schedule after the event, with its next revision if it has changed, and what is to be done."""
    if (schedule.state, type(event)) not in TRANSITIONS:
        return schedule, ()
    changed, effects = _apply(schedule, event, now)
    if changed == schedule:
        return schedule, ()
    return replace(changed, revision=schedule.revision + 1), effects


def _apply(schedule: Schedule, event: Event, now: float) -> tuple[Schedule, tuple[Effect, ...]]:
    match event:
        case Due():
            return _due(schedule, event.open_runs, now)
        case RunNow():
            run = schedule.run_id(event.key)
            return _started(schedule, [*schedule.runs, run], run, 1), (Fire(run=run, due=None),)
        case Pause():
            return replace(schedule, paused=True, changed_at=now), ()
        case Resume():
            # What was due during the pause is not made up: nobody wanted it.
            return replace(schedule, paused=False, changed_at=now, next_due=schedule.plan.next_after(now)), ()
        case Change():
            return _change(schedule, event, now), ()


def _change(schedule: Schedule, event: Change, now: float) -> Schedule:
    same = schedule.plan == event.plan
    return replace(
        schedule,
        principal=event.principal,
        name=event.name,
        plan=event.plan,
        template=event.template,
        changed_at=now,
        next_due=schedule.next_due if same else event.plan.next_after(max(now, schedule.last_due or now)),
        runs=() if event.plan.overlap is Overlap.ALLOW else schedule.runs,
    )


def _due(schedule: Schedule, open_runs: frozenset[str], now: float) -> tuple[Schedule, tuple[Effect, ...]]:
    ripe, skips, next_due = _ripe(schedule, now)
    if not ripe and not skips:
        return schedule, ()
    chosen, missed = _chosen(schedule, ripe, now)
    runs = [run for run in schedule.runs if run in open_runs]
    fires, refused, runs = _overlapping(schedule, chosen, runs, now)
    effects = (*_joined([*skips, *missed, *refused]), *fires)
    last = max([*ripe, *(skip.last for skip in skips)])
    fired = [effect.run for effect in fires if isinstance(effect, Fire)]
    moved = replace(schedule, next_due=next_due, last_due=last, runs=tuple(runs))
    return (_started(moved, runs, fired[-1], len(fired)) if fired else moved), effects


def _started(schedule: Schedule, runs: Sequence[str], run: str, count: int) -> Schedule:
    kept = () if schedule.plan.overlap is Overlap.ALLOW else tuple(runs)[-MOST_RUNS:]
    return replace(schedule, runs=kept, last_run=run, fired=schedule.fired + count)


def _ripe(schedule: Schedule, now: float) -> tuple[list[int], list[Skip], int | None]:
    """Due times of runs whose time to start has come, what is too old to be looked at, and the next due time."""
    due, skips = schedule.next_due, []
    oldest = now - schedule.plan.window_s - schedule.plan.jitter_s - GRACE_S
    if due is not None and due < oldest:
        skips = [Skip(first=due, last=int(oldest), reason=SkipReason.MISSED)]
        due = schedule.plan.next_after(oldest)
    ripe: list[int] = []
    while due is not None and due + schedule.jitter(due) <= now:
        ripe.append(due)
        due = schedule.plan.next_after(due)
    return ripe, skips, due


def _chosen(schedule: Schedule, ripe: Sequence[int], now: float) -> tuple[list[int], list[Skip]]:
    """Which of the runs start as far as the catch-up policy goes."""
    missed = [due for due in ripe if _is_late(schedule, due, now)]
    in_time = [due for due in ripe if not _is_late(schedule, due, now)]
    limit = {CatchUp.SKIP: 0, CatchUp.ONE: 0 if in_time else 1, CatchUp.ALL: schedule.plan.limit}[
        schedule.plan.catch_up
    ]
    within = [due for due in missed if now - due - schedule.jitter(due) <= schedule.plan.window_s]
    caught_up = list(deque(within, maxlen=limit))
    left = missed[: len(missed) - len(caught_up)]
    skips = [Skip(first=due, last=due, reason=SkipReason.MISSED) for due in left]
    return sorted([*caught_up, *in_time]), skips


def _is_late(schedule: Schedule, due: int, now: float) -> bool:
    return now - due - schedule.jitter(due) > GRACE_S


def _overlapping(
    schedule: Schedule, chosen: Sequence[int], open_runs: Sequence[str], now: float
) -> tuple[list[Fire | Cancel], list[Skip], list[str]]:
    """What the overlap policy makes of the runs, and all that may not have ended then."""
    overlap, runs = schedule.plan.overlap, list(open_runs)
    effects: list[Fire | Cancel] = []
    skips: list[Skip] = []
    for due in chosen:
        reason = None
        if (overlap is Overlap.SKIP and runs) or (overlap is Overlap.CANCEL and due != chosen[-1]):
            reason = SkipReason.OVERLAP
        elif overlap is Overlap.QUEUE and len(runs) >= MOST_RUNS:
            reason = SkipReason.QUEUE_FULL
        if reason is not None:
            skips.append(Skip(first=due, last=due, reason=reason))
            continue
        after: tuple[str, ...] = ()
        if overlap is Overlap.QUEUE:
            after = tuple(runs[-1:])
        elif overlap is Overlap.CANCEL:
            effects += [Cancel(run=run) for run in runs]
            after = tuple(runs)
        run = schedule.run_id(str(due))
        effects.append(Fire(run=run, due=due, after=after, late=_is_late(schedule, due, now)))
        runs.append(run)
    return effects, skips, runs


def _joined(skips: Sequence[Skip]) -> list[Skip]:
    """Neighbours of one reason as one, so that an outage is one row of the log and not thousands."""
    joined: list[Skip] = []
    for skip in sorted(skips, key=lambda skip: skip.first):
        if joined and joined[-1].reason is skip.reason:
            joined[-1] = replace(joined[-1], last=max(joined[-1].last, skip.last))
        else:
            joined.append(skip)
    return joined
