"""A long measurement plays each fault as often as it is asked, however often it is broken off."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.regions import counts
from tests.regions.chaos.history import Acknowledged, Fault, FinalRegion, History
from tests.regions.chaos.nemesis import KINDS
from tests.regions.chaos.page import faults_table
from tests.regions.chaos.run import report, rpo


def a_run(*names: str) -> dict[str, Any]:
    return {"rows": [{"name": name, "rto_s": [1.0] * count} for name, count in Counter(names).items()]}


def test_the_counts_are_those_of_the_issue() -> None:
    often = counts.wanted(50, 15)
    assert often.pop(counts.LOSS) == 50
    assert set(often.values()) == {15}
    assert often.keys() | {counts.LOSS} == set(KINDS)
    assert counts.wanted(2, 0, [counts.LOSS]) == {counts.LOSS: 2}


@pytest.mark.parametrize("played", [0, 1, 7, 20])
def test_what_was_broken_off_goes_on_to_the_same_counts(played: int) -> None:
    often = {"a": 5, "b": 3, "c": 0}
    runs: list[dict[str, Any]] = []
    while rest := counts.left(often, counts.done(runs), seed=1):
        runs.append(a_run(*rest[: max(1, played)]))
    assert counts.done(runs) == Counter(a=5, b=3)


def test_an_order_is_drawn_again_from_its_seed() -> None:
    often = counts.wanted(50, 15)
    first = counts.left(often, {}, 1)
    assert (first == counts.left(often, {}, 1), first == counts.left(often, {}, 2)) == (True, False)
    assert Counter(first) == Counter(often)


def test_a_lost_write_counts_for_the_fault_that_cost_it() -> None:
    faults = [
        Fault(name=name, victim="east", began=at, healed=at + 1, whole=at + 2)
        for name, at in (("reset", 10.0), ("half open", 20.0), ("reset", 30.0))
    ]
    acknowledged = [
        Acknowledged(key=key, task_id=key, region="east", epoch=1, sent=at, answered=at)
        for key, at in (("t1", 5.0), ("t2", 11.0), ("t3", 15.0), ("t4", 25.0), ("t5", 40.0))
    ]
    last = FinalRegion(name="east", log=(), tasks={"t1": "t1"}, tables={}, surplus=(), chain_fault=None)
    history = History(faults=faults, acknowledged=acknowledged, regions=[last], primary="east")
    assert rpo(history, {"t2", "t3", "t4", "t5"}) == [1, 1, 2]
    rows = {row["name"]: row["lost"] for row in report(1, history, [])["rows"]}
    assert rows == {"reset": [1, 2], "half open": [1]}
    assert "| half open | 1 | 2.0 | 2.0 | 2.0 | 1 | 1 | 1 |" in "\n".join(faults_table(report(1, history, [])["rows"]))
