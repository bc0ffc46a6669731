"""However many calls fail, a worker says that its control plane is away, that it is back, and little in between."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aragora_worker import outage
from aragora_worker.base.errors import InvalidRequest, TryLater
from aragora_worker.errors import Unavailable
from aragora_worker.outage import AGAIN_S, MOST_BEGINNINGS, Outage

KINDS = ("a claim", "a heartbeat", "a report")
AWAY = TryLater("Nobody answers.")


class Said:
    """An outage on a clock that the test moves, with the lines that it said and when."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.at = 1000.0
        self.outage = Outage(lambda: self.at)
        self.caplog = caplog
        self.times: list[float] = []
        caplog.clear()

    @property
    def lines(self) -> list[str]:
        # Others' records may come while it listens: of a task of another test, when it is collected.
        return [record.getMessage() for record in self.caplog.records if record.name == outage.__name__]

    def failed(self, kind: str = "a claim", error: Exception = AWAY) -> None:
        self.outage.failed(kind, error)
        self._note()

    def answered(self, kind: str = "a claim") -> None:
        self.outage.answered(kind)
        self._note()

    def _note(self) -> None:
        self.times += [self.at] * (len(self.caplog.records) - len(self.times))


@pytest.mark.parametrize("minutes", [0, 1, 2, 60])
def test_an_outage_is_a_line_at_each_end_and_one_a_minute(caplog: pytest.LogCaptureFixture, minutes: int) -> None:
    said = Said(caplog)
    for _ in range(minutes * 60 + 30):
        for kind in KINDS:
            said.failed(kind)
        said.at += 1.0
    for kind in KINDS:
        said.answered(kind)
    assert said.lines[0] == "the control plane is away, trying again: Nobody answers."
    assert said.lines[-1] == f"the control plane is back, after {minutes * 60 + 30} s"
    assert len(said.lines) == 2 + minutes
    assert all("is away since " in line for line in said.lines[1:-1])


def test_it_is_back_when_every_kind_of_call_is(caplog: pytest.LogCaptureFixture) -> None:
    said = Said(caplog)
    said.failed("a claim")
    said.failed("a heartbeat")
    said.answered("a heartbeat")
    said.answered("a report")
    assert len(said.lines) == 1
    said.answered("a claim")
    assert said.lines[1:] == ["the control plane is back, after 0 s"]
    said.answered("a claim")
    assert len(said.lines) == 2


def test_an_unexpected_error_is_traced_once_and_a_refusal_named(caplog: pytest.LogCaptureFixture) -> None:
    said = Said(caplog)
    for _ in range(20):
        said.failed(error=RuntimeError("a bug"))
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    said.answered()
    said.failed(error=InvalidRequest("Too many."))
    assert said.lines[-1] == "the control plane refuses calls, trying again: Too many."


def test_two_outages_within_a_minute_are_both_said(caplog: pytest.LogCaptureFixture) -> None:
    said = Said(caplog)
    for _ in range(2):
        said.failed()
        said.at += 5.0
        said.answered()
    assert [line.split(",")[0] for line in said.lines] == ["the control plane is away", "the control plane is back"] * 2


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), st.floats(0.0, 5.0)), max_size=300))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_minute_has_more_than_a_few_lines(
    caplog: pytest.LogCaptureFixture, calls: list[tuple[str, bool, float]]
) -> None:
    """A proxy that refuses some calls and lets others through, in any order."""
    caplog.set_level(logging.DEBUG)
    said = Said(caplog)
    for kind, is_answered, seconds in calls:
        said.at += seconds
        (said.answered if is_answered else said.failed)(kind)
    for start in said.times:
        within = [at for at in said.times if start <= at < start + AGAIN_S]
        # Each beginning may have its end, and one that was said before may end or go on too.
        assert len(within) <= 2 * MOST_BEGINNINGS + 1
    beginnings = sum("trying again" in line and "since" not in line for line in said.lines)
    assert 0 <= beginnings - sum("is back" in line for line in said.lines) <= 1


def test_a_suspended_workspace_is_not_called_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    said = Said(caplog)
    said.failed(error=Unavailable("The workspace w is suspended.", "workspace_suspended"))
    said.at += AGAIN_S
    said.failed(error=Unavailable("The workspace w is suspended.", "workspace_suspended"))
    assert said.lines == [
        "the control plane refuses calls, trying again: The workspace w is suspended.",
        "the control plane refuses calls since 60 s, trying again: The workspace w is suspended.",
    ]
    said.answered()
    assert said.lines[2:] == ["the control plane takes calls again, after 60 s"]


def test_what_changes_within_an_outage_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The control plane comes back to a workspace that was suspended meanwhile; or goes away while it is."""
    suspended = Unavailable("The workspace w is suspended.", "workspace_suspended")
    for first, second, last in ((AWAY, suspended, "takes calls again"), (suspended, AWAY, "is back")):
        said = Said(caplog)
        for error in (first, second):
            for _ in range(2):
                said.failed(error=error)
                said.at += 5.0
        said.at += AGAIN_S
        said.failed(error=second)
        said.answered()
        words = ["is away", "refuses calls"] if first is AWAY else ["refuses calls", "is away"]
        assert [line.removeprefix("the control plane ").split(",")[0] for line in said.lines] == [
            words[0],
            f"now {words[1]}",
            f"{words[1]} since 70 s",
            last,
        ]
