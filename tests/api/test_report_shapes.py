"""Batches whose entries have any shape: each entry fails alone, and answers come in the order of the entries."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.schemas.agents import Heartbeats, RefusedHeartbeat
from serve_app.schemas.tasks import RefusedReport, Reports
from tests.support.api import CP
from tests.support.task_api import TaskApi

#: Entries that are no reports, and the id that their answers name.
ODD: list[tuple[Any, str | None]] = [
    (None, None),
    ("hello", None),
    (5, None),
    (True, None),
    ([], None),
    ({}, None),
    ([{"task_id": "x"}], None),
    ({"task_id": None}, None),
    ({"task_id": 5, "result": 1}, None),
    ({"task_id": ["x"], "result": 1}, None),
    ({"task_id": {}, "error": "no"}, None),
    ({"task_id": "", "result": 1}, ""),
    ({"task_id": "no such", "result": 1}, "no such"),
    ({"task_id": "task_x", "result": 1, "lease_token": 5}, "task_x"),
    ({"task_id": "task_x", "result": 1, "lease_token": "zzz"}, "task_x"),
    ({"task_id": "task_x", "error": "x" * 20_000}, "task_x"),
    ({"task_id": "task_x", "error": "x", "error_class": "none"}, "task_x"),
    ({"task_id": "task_x", "error": "x", "retry_after_seconds": -1}, "task_x"),
    ({"task_id": "task_x", "released": True, "result": 1}, "task_x"),
    ({"task_id": "task_x", "released": True, "requeue": False}, "task_x"),
    ({"task_id": "t" * 5000, "result": 1}, "t" * 128),
    ({"task_id": "a\x00b", "result": 1}, None),
    ({"task_id": "task_x", "result": json.loads("[" * 70 + "]" * 70)}, "task_x"),
    ({"task_id": "task_x", "result": "\ud800"}, "task_x"),
]


async def _three(tasks: TaskApi) -> list[Any]:
    await tasks.agent("w", max_concurrency=10)
    for _ in range(3):
        await tasks.submit("echo", max_retries=0)
    leases: list[Any] = []
    while len(leases) < 3:
        answer = await tasks.post("/tasks/claim", {"agent_id": "w", "max_tasks": 3 - len(leases), "block_ms": 20_000})
        leases += answer["tasks"]
    return leases


async def test_a_report_of_any_shape_fails_alone_and_answers_come_in_order(tasks: TaskApi) -> None:
    first, second, third = [
        {"task_id": lease["id"], "lease_token": lease["lease_token"], "result": "ok", "unknown": [5]}
        for lease in await _three(tasks)
    ]
    odd = [entry for entry, _ in ODD]
    body = json.dumps({"reports": [first, *odd, second, odd[0], third]})
    answer = await tasks.api.client.post(
        CP + "/tasks/complete", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["ok"] for result in results] == [True, *[False] * len(odd), True, False, True]
    named = [result["task_id"] for result in results[1 : len(odd) + 1]]
    for (entry, expected), shown in zip(ODD, named, strict=True):
        assert expected is None or shown == expected, entry
    assert all(result["error"] and result["code"] for result in results if not result["ok"])
    for report in (first, second, third):
        assert await tasks.is_detail(report["task_id"], "completed")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["task_id", "agent_id", "result", "error", "lease_token", "released", "status", "x"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(entries=st.lists(json_values, min_size=1, max_size=5))
def test_an_entry_of_any_shape_leaves_the_others_of_its_batch_valid(entries: list[Any]) -> None:
    good = {"task_id": "task_x", "agent_id": "a"}
    reports = Reports.model_validate({"reports": [good, *entries, good]}).reports
    assert len(reports) == len(entries) + 2
    assert not isinstance(reports[0], RefusedReport)
    assert not isinstance(reports[-1], RefusedReport)
    beats = Heartbeats.model_validate({"heartbeats": [good, *entries, good]}).heartbeats
    assert len(beats) == len(entries) + 2
    assert not isinstance(beats[0], RefusedHeartbeat)
    assert not isinstance(beats[-1], RefusedHeartbeat)


@pytest.mark.parametrize(
    "entry", [None, "hello", 5, {}, {"agent_id": 5}, {"agent_id": "no such"}, {"agent_id": "w", "status": 5}]
)
async def test_a_heartbeat_of_any_shape_does_not_cost_others_their_leases(tasks: TaskApi, entry: Any) -> None:
    await tasks.agent("w")
    answer = await tasks.post("/agents/heartbeats", {"heartbeats": [entry, {"agent_id": "w"}, {"agent_id": "gone"}]})
    assert (answer["acknowledged"], answer["unknown"]) == (1, ["gone"])
    (refused,) = answer["refused"]
    assert refused["index"] == 0
    assert refused["error"]
    assert refused["code"]


@pytest.mark.parametrize("entry", [None, "hello", {"task_type": 5}, {"task_type": "x", "max_retries": -1}])
async def test_a_batch_of_submits_is_stored_whole_or_not_at_all(tasks: TaskApi, entry: Any) -> None:
    await tasks.post("/tasks/batch", {"tasks": [{"task_type": "x"}, entry]}, expect=400)
    assert (await tasks.get("/tasks"))["total"] == 0
