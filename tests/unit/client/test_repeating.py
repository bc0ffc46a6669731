"""Calls are repeated until they are taken or refused."""

from __future__ import annotations

import pytest

from aragora_worker.base.errors import ControlPlaneError, InvalidRequest
from aragora_worker.errors import Unavailable
from aragora_worker.repeating import Patience, RetryDelays, until_taken

QUICK = Patience(first_s=0.001, most_s=0.002)


class Calls:
    """Answers with one outcome after the other."""

    def __init__(self, *outcomes: object) -> None:
        self._outcomes = list(outcomes)

    async def __call__(self) -> object:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_call_is_repeated_until_it_is_taken() -> None:
    told: list[str] = []
    delays = RetryDelays(QUICK)
    calls = Calls(Unavailable("away"), KeyError("odd"), "taken", "not called")
    answer = await until_taken(calls, delays, failed=lambda error, pause_s: told.append(str(error)))
    assert (answer, told) == ("taken", ["away", "'odd'"])
    assert delays.next_s(KeyError()) <= QUICK.first_s, "the next outage begins with the first delay"


async def test_a_refusal_ends_the_repeating() -> None:
    calls = Calls(Unavailable("away"), InvalidRequest("no"), "not called")
    with pytest.raises(InvalidRequest):
        await until_taken(calls, RetryDelays(QUICK))
    assert await calls() == "not called"


async def test_errors_of_other_kinds_and_of_who_is_told_pass() -> None:
    with pytest.raises(KeyError):
        await until_taken(Calls(Unavailable("away"), KeyError()), RetryDelays(QUICK), over=ControlPlaneError)

    def gives_up(error: Exception, pause_s: float) -> None:
        raise TimeoutError from error

    with pytest.raises(TimeoutError):
        await until_taken(Calls(Unavailable("away")), RetryDelays(QUICK), failed=gives_up)
