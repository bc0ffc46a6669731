"""Reports end with an answer of the server itself, whatever answers in between, and do not delay each other."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aragora_worker.base.errors import ControlPlaneError
from aragora_worker.errors import ApiError, OutcomeUnknown, Unavailable
from aragora_worker.repeating import Patience, RetryDelays
from aragora_worker.reports import LAST_TRY_S, MOST_BYTES, ReportOutcome, ReportQueue, encoded
from aragora_worker.tasks import timeout
from tests.support.probes import eventually

QUICK = Patience(first_s=0.0, most_s=0.0, asked_most_s=0.0)


class Server:
    """Takes each report once, like the API: under its token a repeat is answered as before. ``unfit`` are results that it
    refuses, with the whole call that they come in or one by one. Before that, each of ``faults`` answers one call."""

    def __init__(self, unfit: Sequence[int] = (), alone: bool = False, faults: Sequence[str] = ()) -> None:
        self.unfit = set(unfit)
        self.alone = alone
        self.faults = list(faults)
        self.taken: dict[str, dict[str, Any]] = {}
        self.calls = 0

    async def send(self, contents: Sequence[bytes]) -> Sequence[ReportOutcome]:
        await asyncio.sleep(0)
        self.calls += 1
        reports = [json.loads(content) for content in contents]
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise OutcomeUnknown("reset")
        if fault == "later":
            return [{"ok": False, "code": "actor_unavailable", "error": "Later."} for _ in reports]
        if not self.alone and any(self._is_unfit(report) for report in reports):
            raise ApiError("A result is unfit.", "invalid_json", 400)
        words = [self._word(report) for report in reports]
        if fault == "after":
            raise OutcomeUnknown("cut")
        if fault == "failed":
            raise ControlPlaneError("Our own 500.")
        if fault == "busy":
            raise Unavailable("Later.", "overloaded", 3600.0)
        if fault == "short":
            return words[1:]
        if fault == "bug":
            raise RuntimeError("a bug of the client")
        return words

    def _is_unfit(self, report: dict[str, Any]) -> bool:
        return report.get("result") in self.unfit and "error" not in report

    def _word(self, report: dict[str, Any]) -> ReportOutcome:
        if self._is_unfit(report):
            return {"ok": False, "code": "invalid_json", "error": "A result is unfit."}
        first = self.taken.setdefault(report["task_id"], report)
        return {"ok": True} if first == report else {"ok": False, "code": "lease_lost", "error": "Lost."}


def a_report(number: int) -> dict[str, Any]:
    return {"task_id": f"t{number}", "agent_id": "a", "lease_token": f"l{number}", "result": number}


@settings(max_examples=150)
@given(
    count=st.integers(1, 12),
    unfit=st.sets(st.integers(0, 11)),
    alone=st.booleans(),
    faults=st.lists(st.sampled_from(["before", "after", "failed", "busy", "short", "later", "bug"]), max_size=25),
)
def test_every_report_is_taken_once_or_fails_its_own_attempt(
    count: int, unfit: set[int], alone: bool, faults: list[str]
) -> None:
    server = Server(sorted(unfit), alone, faults)

    async def run() -> list[ReportOutcome]:
        reports = ReportQueue(server.send, QUICK)
        async with timeout(30):
            return await asyncio.gather(*(reports.put(encoded(a_report(number))) for number in range(count)))

    words = asyncio.run(run())
    assert [word["ok"] for word in words] == [True] * count
    assert len(server.taken) == count
    for number in range(count):
        taken = server.taken[f"t{number}"]
        assert taken["lease_token"] == f"l{number}"
        assert ("error" in taken) == (number in unfit)
        assert taken.get("requeue", True)


async def test_a_result_outlives_any_number_of_odd_answers() -> None:
    server = Server(faults=["before"] * 3000)
    async with timeout(60):
        assert (await ReportQueue(server.send, QUICK).put(encoded(a_report(1))))["ok"]
    assert server.taken["t1"]["result"] == 1
    assert server.calls == 3001


async def test_the_refusal_of_a_lost_lease_is_final() -> None:
    server = Server()
    server.taken["t1"] = {"task_id": "t1", "of": "another attempt"}
    word = await ReportQueue(server.send, QUICK).put(encoded(a_report(1)))
    assert (word["ok"], word["code"]) == (False, "lease_lost")
    assert server.calls == 1


async def test_a_refused_failure_report_is_dropped() -> None:
    async def refuse(contents: Sequence[bytes]) -> Sequence[ReportOutcome]:
        raise ApiError("Nothing of this.", "invalid_request", 400)

    word = await ReportQueue(refuse, QUICK).put(encoded(a_report(1)))
    assert (word["ok"], word["error"]) == (False, "Nothing of this.")


async def test_large_results_do_not_share_a_call() -> None:
    sizes: list[int] = []

    async def send(contents: Sequence[bytes]) -> Sequence[ReportOutcome]:
        sizes.append(sum(len(content) for content in contents))
        return [{"ok": True} for _ in contents]

    reports = ReportQueue(send, QUICK)
    await asyncio.gather(*(reports.put(encoded({**a_report(n), "result": "x" * 200_000})) for n in range(7)))
    assert max(sizes) <= MOST_BYTES
    assert len(sizes) > 1


async def test_reports_without_a_timely_answer_are_named_and_dropped() -> None:
    """Also while the server has asked to be left alone for longer."""
    called = asyncio.Event()

    async def away(contents: Sequence[bytes]) -> Sequence[ReportOutcome]:
        called.set()
        raise Unavailable("Later.", None, 3600.0)

    reports = ReportQueue(away, Patience(asked_most_s=3600.0))
    puts = [asyncio.create_task(reports.put(encoded(a_report(number)))) for number in range(3)]
    await called.wait()
    assert sorted(await reports.drain(0.05)) == ["t0", "t1", "t2"]
    assert [word["ok"] for word in await asyncio.gather(*puts)] == [False] * 3


async def test_draining_repeats_failed_reports_at_once() -> None:
    server = Server(faults=["busy"])
    reports = ReportQueue(server.send, Patience(first_s=3600.0, most_s=3600.0, asked_most_s=3600.0))
    put = asyncio.create_task(reports.put(encoded(a_report(1))))
    await eventually(lambda: server.calls)
    assert await reports.drain(30) == []
    assert (await put)["ok"]


async def test_a_caller_that_is_cancelled_leaves_its_report() -> None:
    server = Server(faults=["before"] * 5)
    reports = ReportQueue(server.send, QUICK)
    put = asyncio.create_task(reports.put(encoded(a_report(1))))
    await asyncio.sleep(0)
    put.cancel()
    assert await reports.drain(30) == []
    assert "t1" in server.taken


def sends_after_a_refusal(later: Sequence[float | None], first: float | None, wait_s: float) -> int:
    """How many reports an hour of asked waiting lets through within ``wait_s``: one with ``first`` seconds left meets it, and
    those with ``later`` come while it rests."""
    server = Server(faults=["busy"])

    async def run() -> int:
        reports = ReportQueue(server.send, Patience(first_s=0.0, most_s=0.0, asked_most_s=3600.0))
        times = [None if left_s is None else time.monotonic() + left_s for left_s in (first, *later)]
        puts = [asyncio.create_task(reports.put(encoded(a_report(0)), times[0]))]
        await eventually(lambda: server.calls >= 1)
        puts += [asyncio.create_task(reports.put(encoded(a_report(n)), due)) for n, due in enumerate(times[1:], 1)]
        done, _ = await asyncio.wait(puts, timeout=wait_s)
        await reports.drain(30)
        await asyncio.gather(*puts)
        return len(done)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("first", "later", "sent"),
    [
        (LAST_TRY_S, [], 1),
        (LAST_TRY_S / 2, [], 1),
        (LAST_TRY_S + 60, [], 0),
        (None, [], 0),
        (-1.0, [], 0),  # nobody waits for it any more
        (LAST_TRY_S + 60, [LAST_TRY_S], 2),
        (None, [None, LAST_TRY_S / 2], 3),
        (None, [LAST_TRY_S + 60], 0),
    ],
)
def test_a_report_goes_before_its_attempt_ends(first: float | None, later: list[float | None], sent: int) -> None:
    """Whatever wait a proxy asks for, also if the report comes while the queue rests."""
    assert sends_after_a_refusal(later, first, 30.0 if sent else 0.3) == sent


@given(own_s=st.floats(0, 5), asked_s=st.floats(0, 1e6))
def test_the_delay_is_the_longer_of_its_parts(own_s: float, asked_s: float) -> None:
    patience = Patience(first_s=own_s, most_s=own_s, asked_most_s=30.0)
    own, asked = RetryDelays(patience).next_parts_s(Unavailable("later", None, asked_s))
    assert own_s / 2 <= own <= own_s
    assert asked == min(asked_s, 30.0)
