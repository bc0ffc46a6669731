"""Whether a history is one that the control plane promises. Pure: reads a ``History``, says what was violated.

Checks are named after the invariant that they hold:

- ``lost`` an answered submit is a task that can be read, and its row is in the log
- ``idempotency`` one key, one task, also where the first answer was lost
- ``terminal`` every task ends exactly once, and as its row in the log says
- ``completion`` at most one report ends a task, and what was answered ``ok`` is in the log for that very attempt
- ``superseded`` nobody's report counts after another holder had the lease
- ``lease`` every lease that was handed out is in the log, and no attempt was handed to two agents
- ``sequence`` the log has no gap and no doubled number, and a client that follows it misses nothing
- ``machine`` each task's events are a path through the task machine's table
- ``order`` tasks of one priority are first claimed in the order in which they were committed
- ``fairness`` groups that all have work waiting get their shares
- ``workers`` nothing ends a shipped worker but a signal, and then it leaves the fleet
- ``calls`` no call fails but as the fault of its time allows
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.tasks.machine import TRANSITIONS, TransitionRule
from cluster.domain.tasks.phases import TERMINAL, TaskPhase
from cluster.process.waits import AWAY_S, HOLD_S
from tests.chaos.history import FAILED, Answer, Call, Fault, History, LogEvent, Outcome, Reported, ReportKind

#: Share error that is accepted, and how many dispatches it takes to speak of a share.
SHARE_ERROR = 0.10
SHARE_DISPATCHES = 150
#: After what was taken away serves again: connections that were opened before may still be found dead.
GRACE_S = 2.0

_ENDS = {
    "task.completed": TaskPhase.COMPLETED,
    "task.failed": TaskPhase.FAILED,
    "task.dead_lettered": TaskPhase.FAILED,
    "task.cancelled": TaskPhase.CANCELLED,
    "task.timeout": TaskPhase.TIMEOUT,
}
_FAILURES = ("task.retried", "task.failed", "task.dead_lettered", "task.cancelled")

#: Fault → how calls may fail while it lasts. A fault that is not named here excuses nothing.
ALLOWED: Mapping[str, tuple[Answer, ...]] = {
    "postgres-kill": (Answer.TRY_LATER,),
    "postgres-hang": (Answer.TRY_LATER,),
    "postgres-outage": (Answer.TRY_LATER,),
    "kill-api": (Answer.TRY_LATER, Answer.BROKEN, Answer.CUT),
    "kill-scheduler": (Answer.TRY_LATER,),
    "freeze-scheduler": (Answer.TRY_LATER,),
    "two-generations": (Answer.TRY_LATER,),
    "new-version": (Answer.TRY_LATER,),
}
#: Faults of an actor excuse nothing before the API has waited so long for its successor, or for one that runs.
HELD: Mapping[str, float] = {
    "kill-scheduler": HOLD_S,
    **dict.fromkeys(("freeze-scheduler", "two-generations", "new-version"), AWAY_S - 0.1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """``at`` on the history's clock, where the history tells it."""

    check: str
    message: str
    at: float | None = None


def check(history: History) -> list[Violation]:
    return [violation for find in CHECKS for violation in find(history)]


def lost(history: History) -> Iterator[Violation]:
    there = {task.id for task in history.tasks}
    logged = {event.entity for event in history.log if event.kind == "task.submitted"}
    for submit in history.submits:
        if submit.task_id is None:
            continue
        for where, found in (("tasks", there), ("log", logged)):
            if submit.task_id not in found:
                yield Violation(check="lost", message=f"{submit.task_id} is not in the {where}", at=submit.answered)


def idempotency(history: History) -> Iterator[Violation]:
    ids: dict[str, set[str]] = defaultdict(set)
    for submit in history.submits:
        if submit.task_id is not None:
            ids[submit.key].add(submit.task_id)
    for task in history.tasks:
        ids[task.key].add(task.id)
    for key, found in ids.items():
        if len(found) > 1:
            yield Violation(check="idempotency", message=f"key {key} made {sorted(found)}")


def terminal(history: History) -> Iterator[Violation]:
    ends: dict[str, list[str]] = defaultdict(list)
    for event in history.log:
        if event.kind in _ENDS:
            ends[event.entity].append(event.kind)
    for task in history.tasks:
        kinds = ends.pop(task.id, [])
        if len(kinds) != 1:
            yield Violation(
                check="terminal", message=f"{task.id} is {task.status} and ended {len(kinds)} times: {kinds}"
            )
        elif _ENDS[kinds[0]].value != task.status:
            yield Violation(check="terminal", message=f"{task.id} is {task.status} and its log says {kinds[0]}")
    for task_id in ends:
        yield Violation(check="terminal", message=f"{task_id} ended in the log and is not listed")


def completion(history: History) -> Iterator[Violation]:
    logged: dict[tuple[str, int | None], list[LogEvent]] = defaultdict(list)
    for event in history.log:
        logged[event.entity, event.attempt].append(event)
    winners: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for report in history.reports:
        if report.outcome is not Outcome.OK:
            continue
        if report.kind is ReportKind.COMPLETE:
            winners[report.task_id].add((report.attempt, report.agent))
        if not any(_is_of(event, report) for event in logged[report.task_id, report.attempt]):
            message = f"{report.kind} of {report.task_id} attempt {report.attempt} by {report.agent} is not in the log"
            yield Violation(check="completion", message=message, at=report.answered)
    for task_id, holders in winners.items():
        if len(holders) > 1:
            yield Violation(check="completion", message=f"{task_id} was completed by {sorted(holders)}")


def _is_of(event: LogEvent, report: Reported) -> bool:
    kinds = ("task.completed",) if report.kind is ReportKind.COMPLETE else _FAILURES
    return event.kind in kinds and event.agent == report.agent


def superseded(history: History) -> Iterator[Violation]:
    """The client that held a later attempt had its answer before the report was sent."""
    handed: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    for claim in history.claims:
        for lease in claim.leases:
            handed[lease.task_id].append((lease.attempt, claim.answered, claim.agent))
    for report in history.reports:
        if report.outcome is not Outcome.OK:
            continue
        for attempt, answered, agent in handed[report.task_id]:
            if attempt > report.attempt and answered < report.sent:
                message = (
                    f"{report.task_id}: {report.agent} reported attempt {report.attempt} while {agent} had {attempt}"
                )
                yield Violation(check="superseded", message=message, at=report.sent)
                break


def lease(history: History) -> Iterator[Violation]:
    logged = {(e.entity, e.attempt): e.agent for e in history.log if e.kind == "task.claimed"}
    for claim in history.claims:
        for lease in claim.leases:
            holder = logged.get((lease.task_id, lease.attempt))
            if holder != claim.agent:
                message = f"{lease.task_id} attempt {lease.attempt} was handed to {claim.agent}, the log names {holder}"
                yield Violation(check="lease", message=message, at=claim.answered)


def sequence(history: History) -> Iterator[Violation]:
    seen = [event.seq for event in history.log]
    if seen != sorted(seen):
        yield Violation(check="sequence", message="the stream is not in order")
    everything = sorted([*seen, *history.other_seqs])
    for before, after in itertools.pairwise(everything):
        if after != before + 1:
            what = "is there twice" if after == before else f"is followed by {after}"
            yield Violation(check="sequence", message=f"{before} {what}")
    if everything and everything[0] != 1:
        yield Violation(check="sequence", message=f"the log begins with {everything[0]}")
    yield from _followed(seen, history.followed)


def _followed(seen: Sequence[int], followed: Sequence[int]) -> Iterator[Violation]:
    if not followed:
        return
    expected = [seq for seq in seen if followed[0] <= seq <= followed[-1]]
    if list(followed) != expected:
        wrong = next((f for f, e in zip(followed, expected, strict=False) if f != e), "the end")
        yield Violation(check="sequence", message=f"who followed the stream saw another sequence from {wrong} on")


def machine(history: History) -> Iterator[Violation]:
    """Several phases may explain what was seen so far; none means that the table has no such path."""
    phases: dict[str, set[TaskPhase]] = {}
    attempts: dict[str, int] = {}
    for event in history.log:
        if not event.kind.startswith("task."):
            continue
        task_id = event.entity
        before = phases.get(task_id)
        phases[task_id] = after = _next(before, event.kind)
        attempt = attempts.get(task_id, 0) + (event.kind == "task.claimed")
        attempts[task_id] = attempt
        if not after:
            known = "nothing" if before is None else "/".join(sorted(before))
            yield Violation(check="machine", message=f"{task_id}: {event.kind} (seq {event.seq}) follows {known}")
        elif (event.attempt or 0) != attempt:
            message = f"{task_id}: {event.kind} (seq {event.seq}) is of attempt {event.attempt}, not {attempt}"
            yield Violation(check="machine", message=message)


def _next(phases: set[TaskPhase] | None, kind: str) -> set[TaskPhase]:
    if phases is None:
        return {TaskPhase.PENDING} if kind == "task.submitted" else set()
    end = _ENDS.get(kind)
    return {
        to
        for (phase, _), rule in TRANSITIONS.items()
        if phase in phases and isinstance(rule, TransitionRule) and kind in rule.kinds
        for to in rule.to
        if to is end or (end is None and to not in TERMINAL)
    }


def order(history: History) -> Iterator[Violation]:
    ordered = {task.id for task in history.tasks if task.group == history.ordered_group}
    seq_of = {e.entity: e.seq for e in history.log if e.kind == "task.submitted" and e.entity in ordered}
    newest, first = 0, ""
    for event in history.log:
        if event.kind != "task.claimed" or event.attempt != 1 or event.entity not in seq_of:
            continue
        if seq_of[event.entity] < newest:
            yield Violation(check="order", message=f"{event.entity} was claimed after the younger {first}")
        else:
            newest, first = seq_of[event.entity], event.entity


def share_error(history: History) -> tuple[float, int] | None:
    """(largest relative error of a group's share, dispatches) while every group had work waiting; None: too few."""
    group_of = {task.id: task.group for task in history.tasks if task.group in history.expected_shares}
    waiting: dict[str, int] = defaultdict(int)
    for group in group_of.values():
        waiting[group] += 1
    got: dict[str, int] = dict.fromkeys(history.expected_shares, 0)
    for event in history.log:
        group = group_of.get(event.entity)
        if group is None or event.kind != "task.claimed":
            continue
        got[group] += 1
        waiting[group] -= event.attempt == 1
        if waiting[group] == 0:
            break
    total = sum(got.values())
    if total < SHARE_DISPATCHES:
        return None
    errors = [abs(got[group] / total - share) / share for group, share in history.expected_shares.items()]
    return max(errors), total


def fairness(history: History) -> Iterator[Violation]:
    found = share_error(history)
    if found is not None and found[0] > SHARE_ERROR:
        message = f"a group's share is {found[0]:.0%} off over {found[1]} dispatches"
        yield Violation(check="fairness", message=message)


def workers(history: History) -> Iterator[Violation]:
    for end in history.worker_ends:
        if not end.told:
            yield Violation(check="workers", message=f"{end.agent} ended by itself with {end.code}")
        elif end.code != 0:
            yield Violation(check="workers", message=f"{end.agent} was told to end and ended with {end.code}")
        elif end.agent in history.fleet:
            yield Violation(check="workers", message=f"{end.agent} has ended and is still in the fleet")


def calls(history: History) -> Iterator[Violation]:
    for call in history.calls:
        if call.answer in FAILED and not any(_excuses(fault, call) for fault in history.faults):
            message = f"{call.name} failed ({call.answer}: {call.detail}) after {call.ended - call.sent:.1f} s"
            yield Violation(check="calls", message=message, at=call.sent)


def _excuses(fault: Fault, call: Call) -> bool:
    meanwhile = call.ended >= fault.began + HELD.get(fault.name, 0.0) and call.sent <= fault.healed + GRACE_S
    return meanwhile and call.answer in ALLOWED.get(fault.name, ())


CHECKS: tuple[Callable[[History], Iterable[Violation]], ...] = (
    lost,
    idempotency,
    terminal,
    completion,
    superseded,
    lease,
    sequence,
    machine,
    order,
    fairness,
    workers,
    calls,
)
