"""Calls of SQL functions with a column for each field: what is given as one field is not stored as another.

Fields go by position, since one array for each is the fastest form. So each field has another value here, and is looked up by its
name: two that are swapped are found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cluster.domain.base.log import LogRecord, Origin
from cluster.domain.tasks.order_key import encode
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import IdempotencyKey, NewTask, Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.postgres.stores import Stores
from cluster.postgres.tasks import partition

NEW = NewTask(
    id="task_1",
    origin=Origin(workspace="w1", principal="user:p", cause="cause-1"),
    task_type="type-1",
    created_at=1_700_000_001.0,
    payload={"payload": 1},
    metadata={"metadata": 1},
    required_capabilities=("capability",),
    priority=Priority.HIGH,
    timeout_s=302.0,
    max_retries=7,
    run_at=1_700_000_003.0,
    queue="queue-1",
    target_agent="agent-1",
    target_region="region-1",
    fallback_regions=("fallback",),
    region_routing_mode="strict",
    origin_region="origin-1",
    rules=TaskRules(tenant="tenant-1"),
)
KEY = IdempotencyKey(route="route-1", key="key-1", body_digest=b"digest")
HEAD = TaskHead(
    id="task_1",
    workspace="w1",
    task_type="type-1",
    priority=4,
    required=frozenset({"capability"}),
    target_agent="agent-1",
    queue="queue-1",
    created_at=1_700_000_001.0,
    run_at=1_700_000_011.0,
    timeout_s=302.0,
    max_retries=7,
    status=TaskStatus.COMPLETED,
    detail=TaskDetail.RETRYING,
    attempt=5,
    retries=6,
    assigned_agent="agent-2",
    claim_id="claim-2",
    holder="holder-2",
    started_at=1_700_000_012.0,
    order_key=(13.0, "place"),
)
#: What the log's row of a change is, but for its data.
ROW = {"workspace": "w1", "entity": "task_1", "principal": "user:q", "cause": "cause-2", "kind": "task.completed"}


async def _row(stores: Stores, query: str) -> Mapping[str, Any]:
    (row,) = await stores.pool.rows(query)
    return {name: _plain(value) for name, value in dict(row).items()}


def _plain(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


async def _submitted(stores: Stores) -> None:
    await stores.tasks.submit([SubmitItem(task=NEW, idempotency=KEY)])


async def test_a_submit_stores_each_field_under_its_own_name(stores: Stores) -> None:
    await _submitted(stores)
    stored = await _row(stores, "select * from tasks")
    expected = {
        "id": "task_1",
        "workspace": "w1",
        "shard": partition("w1"),
        "queue": "queue-1",
        "task_type": "type-1",
        "priority": int(Priority.HIGH),
        "status": "pending",
        "status_detail": "delayed",
        "attempt": 0,
        "retries": 0,
        "max_retries": 7,
        "timeout_s": 302.0,
        "created_at": 1_700_000_001.0,
        "run_at": 1_700_000_003.0,
        "principal": "user:p",
        "target_agent": "agent-1",
        "target_region": "region-1",
        "region_routing_mode": "strict",
        "origin_region": "origin-1",
        "fallback_regions": ["fallback"],
        "required_capabilities": ["capability"],
        "payload": {"payload": 1},
        "metadata": {"metadata": 1},
        "rules": {"tenant": "tenant-1"},
    }
    assert {name: stored[name] for name in expected} == expected
    key = await _row(stores, "select * from idempotency")
    assert (key["workspace"], key["route"], key["key"], key["digest"]) == ("w1", "route-1", "key-1", b"digest")
    (row,) = await stores.log.read(0, 10)
    assert (row.at, row.workspace, row.kind, row.entity) == (NEW.created_at, "w1", "task.submitted", "task_1")
    assert (row.principal, row.cause, row.attempt) == ("user:p", "cause-1", 0)
    assert TaskHead.from_log(row.entity, row.workspace, row.at, row.data) == NEW.head()


async def test_a_decision_stores_each_field_under_its_own_name(stores: Stores) -> None:
    await _submitted(stores)
    fence = await stores.tasks.take_generation("s", "test")
    record = LogRecord(at=1_700_000_014.0, attempt=5, data={"data": 1}, private={"words": 1}, **ROW)
    decision = TaskDecision(
        head=HEAD,
        expect_status=TaskStatus.PENDING,
        expect_attempt=0,
        record=record,
        completed_at=1_700_000_015.0,
        result_json='"result"',
        error="error",
    )
    (decided,) = await stores.tasks.decide(fence, [decision])
    assert decided.applied
    stored = await _row(stores, "select * from tasks")
    expected = {
        "status": "completed",
        "status_detail": "retrying",
        "attempt": 5,
        "retries": 6,
        "priority": 4,
        "run_at": 1_700_000_011.0,
        "assigned_agent": "agent-2",
        "claim_id": "claim-2",
        "holder": "holder-2",
        "started_at": 1_700_000_012.0,
        "completed_at": 1_700_000_015.0,
        "result": "result",
        "error": "error",
        "place": encode((13.0, "place")),
    }
    assert {name: stored[name] for name in expected} == expected
    row = (await stores.log.read(0, 10))[-1]
    assert {name: getattr(row, name) for name in ROW} == ROW
    assert (row.at, row.attempt, row.data, row.private) == (record.at, 5, {"data": 1}, {"words": 1})


@pytest.mark.parametrize(
    "changed", [{"expect_attempt": 1}, {"expect_status": TaskStatus.RUNNING}], ids=["attempt", "status"]
)
async def test_a_decision_that_expects_something_else_changes_nothing(
    stores: Stores, changed: Mapping[str, Any]
) -> None:
    await _submitted(stores)
    fence = await stores.tasks.take_generation("s", "test")
    record = LogRecord(at=1_700_000_014.0, attempt=5, **ROW)
    given: dict[str, Any] = {"expect_status": TaskStatus.PENDING, "expect_attempt": 0, **changed}
    (decided,) = await stores.tasks.decide(fence, [TaskDecision(head=HEAD, record=record, **given)])
    assert not decided.applied
    assert (await _row(stores, "select status from tasks"))["status"] == "pending"
