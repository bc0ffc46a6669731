"""Overrides of soft policies: who may, with which reason, what is recorded, and what a hard policy says to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

SOFT = {
    "name": "Short tasks",
    "task_types": ["quick"],
    "sla": {"max_execution_seconds": 60},
    "enforcement_level": "soft",
}
LONG = {"task_type": "quick", "timeout_seconds": 61}
WHY = {"policy_override": {"reason": "The quarterly report."}}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, ()) as door:
        yield door


async def _violations(api: Api, **query: str) -> list[dict[str, Any]]:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    found: list[dict[str, Any]] = (await api.get(f"/policies/violations?{words}"))["violations"]
    return found


async def test_an_override_is_recorded_with_its_reason(api: Api) -> None:
    policy = await api.post("/policies", SOFT)
    headers = {"Idempotency-Key": "report"}
    refused = await api.call("POST", "/tasks", LONG, headers=headers)
    assert (refused.status_code, refused.json()["can_override"]) == (403, True)
    assert "controlplane:policies.override" in refused.json()["error"]
    task_id = (await api.post("/tasks", LONG | WHY, headers=headers))["task_id"]
    assert (await api.post("/tasks", LONG | WHY, headers=headers))["task_id"] == task_id
    (overridden,) = await _violations(api, status="resolved")
    (first,) = await _violations(api, status="open")
    assert (first["task_id"], first["overridden"]) == (None, False)
    assert (overridden["task_id"], overridden["overridden"]) == (task_id, True)
    assert (overridden["policy_id"], overridden["resolution_notes"]) == (policy["id"], "The quarterly report.")
    assert (overridden["resolved_by"], overridden["resolved_at"]) == (
        overridden["submitted_by"],
        overridden["timestamp"],
    )
    (row,) = [row for row in await api.rows() if row.kind == "policy.violation_overridden"]
    assert (row.entity, row.data["task_id"], row.private["reason"]) == (
        overridden["id"],
        task_id,
        "The quarterly report.",
    )
    path = f"/policies/violations/{overridden['id']}"
    await api.call("PATCH", path, {"status": "open", "resolution_notes": "Was that right?"})
    found = (await api.get(path))["violation"]
    assert (found["status"], found["overridden"], found["resolved_by"]) == ("open", True, None)


async def test_a_hard_policy_is_not_overridden(api: Api) -> None:
    soft = await api.post("/policies", SOFT)
    hard = await api.post("/policies", SOFT | {"name": "Never", "enforcement_level": "hard"})
    refused = await api.call("POST", "/tasks", LONG | WHY)
    assert (refused.status_code, refused.json()["policy_id"]) == (403, hard["id"])
    assert refused.json()["can_override"] is False
    assert (await api.get("/tasks"))["total"] == 0
    assert {each["policy_id"] for each in await _violations(api, status="open")} == {soft["id"], hard["id"]}


async def test_an_overridden_policy_demands_nothing_of_agents(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("old")
    await api.post("/policies", {"name": "No old agents", "agent_blocklist": ["old"], "enforcement_level": "soft"})
    unnamed = (await api.post("/tasks", {"task_type": "echo"} | WHY))["task_id"]
    assert (await api.post("/tasks/claim", {"agent_id": "old", "block_ms": 0}))["task"] is None
    named = {"task_type": "echo", "target_agent": "old"}
    assert (await api.call("POST", "/tasks", named)).status_code == 403
    task_id = (await api.post("/tasks", named | WHY))["task_id"]
    assert (await tasks.claim_one("old"))["id"] == task_id != unnamed


async def test_in_a_batch_each_task_has_its_own_override(api: Api) -> None:
    await api.post("/policies", SOFT)
    refused = await api.call("POST", "/tasks/batch", {"tasks": [LONG | WHY, LONG]})
    assert (refused.status_code, refused.json()["index"]) == (403, 1)
    assert (await api.get("/tasks"))["total"] == 0
    await api.post("/tasks/batch", {"tasks": [LONG | WHY, LONG | {"timeout_seconds": 1}]})
    assert [each["overridden"] for each in await _violations(api)] == [True, False]


async def test_only_who_may_overrides(door: Authenticated) -> None:
    await door.call("POST", "/policies", SOFT)
    for role, expected in (("submitter", 403), ("operator", 201), ("admin", 201)):
        headers = bearer(await door.key(role))
        for body in (LONG | WHY, {"task_type": "other"} | WHY):
            answer = await door.api.client.post("/api/control-plane/tasks", json=body, headers=headers)
            assert answer.status_code == expected, (role, answer.text)
            assert expected == 201 or answer.json()["code"] == "forbidden"
    headers = bearer(await door.key("submitter"))
    body = {"tasks": [LONG, LONG | WHY]}
    answer = await door.api.client.post("/api/control-plane/tasks/batch", json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "override", [{}, {"reason": ""}, {"reason": " \n"}, {"reason": "x" * 4_001}, {"reason": 5}, "why"]
)
async def test_an_override_without_a_reason_is_refused(api: Api, override: Any) -> None:
    answer = await api.call("POST", "/tasks", LONG | {"policy_override": override})
    assert (answer.status_code, "policy_override" in answer.json()["error"]) == (400, True), answer.text
