"""Each check of the chaos harness finds the fault that it is there for, and nothing in a good history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.process.waits import AWAY_S, HOLD_S
from tests.chaos.checker import CHECKS, check, share_error
from tests.chaos.history import (
    Answer,
    Call,
    Claimed,
    Fault,
    FinalTask,
    History,
    Leased,
    LogEvent,
    Outcome,
    Reported,
    ReportKind,
    Submit,
    WorkerEnd,
)


def _log(*rows: tuple[str, str, int, str | None]) -> list[LogEvent]:
    return [
        LogEvent(seq=seq, kind=f"task.{kind}", entity=entity, attempt=attempt, agent=agent)
        for seq, (kind, entity, attempt, agent) in enumerate(rows, 1)
    ]


def _claim(agent: str, task_id: str, attempt: int, at: float) -> Claimed:
    leases = [Leased(task_id=task_id, attempt=attempt, token=f"{task_id}/{attempt}")]
    return Claimed(agent=agent, claim_id=f"{agent}-{at}", sent=at - 0.1, answered=at, leases=leases)


def _report(kind: ReportKind, task_id: str, attempt: int, agent: str, at: float, outcome: Outcome) -> Reported:
    return Reported(
        kind=kind, task_id=task_id, attempt=attempt, agent=agent, sent=at, answered=at + 0.1, outcome=outcome
    )


COMPLETE, FAIL = ReportKind.COMPLETE, ReportKind.FAIL


def good() -> History:
    """t1: a holder that went silent, and its successor. t2: failed once. Both in submit order."""
    return History(
        submits=[
            Submit(key="k1", group="order", sent=0.0, answered=0.1, task_id="t1"),
            Submit(key="k1", group="order", sent=0.2, answered=0.3, task_id="t1"),
            Submit(key="k2", group="order", sent=0.4, answered=0.5, task_id="t2"),
            Submit(key="k3", group="order", sent=0.4),
        ],
        claims=[
            _claim("a", "t1", 1, 1.0),
            _claim("b", "t1", 2, 5.0),
            _claim("b", "t2", 1, 6.0),
            _claim("a", "t2", 2, 8.0),
        ],
        reports=[
            _report(COMPLETE, "t1", 1, "a", 6.0, Outcome.LEASE_LOST),
            _report(COMPLETE, "t1", 2, "b", 6.1, Outcome.OK),
            _report(FAIL, "t2", 1, "b", 7.0, Outcome.OK),
            _report(COMPLETE, "t2", 2, "a", 8.5, Outcome.UNKNOWN),
        ],
        log=_log(
            ("submitted", "t1", 0, None),
            ("submitted", "t2", 0, None),
            ("claimed", "t1", 1, "a"),
            ("requeued", "t1", 1, "a"),
            ("claimed", "t1", 2, "b"),
            ("claimed", "t2", 1, "b"),
            ("completed", "t1", 2, "b"),
            ("retried", "t2", 1, "b"),
            ("claimed", "t2", 2, "a"),
            ("completed", "t2", 2, "a"),
        ),
        followed=[2, 3, 4, 5, 6, 7, 8],
        tasks=[
            FinalTask(id="t1", status="completed", attempt=2, key="k1", group="order"),
            FinalTask(id="t2", status="completed", attempt=2, key="k2", group="order"),
        ],
        faults=[
            Fault(name="postgres-kill", began=10.0, healed=12.0),
            Fault(name="kill-scheduler", began=20.0, healed=22.0),
        ],
        calls=[
            Call(name="submit", sent=0.0, ended=0.1, answer=Answer.OK),
            Call(name="report", sent=6.0, ended=6.1, answer=Answer.REFUSED),
            Call(name="submit", sent=9.9, ended=10.3, answer=Answer.TRY_LATER),
        ],
        worker_ends=[WorkerEnd(agent="w0", told=True, code=0)],
        fleet={"a", "b"},
    )


def _found(history: History) -> set[str]:
    return {violation.check for violation in check(history)}


def _event(history: History, index: int, /, **changes: object) -> None:
    history.log[index - 1] = replace(history.log[index - 1], **changes)  # type: ignore[arg-type]


def _call(sent: float, answer: Answer) -> Call:
    return Call(name="claim", sent=sent, ended=sent + 0.1, answer=answer)


def test_a_good_history_passes() -> None:
    assert check(good()) == []


@pytest.mark.parametrize(("fault", "held_s"), [("freeze-scheduler", AWAY_S), ("kill-scheduler", HOLD_S)])
def test_a_call_may_be_refused_after_it_was_held_for_the_shard(fault: str, held_s: float) -> None:
    history = good()
    history.faults.append(Fault(name=fault, began=30.0, healed=42.0))
    history.calls.append(Call(name="claim", sent=30.1, ended=30.0 + held_s, answer=Answer.TRY_LATER))
    assert check(history) == []
    history.calls.append(Call(name="claim", sent=30.1, ended=29.8 + held_s, answer=Answer.TRY_LATER))
    assert [violation.check for violation in check(history)] == ["calls"]


def _lost_task(history: History) -> None:
    history.submits.append(Submit(key="k9", group="load", sent=1.0, answered=1.1, task_id="t9"))


def _one_key_two_answers(history: History) -> None:
    history.submits.append(Submit(key="k1", group="order", sent=1.0, answered=1.1, task_id="t2"))


def _one_key_two_tasks_though_one_answer_was_lost(history: History) -> None:
    history.tasks[1] = replace(history.tasks[1], key="k1")
    history.submits = history.submits[:2]


def _never_ended(history: History) -> None:
    history.log.pop()


def _ended_twice(history: History) -> None:
    history.log.append(LogEvent(seq=11, kind="task.completed", entity="t1", attempt=2, agent="b"))


def _ended_otherwise(history: History) -> None:
    history.tasks[0] = replace(history.tasks[0], status="failed")


def _answered_ok_and_forgotten(history: History) -> None:
    history.reports[2] = replace(history.reports[2], attempt=3)


def _completed_by_two(history: History) -> None:
    history.reports[0] = replace(history.reports[0], outcome=Outcome.OK)


def _zombie_reported_a_failure(history: History) -> None:
    history.reports.append(_report(FAIL, "t2", 1, "b", 8.2, Outcome.OK))


def _lease_without_a_row(history: History) -> None:
    history.claims.append(_claim("c", "t2", 3, 9.0))


def _one_attempt_two_holders(history: History) -> None:
    history.claims.append(_claim("c", "t1", 2, 5.1))


def _gap(history: History) -> None:
    _event(history, 10, seq=11)


def _doubled_number(history: History) -> None:
    history.other_seqs.append(4)


def _missed_while_following(history: History) -> None:
    history.followed.remove(5)


def _claimed_while_running(history: History) -> None:
    _event(history, 4, kind="task.cancel_delivered")


def _attempt_skipped(history: History) -> None:
    _event(history, 9, attempt=3)


def _younger_first(history: History) -> None:
    _event(history, 1, entity="t2")
    _event(history, 2, entity="t1")


def _call_failed_without_a_fault(history: History) -> None:
    history.calls.append(_call(15.0, Answer.TRY_LATER))


def _call_failed_because_of_a_shard(history: History) -> None:
    history.calls.append(_call(21.0, Answer.TRY_LATER))


def _not_told_when_to_come_again(history: History) -> None:
    history.calls.append(_call(11.0, Answer.BROKEN))


def _worker_ended_by_itself(history: History) -> None:
    history.worker_ends.append(WorkerEnd(agent="w1", told=False, code=0))


def _worker_ended_with_an_error(history: History) -> None:
    history.worker_ends.append(WorkerEnd(agent="w1", told=True, code=-9))


def _worker_left_its_agent_behind(history: History) -> None:
    history.fleet.add("w0")


PLANTED = {
    _lost_task: "lost",
    _one_key_two_answers: "idempotency",
    _one_key_two_tasks_though_one_answer_was_lost: "idempotency",
    _never_ended: "terminal",
    _ended_twice: "terminal",
    _ended_otherwise: "terminal",
    _answered_ok_and_forgotten: "completion",
    _completed_by_two: "completion",
    _zombie_reported_a_failure: "superseded",
    _lease_without_a_row: "lease",
    _one_attempt_two_holders: "lease",
    _gap: "sequence",
    _doubled_number: "sequence",
    _missed_while_following: "sequence",
    _claimed_while_running: "machine",
    _attempt_skipped: "machine",
    _younger_first: "order",
    _call_failed_without_a_fault: "calls",
    _call_failed_because_of_a_shard: "calls",
    _not_told_when_to_come_again: "calls",
    _worker_ended_by_itself: "workers",
    _worker_ended_with_an_error: "workers",
    _worker_left_its_agent_behind: "workers",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_violation_is_found(plant: object) -> None:
    history = good()
    plant(history)  # type: ignore[operator]
    assert PLANTED[plant] in _found(history)  # type: ignore[index]


@pytest.mark.parametrize(("turns", "fair"), [("ab" * 100, True), ("aab" * 70, False)])
def test_shares_are_measured_while_both_have_work(turns: str, fair: bool) -> None:
    history = History(expected_shares={"a": 0.5, "b": 0.5})
    for index, group in enumerate(turns):
        history.tasks.append(FinalTask(id=f"t{index}", status="x", attempt=1, key=str(index), group=group))
    history.tasks += [FinalTask(id=f"w{g}", status="x", attempt=0, key=g, group=g) for g in "ab"]
    history.log = _log(*(("claimed", f"t{index}", 1, "agent") for index in range(len(turns))))
    found = share_error(history)
    assert found is not None
    assert found[1] == len(turns)
    assert ("fairness" in _found(history)) is not fair


def test_every_check_has_a_planted_violation() -> None:
    assert {find.__name__ for find in CHECKS} == {*PLANTED.values(), "fairness"}
