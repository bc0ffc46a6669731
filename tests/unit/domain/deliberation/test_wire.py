"""Rows of the log that announce a deliberation's events."""

from __future__ import annotations

from typing import Any

from cluster.domain.deliberation.calls import Call
from tests.support.panels import World, contract, members, says


def _fails(call: Call) -> Any:
    return ("http", "it is away")


def test_the_row_of_a_replacement_names_every_member_that_was_replaced() -> None:
    behaviours = {"a": says("A"), "b": _fails, "c": _fails, "p": says("A"), "q": says("B")}
    world = World.of(contract(options=["A", "B"], min_agents=3), behaviours)
    world.start(members("a", "b", "c"), pool=members("p", "q")).run()
    assert [event.data["gone"] for event in world.journal if event.kind == "replaced"] == [["b", "c"]]
    (row,) = [data for kind, data, _ in world.rows if kind == "deliberation.recovery_attempted"]
    assert row == {"agent": "b", "agents": ["b", "c"]}
