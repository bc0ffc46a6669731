"""Steps that wait for a signal or a time, on a real store: a signal that was taken is met, and a time that has come is seen."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.log import record_for
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import SignalAnswer
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.samples import NOW
from tests.support.workflows import (
    ORIGIN,
    Agents,
    apply,
    run_of,
    send_signal,
    settle,
    start,
    task,
    workflow_keeper,
)

pytestmark = pytest.mark.usefixtures("validated")

GO = {"id": "go", "signal": {"name": "approved", "timeout_seconds": 5}}
THEN = {"id": "then", "task": task({"of": {"from": "go", "default": "nothing"}})}


async def payload_of(stores: Stores, step: str) -> Any:
    ((payload, _),) = (await stores.tasks.bodies("w", [f"wfrun_1.{step}.00000.1"])).values()
    return payload


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_the_value_of_a_signal_is_the_result_of_its_step(stores: Stores, before: bool) -> None:
    """Whether it comes before its step waits or afterwards. JSON takes a zero character, which the database's jsonb does not."""
    await start(stores, await apply(stores, {"id": "first", "task": task()}, {**GO, "after": ["first"]}, THEN))
    keeper, agents = workflow_keeper(stores), Agents(stores)
    await settle(keeper)
    if before:
        assert await send_signal(stores, "approved", ["a\0", 1e400 > 1]) is SignalAnswer.TAKEN
    await agents.do("wfrun_1.first.00000.1", lambda _: 1)
    await settle(keeper)
    if not before:
        assert (await run_of(stores)).due_at == NOW + 5
        assert await send_signal(stores, "approved", ["a\0", True]) is SignalAnswer.TAKEN
        await settle(keeper)
    assert await payload_of(stores, "then") == {"of": ["a\0", True]}
    assert (await run_of(stores)).due_at is None


async def test_what_becomes_of_a_signal(stores: Stores) -> None:
    await start(stores, await apply(stores, GO, {"id": "more", "signal": {"name": "more"}}))
    assert await send_signal(stores, "approved", {"b": 1, "a": 2}) is SignalAnswer.TAKEN
    assert await send_signal(stores, "approved", {"a": 2, "b": 1}) is SignalAnswer.REPEATED
    assert await send_signal(stores, "approved", None) is SignalAnswer.OTHER
    assert await send_signal(stores, "more", "x" * 1_000_000) is SignalAnswer.FULL
    await settle(workflow_keeper(stores))
    assert await send_signal(stores, "later", 1, steps=["go"]) is SignalAnswer.LATE
    assert await send_signal(stores, "more", 1, run_id="wfrun_2") is SignalAnswer.ABSENT
    kinds = [row.kind for row in await stores.log.read(0, 100)]
    assert kinds.count("workflow.run_signalled") == 1, "what is not taken is not written"


TIMED: list[tuple[str, dict[str, Any], RunStatus, Any]] = [
    ("default", {"signal": {**GO["signal"], "default": {"from": "x"}}}, RunStatus.RUNNING, {"from": "x"}),
    ("continues", {"on_failure": "continue"}, RunStatus.RUNNING, "nothing"),
    ("handled", {"on_failure": {"step": "late"}}, RunStatus.RUNNING, "signal_timeout"),
    ("fails", {}, RunStatus.FAILED, None),
]


@pytest.mark.parametrize(("fields", "status", "of"), [row[1:] for row in TIMED], ids=[row[0] for row in TIMED])
async def test_a_signal_that_does_not_come(stores: Stores, fields: dict[str, Any], status: RunStatus, of: Any) -> None:
    late = {"id": "late", "task": task({"why": {"from": "failure", "path": "/code"}})}
    steps = ({**GO, **fields}, THEN, *([late] if fields.get("on_failure") not in (None, "continue") else []))
    await start(stores, await apply(stores, *steps))
    clock = ManualClock(NOW)
    keeper = workflow_keeper(stores, clock=clock)
    await settle(keeper)
    await clock.advance(4.9)
    await settle(keeper)
    assert await Agents(stores).open() == []
    await clock.advance(0.1)
    await settle(keeper)
    if of == "signal_timeout":
        await Agents(stores).do("wfrun_1.late.00000.1", lambda payload: payload["why"])
        await settle(keeper)
    run = await run_of(stores)
    assert (run.status, run.due_at) == (status, None)
    if status is RunStatus.RUNNING:
        assert await payload_of(stores, "then") == {"of": of}
    assert await send_signal(stores, "approved", 1, steps=["go"]) is SignalAnswer.LATE


class SignalledMeanwhile:
    """The store, in which a signal is taken just before the commit that gives it up."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.answers: list[SignalAnswer] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores.workflows, name)

    async def advance(self, cursor: Any, runs: Any, *parts: Any) -> None:
        if any(run.missed for run in runs) and not self.answers:
            self.answers.append(await send_signal(self._stores, "approved", "in time"))
        await self._stores.workflows.advance(cursor, runs, *parts)


async def test_a_signal_that_was_taken_is_met_though_its_time_is_over(stores: Stores) -> None:
    await start(stores, await apply(stores, GO, THEN))
    clock, store = ManualClock(NOW), SignalledMeanwhile(stores)
    keeper = workflow_keeper(stores, workflows=store, clock=clock)
    await settle(keeper)
    await clock.advance(5.0)
    await settle(keeper)
    assert store.answers == [SignalAnswer.TAKEN]
    assert await payload_of(stores, "then") == {"of": "in time"}


LENGTHS: list[tuple[dict[str, Any], Any, float | str]] = [
    ({"seconds": 60}, None, NOW + 60),
    ({"seconds": {"from": "input"}}, 2.5, NOW + 2.5),
    ({"until": NOW + 7}, None, NOW + 7),
    ({"until": "2023-11-14T23:13:21+01:00"}, None, NOW + 1),
    ({"until": {"from": "input", "path": "/at"}}, {"at": "2023-11-14T22:13:21Z"}, NOW + 1),
    ({"until": 0}, None, "completed"),
    ({"until": {"from": "input"}}, "0001-01-01T00:00:00Z", "completed"),
    ({"seconds": 0}, None, "completed"),
    ({"until": {"from": "input"}}, "2023-11-14T22:13:21", "not_a_time"),
    ({"until": {"from": "input"}}, "tomorrow", "not_a_time"),
    ({"until": {"from": "input"}}, "9999-12-31T23:59:59-23:00", "not_a_time"),
    ({"until": "9999-12-31T23:59:59Z"}, None, "not_a_time"),
    ({"seconds": {"from": "input"}}, True, "not_a_time"),
    ({"seconds": {"from": "input"}}, "60", "not_a_time"),
    ({"seconds": {"from": "input"}}, -1, "not_a_time"),
    ({"seconds": {"from": "input"}}, 10**400, "not_a_time"),
    ({"until": {"from": "input"}}, {"a": 1}, "not_a_time"),
    ({"seconds": {"from": "input", "path": "/x"}}, {}, "input_unresolved"),
]


@pytest.mark.parametrize("n", range(0, len(LENGTHS), 8))
async def test_how_long_a_sleep_is(stores: Stores, n: int) -> None:
    keeper = workflow_keeper(stores)
    for i, (sleep, given, expected) in enumerate(LENGTHS[n : n + 8]):
        workflow = await apply(stores, {"id": "nap", "sleep": sleep}, name=f"flow-{i}")
        await start(stores, workflow, given, f"wfrun_{i}")
        await settle(keeper)
        run = await run_of(stores, f"wfrun_{i}")
        nap = run.steps["nap"]
        found = run.due_at if nap.code is None and run.due_at is not None else nap.code or nap.status
        assert found == expected, sleep
        assert (nap.until or 0.0) >= 0.0, "epoch seconds"


async def test_those_that_sleep_wake_in_their_time(stores: Stores) -> None:
    workflow = await apply(stores, {"id": "nap", "sleep": {"seconds": {"from": "input"}}})
    for n in range(250):
        await start(stores, workflow, n % 3, f"wfrun_{n}")
    clock = ManualClock(NOW)
    keeper = workflow_keeper(stores, clock=clock)
    asleep = []
    for _ in range(3):
        await settle(keeper)
        asleep.append(len(await stores.workflows.due(NOW + 10, 1000, [])))
        keeper = workflow_keeper(stores, clock=clock)  # which knows nothing but what is stored
        await clock.advance(1.0)
    assert asleep == [166, 83, 0]


async def test_a_run_that_is_cancelled_or_failing_waits_for_nothing(stores: Stores) -> None:
    workflow = await apply(stores, GO, {"id": "nap", "sleep": {"seconds": 60}})
    await start(stores, workflow)
    keeper = workflow_keeper(stores)
    await settle(keeper)
    await stores.workflows.ask(
        record_for(ORIGIN, NOW, "workflow.run_cancel_requested", "wfrun_1", {"run_id": "wfrun_1"})
    )
    await settle(keeper)
    run = await run_of(stores)
    assert (run.status, run.due_at) == (RunStatus.CANCELLED, None)
    assert await send_signal(stores, "approved", 1) is SignalAnswer.LATE
