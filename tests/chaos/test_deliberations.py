"""Kills of the deliberation worker without Ray, and violations that the check must find."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from actors.roles import DELIBERATION
from tests.chaos.deliberations import LOOK_S, Crowd, amid, check
from tests.support.api import CP, Api
from tests.support.probes import eventually


async def test_killed_again_and_again_the_decisions_are_the_same(api: Api) -> None:
    crowd = Crowd(seed=1)
    crowd.agents.delay_s = 0.05

    async def strike() -> tuple[float, str]:
        """Once more calls have come than there were."""
        before = len(crowd.agents.calls)
        await eventually(lambda: len(crowd.agents.calls) > before + 4)
        await api.kill(DELIBERATION)
        await api.start(DELIBERATION)
        return 0.0, "in process"

    async with crowd.agents.running(), httpx.AsyncClient(base_url=api.url + CP, timeout=60) as http:
        row = await amid(http, crowd, strike, count=5, ends=time.monotonic() + 60, at_once=3)
    assert row["violations"] == []
    assert row["kills"] == 5
    assert row["under_way"] >= 5
    assert row["repeated"] > 0


KEY = "r/PROPOSE/0/ada/0"
DECIDED: dict[str, Any] = {"answer": "A"}


def _found(decided: dict[str, Any], arrivals: list[float], calls: int = 1) -> tuple[list[str], int]:
    record = {"result": dict.fromkeys(_NAMES) | decided | {"agent_calls": 1}}
    expected = dict.fromkeys(_NAMES) | DECIDED
    call = {"agent": "ada", "tokens": 1}
    where = {"phase": "PROPOSE", "round": 0, "attempt": 0}
    journal = [
        {"kind": "asked", "at": "2026-01-01T00:00:00+00:00", "data": {**where, "calls": [call] * calls}},
        {"kind": "answered", "at": "1970-01-01T00:00:10+00:00", "data": {**where, "agent": "ada"}},
    ]
    return check("r", record, expected, journal, {KEY: arrivals})


_NAMES = ("terminal", "answer", "confidence", "tally", "supporters", "dissenting_views", "rounds_completed")


def test_a_correct_run_has_no_violations() -> None:
    assert _found(DECIDED, [9.0]) == ([], 0)


@pytest.mark.parametrize(
    ("decided", "arrivals", "calls", "words"),
    [
        ({"answer": "B"}, [9.0], 1, "without kills"),
        (DECIDED, [8.0, 9.0], 1, "2 calls for 1 in the journal"),
        (DECIDED, [10.0 + 2 * LOOK_S], 1, "called again after its answer was journalled"),
        (DECIDED, [9.0], 2, "1 calls are counted, 2 are in the journal"),
    ],
)
def test_every_violation_is_found(decided: dict[str, Any], arrivals: list[float], calls: int, words: str) -> None:
    wrong, _ = _found(decided, arrivals, calls)
    assert len(wrong) == 1
    assert words in wrong[0]
