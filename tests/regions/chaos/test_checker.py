"""Each check of a history of regions finds what it is named after, and nothing in a history that is right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.regions.chaos.checker import check, lost
from tests.regions.chaos.history import Acknowledged, Fault, FinalRegion, History, LogRow, Read
from tests.regions.chaos.run import rto


def _row(seq: int, epoch: int, task_id: str) -> LogRow:
    return LogRow(seq=seq, epoch=epoch, at=float(seq), kind="task.submitted", entity=task_id, digest=f"d{seq}")


LOG = (_row(1, 1, "t1"), _row(2, 1, "t2"), _row(3, 2, "t3"))
EAST = FinalRegion(name="east", log=LOG, tasks={"t1": "k1", "t2": "k2", "t3": "k3"}, tables={"tasks": "same"})
WRITES = [
    Acknowledged(key=f"k{n}", task_id=f"t{n}", region=region, epoch=epoch, sent=n - 0.5, answered=n)
    for n, region, epoch in ((1, "east", 1), (2, "east", 1), (3, "west", 2))
]
READ = Read(region="west", after=1, at=3.0, rows=((2, 1, "d2"), (3, 2, "d3")))
FAULT = Fault(name="kill", victim="east", began=2.0, healed=2.5, whole=4.0)


def _history() -> History:
    regions = [EAST, replace(EAST, name="west")]
    return History(acknowledged=list(WRITES), reads=[READ], faults=[FAULT], regions=regions, primary="west")


def test_a_history_that_is_right_has_no_violation() -> None:
    assert check(_history()) == []
    assert rto(_history(), FAULT) == 1.0


def _two_primaries(history: History) -> None:
    history.acknowledged[2] = replace(WRITES[2], epoch=1)


def _older_fence(history: History) -> None:
    history.acknowledged.append(replace(WRITES[0], sent=3.5, answered=4.0))


def _late_surplus(history: History) -> None:
    history.regions[0] = replace(EAST, surplus=(replace(_row(3, 1, "late"), at=3.5),))


def _lost_write(history: History) -> None:
    history.acknowledged.append(replace(WRITES[2], key="k4", task_id="t4"))
    assert lost(history) == {"t4"}


def _other_table(history: History) -> None:
    history.regions[0] = replace(EAST, tables={"tasks": "other"})


def _twice_in_the_log(history: History) -> None:
    history.regions[0] = replace(EAST, log=(*LOG, _row(4, 2, "t3")))


def _two_tasks(history: History) -> None:
    history.acknowledged.append(replace(WRITES[2], key="k1"))


def _gap(history: History) -> None:
    history.regions[0] = replace(EAST, log=(LOG[0], LOG[2]), tasks={"t1": "k1", "t3": "k3"})


def _cursor(history: History) -> None:
    history.reads[0] = replace(READ, rows=READ.rows[1:])


def _chain(history: History) -> None:
    history.regions[0] = replace(EAST, chain_fault="row 2 was changed")


def _never_whole(history: History) -> None:
    history.faults[0] = replace(FAULT, whole=None)


def _no_end(history: History) -> None:
    history.regions = []


def _seen(history: History) -> None:
    history.reads[0] = replace(READ, rows=(*READ.rows, (4, 2, "d4")))


@pytest.mark.parametrize(
    ("invariant", "breaks"),
    [
        *(("I1", broken) for broken in (_two_primaries, _older_fence, _late_surplus)),
        *(("I2", broken) for broken in (_lost_write, _other_table)),
        ("I3", _twice_in_the_log),
        ("I4", _two_tasks),
        *(("I5", broken) for broken in (_gap, _cursor)),
        ("I7", _chain),
        *(("I10", broken) for broken in (_never_whole, _no_end)),
        ("I11", _seen),
    ],
)
def test_a_violation_is_found_by_its_name(invariant: str, breaks: object) -> None:
    history = _history()
    breaks(history)  # type: ignore[operator]
    assert invariant in {violation.invariant for violation in check(history)}
