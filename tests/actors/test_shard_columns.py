"""What the store could not hold is refused when its decision is made, whatever the column: memory and store stay as they were."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.domain.base.compact import evolve
from cluster.domain.base.errors import ControlPlaneError, InvalidRequest, is_bug
from cluster.domain.base.log import LogRecord
from cluster.domain.scheduling.answers import ClaimAnswer
from cluster.domain.scheduling.requests import CancelRequest, ClaimRequest, PrioritizeRequest, ReportRequest
from cluster.domain.tasks.columns import check_columns, row_text
from cluster.domain.tasks.events import Claim
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import Task, TaskDecision, TaskHead, TaskStatus
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from serve_app.schemas.fields import iso_time
from tests.actors.test_shard_odd_reports import _generation, _together
from tests.support.odd import odd_json, odd_texts, odd_values, plain_texts
from tests.support.probes import eventually
from tests.support.requests import a_cancel, a_report
from tests.support.samples import ASKER, NOW
from tests.support.shards import Cluster
from tests.support.stores import StoreUrls, fresh_name

_texts = plain_texts | odd_texts | st.sampled_from(["", "a" * 513, "ü" * 2000])
_numbers = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**15 - 1, 2**15, -(2**15) - 1, 2**31 - 1, 2**31, 2**63, 2**64, 10**30, -(2**31) - 1]),
)
_times = st.one_of(
    st.floats(0.0, 4e9),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 1e12, -1e11, 253_402_300_799.0, 5e-324]),
)
_words = st.dictionaries(st.just("error"), _texts, min_size=1)

#: Column → (what holds it, what may be in it). A field of these three classes is here or in ``NOT_WRITTEN``.
COLUMNS: dict[str, tuple[type[Any], st.SearchStrategy[Any]]] = {
    **dict.fromkeys(("assigned_agent", "claim_id", "holder"), (TaskHead, _texts | st.none())),
    **dict.fromkeys(("attempt", "retries", "priority"), (TaskHead, _numbers)),
    "run_at": (TaskHead, _times),
    "started_at": (TaskHead, _times | st.none()),
    "order_key": (TaskHead, st.tuples(_times, _texts)),
    **dict.fromkeys(("principal", "cause"), (LogRecord, _texts)),
    "at": (LogRecord, _times),
    "data": (LogRecord, st.dictionaries(st.sampled_from(["run_at", "after"]), odd_values | _times | _texts)),
    "private": (LogRecord, _words | st.none()),
    "expect_attempt": (TaskDecision, _numbers),
    "completed_at": (TaskDecision, _times | st.none()),
    "error": (TaskDecision, _texts | st.none()),
    "result_json": (TaskDecision, odd_texts | st.sampled_from(['"ü"', "[1]", "null"]) | st.none()),
}
#: What the store does not take from a decision, closed sets, ids that the store gave (those of children too), questions and
#: answers, which are JSON of values that were checked when they came, and entries of budgets, which are numbers and the ids of
#: budgets.
NOT_WRITTEN = {
    *("id", "workspace", "task_type", "required", "target_agent", "queue", "created_at", "timeout_s", "max_retries"),
    *("status", "detail", "rules", "expect_status", "head", "record"),
    *("kind", "entity", "data_text", "words_text"),
    *("asking", "question", "answer", "entry", "children", "lost"),
}


def test_every_field_of_a_decision_is_tried_or_is_not_written() -> None:
    names = {field.name for kind in (TaskHead, LogRecord, TaskDecision) for field in fields(kind)}
    assert names == NOT_WRITTEN | set(COLUMNS)
    assert not NOT_WRITTEN & set(COLUMNS)


def _with(decision: TaskDecision, column: str, value: Any) -> TaskDecision:
    """The decision with another value in one column, made as `step` makes one. Raises: `InvalidRequest`."""
    head, record = decision.head, decision.record
    if COLUMNS[column][0] is TaskHead:
        head = evolve(head, **{column: value})
    elif COLUMNS[column][0] is LogRecord:
        record = evolve(record, **{column: value})
    else:
        decision = evolve(decision, **{column: value})
    words = "" if record.private is None else row_text(record.private, "words")
    record = evolve(record, attempt=head.attempt, data_text=row_text(record.data, "data"), words_text=words)
    made = evolve(decision, head=head, record=record)
    check_columns(made)
    return made


@dataclass
class Ground:
    """One loop and one schema for all examples of this file."""

    runner: asyncio.Runner
    stores: Stores
    urls: StoreUrls

    def live(self, example: Callable[[Cluster], Awaitable[None]]) -> None:
        async def run() -> None:
            await self.stores.pool.execute("truncate tasks, log, controls, shards, idempotency")
            client = connect(self.urls.redis)
            cluster = Cluster(self.stores, RedisDoorbell(client, fresh_name()))
            await cluster.start()
            try:
                await example(cluster)
                assert cluster.deaths == []
            finally:
                await cluster.client.close()
                assert cluster.shard is not None
                await cluster.shard.stop()
                await cluster.bell.close()
                await client.aclose()

        self.runner.run(run())


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Ground]:
    with asyncio.Runner() as runner:
        name = fresh_name()
        runner.run(migrate(shared_stores.database, name))
        stores = runner.run(open_stores(shared_stores.database, name, "test-region", max_connections=8))
        yield Ground(runner, stores, shared_stores)
        runner.run(stores.close())


async def _task(cluster: Cluster, task_id: str) -> Task:
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    return task


_column = st.sampled_from(sorted(COLUMNS)).flatmap(lambda name: st.tuples(st.just(name), COLUMNS[name][1]))
_settings = settings(phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(_settings, max_examples=15)
@given(odd=st.lists(_column, min_size=1, max_size=25))
def test_a_column_is_refused_at_its_decision_or_taken_by_the_store(ground: Ground, odd: list[tuple[str, Any]]) -> None:
    """Decisions of one commit. Whatever passes the check is taken, and a reader can show it."""

    async def example(cluster: Cluster) -> None:
        ids = [await cluster.submit() for _ in odd]
        fence = await cluster.stores.tasks.take_generation("columns", "test")
        passed = []
        for task_id, (column, value) in zip(ids, odd, strict=True):
            head = (await _task(cluster, task_id)).head()
            event = Claim(agent_id="a1", claim_id="c1", principal="user:x", cause="t1")
            decision = step(head, event, NOW, RetryPolicy()).decision
            assert decision is not None
            with suppress(InvalidRequest):
                passed.append(_with(decision, column, value))
        outcomes = await cluster.stores.tasks.decide(fence, passed) if passed else []
        for decision, outcome in zip(passed, outcomes, strict=True):
            assert outcome.applied == (decision.expect_attempt == 0)
            task = await _task(cluster, decision.head.id)
            for at in (task.run_at, task.started_at, task.completed_at):
                iso_time(at)
            if outcome.applied:
                assert task.holder == decision.head.holder
                assert (task.error, task.claim_id) == (decision.error, decision.head.claim_id)
        (rows,) = [await cluster.stores.log.read(0, 1000)]
        assert all(row.verifies() for row in rows)
        assert len([row for row in rows if row.kind == "task.claimed"]) == sum(outcome.applied for outcome in outcomes)

    ground.live(example)


def _changes(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """One field with something odd in it; every other one is fine."""
    return st.one_of([values.map(lambda value, name=name: {name: value}) for name, values in columns.items()])


_requests = st.one_of(
    st.tuples(
        st.just(ReportRequest),
        _changes(
            principal=_texts,
            cause=_texts,
            error=_texts,
            result_json=odd_json | odd_texts,
            retry_after_s=_times,
        ),
    ),
    st.tuples(st.just(ReportRequest), _texts.map(lambda text: {"error": text, "released": True})),
    st.tuples(st.just(CancelRequest), _changes(principal=_texts, cause=_texts)),
    st.tuples(
        st.just(PrioritizeRequest),
        _changes(principal=_texts, cause=_texts, position=_numbers.filter(lambda n: n > 0)),
    ),
    st.tuples(st.just(ClaimRequest), _changes(principal=_texts, cause=_texts, claim_id=_texts, agent_id=_texts)),
)


async def _asked(cluster: Cluster, number: int, kind: type[Any], changes: dict[str, Any]) -> tuple[str, Any]:
    """A task of its own, in the state that the request is about, and the request."""
    capability = f"only-{number}"
    task_id = await cluster.submit(max_retries=3, required_capabilities=(capability,))
    values: dict[str, Any] = {"workspace": "w", "principal": ASKER.principal, "task_id": task_id}
    if kind is ReportRequest:
        await cluster.claim_one(f"a{number}", capabilities=frozenset([capability]))
        values |= {"attempt": 1, "agent_id": f"a{number}"}
        values |= {"error": "slow"} if "retry_after_s" in changes else {}
    elif kind is PrioritizeRequest:
        values |= {"priority": 75, "position": 1}
    elif kind is ClaimRequest:
        del values["task_id"]
        values |= {"agent_id": f"a{number}", "capabilities": frozenset([capability]), "max_concurrency": 1}
        values |= {"max_tasks": 1, "claim_id": f"odd-{number}", "client_claim_id": True}
    make = {ReportRequest: a_report, CancelRequest: a_cancel}.get(kind, kind)
    return task_id, make(**(values | changes))


@settings(_settings, max_examples=15)
@given(odd=st.lists(_requests, min_size=1, max_size=12))
def test_an_odd_request_is_refused_with_nothing_changed_or_committed(
    ground: Ground, odd: list[tuple[type[Any], dict[str, Any]]]
) -> None:
    async def example(cluster: Cluster) -> None:
        asked = [await _asked(cluster, number, kind, changes) for number, (kind, changes) in enumerate(odd)]
        innocent = await cluster.submit()
        shard = cluster.shard
        assert shard is not None

        async def all_read() -> bool:
            return (await shard.status())["open_tasks"] == len(asked) + 1

        await eventually(all_read)
        core = shard._generations.serving().core
        before = [core.head(task_id) for task_id, _ in asked]
        stored = [await _task(cluster, task_id) for task_id, _ in asked]
        generation, rows = await _generation(cluster), await cluster.stores.log.head()
        cancel = a_cancel(innocent)
        *answers, _ = await _together(cluster, [*(request for _, request in asked), cancel])
        assert await cluster.status(innocent) is TaskStatus.CANCELLED, "nobody else is touched"
        assert await _generation(cluster) == generation, "no state was read again"
        committed = 1
        for (task_id, _), answer, was, there in zip(asked, answers, before, stored, strict=True):
            now = await _task(cluster, task_id)
            if isinstance(answer, Exception):
                assert isinstance(answer, ControlPlaneError)
                assert not is_bug(answer), repr(answer)
                assert (core.head(task_id), now) == (was, there)
                continue
            committed += not isinstance(answer, ClaimAnswer) or len(answer.leases)
            if not now.status.terminal:
                assert core.head(task_id) == now.head(), "memory is as the store"
        assert await cluster.stores.log.head() == rows + committed

    ground.live(example)
