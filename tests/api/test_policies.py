"""Policies over HTTP: made, changed, rolled back and tried; submits and claims under them; violations that are true."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app as cli
from cluster.domain.base.log import Origin
from cluster.domain.policies.submits import PolicyDenied
from cluster.ports.tasks import SubmitItem
from cluster.process.clock import ManualClock
from serve_app.routes import policies as policy_routes
from serve_app.under_policies import under_policies
from tests.support.api import Api, in_thread
from tests.support.awaited import Awaited
from tests.support.docs import ROOT
from tests.support.samples import new_task
from tests.support.schedules import schedule_keeper
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi
from tests.support.workflows import Agents, settle, workflow_keeper

LIMIT = {"name": "Short tasks", "task_types": ["quick"], "sla": {"max_execution_seconds": 60}}
LONG = {"task_type": "quick", "timeout_seconds": 61}


async def _refused(api: Api, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = await api.call("POST", "/tasks", body, **options)
    assert answer.status_code == 403, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _violations(api: Api) -> int:
    return int((await api.get("/policies/violations"))["total"])


async def test_a_refused_submit_is_a_violation_and_says_what_is_allowed(api: Api) -> None:
    policy = await api.post("/policies", LIMIT)
    refused = await _refused(api, LONG)
    assert (refused["code"], refused["policy_id"]) == ("policy_denied", policy["id"])
    assert refused["allowed"] == "timeout_seconds of at most 60"
    assert policy["id"] in refused["error"]
    assert refused["allowed"] in refused["error"]
    assert (await api.get("/tasks"))["total"] == 0
    page = await api.get("/policies/violations")
    (violation,) = page["violations"]
    assert (page["total"], violation["policy_id"], violation["task_id"]) == (1, policy["id"], None)
    assert (violation["violation_type"], violation["status"]) == ("sla", "open")
    assert (await api.get(f"/policies/violations/{violation['id']}"))["violation"] == violation
    assert [row.entity for row in await api.rows() if row.kind == "policy.violation"] == [violation["id"]]
    await api.post("/tasks", {**LONG, "timeout_seconds": 60})
    await api.post("/tasks", {**LONG, "task_type": "slow"})
    assert await _violations(api) == 1
    await api.call("PUT", f"/policies/{policy['id']}", {"enforcement_level": "warn"})
    task_id = (await api.post("/tasks", LONG))["task_id"]
    (warned, _) = (await api.get("/policies/violations"))["violations"]
    assert (warned["task_id"], warned["enforcement_level"]) == (task_id, "warn")


async def test_others_are_served_while_conditions_read_what_is_large(api: Api) -> None:
    policy = await api.post(
        "/policies", {"name": "Nothing doubtful", "deny_when": "payload.exists(each, each == 'no')"}
    )
    awaited = Awaited([*["yes"] * 50_000, "no"])
    item = SubmitItem(task=new_task(payload=awaited, origin=Origin(workspace="default")), idempotency=None)
    asked = asyncio.create_task(under_policies(api.gateway, item.task.origin, [item]))
    await awaited.is_read.wait()
    assert (await api.get("/policies"))["total"] == 1
    awaited.may_go_on.set()
    with pytest.raises(PolicyDenied, match=policy["id"]):
        await asked


async def test_agents_and_regions_are_judged_when_a_task_is_claimed(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("trusted", region_id="eu")
    await tasks.agent("other", region_id="eu")
    await tasks.agent("both", region_id="eu", available_regions=["us"])

    async def takes(agent_id: str) -> bool:
        answer = await api.post("/tasks/claim", {"agent_id": agent_id, "block_ms": 0})
        return answer["task"] is not None

    policy = await api.post("/policies", {"name": "Trusted agents", "agent_allowlist": ["trusted", "both"]})
    await tasks.submit()
    assert not await takes("other")
    assert await takes("trusted")
    refused = await _refused(api, {"task_type": "echo", "target_agent": "other"})
    assert (refused["policy_id"], refused["allowed"]) == (policy["id"], "agents trusted, both")
    regions = {"allowed_regions": ["eu"], "blocked_regions": ["us"]}
    await api.call("PUT", f"/policies/{policy['id']}", {"region_constraint": regions, "agent_allowlist": ["both"]})
    task_id = await tasks.submit()
    assert not await takes("both"), "a blocked region counts more than an allowed one"
    reasons = (await api.get(f"/tasks/{task_id}/explain"))["reasons"]
    (reason,) = [reason for reason in reasons if reason["code"] == "policy"]
    assert policy["id"] in reason["message"]
    refused = await _refused(api, {"task_type": "echo", "target_region": "us"})
    assert (refused["violation_type"], refused["allowed"]) == ("region", "regions eu")


async def test_repeats_have_their_first_answer_and_are_one_violation(api: Api) -> None:
    once, again = ({"Idempotency-Key": name} for name in ("once", "again"))
    batch = {"tasks": [LONG, {**LONG, "timeout_seconds": 1}]}
    first = await api.post("/tasks", LONG, headers=once)
    first_batch = await api.post("/tasks/batch", batch, headers=once)
    await api.post("/policies", LIMIT)
    assert await api.post("/tasks", LONG, headers=once) == first
    assert await api.post("/tasks/batch", batch, headers=once) == first_batch
    assert await _violations(api) == 0
    for _ in range(2):
        await _refused(api, LONG, headers=again)
    assert await _violations(api) == 1
    await _refused(api, LONG)
    assert await _violations(api) == 2
    answer = await api.call("POST", "/tasks/batch", {"tasks": [{**LONG, "timeout_seconds": 1}, LONG]})
    assert (answer.status_code, answer.json()["index"]) == (403, 1)
    assert answer.json()["error"].startswith("tasks.1: ")
    assert ((await api.get("/tasks"))["total"], await _violations(api)) == (3, 3)


async def test_versions_stay_and_a_rollback_is_a_new_one(api: Api) -> None:
    made = await api.post("/policies", LIMIT, headers={"Idempotency-Key": "made"})
    assert (await api.post("/policies", LIMIT, headers={"Idempotency-Key": "made"}))["id"] == made["id"]
    path, eighty = f"/policies/{made['id']}", {**LONG, "timeout_seconds": 80}
    changed = (await api.call("PUT", path, {"sla": {"max_execution_seconds": 90}, "priority": 3})).json()
    assert (changed["version"], changed["previous_version"], changed["name"]) == (2, 1, "Short tasks")
    await api.post("/tasks", eighty)
    assert (await api.call("PUT", path, {"priority": 3})).json()["version"] == 2, "nothing changed"
    back = await api.post(f"{path}/rollback", {"version": 1})
    assert (back["version"], back["sla"], back["priority"]) == (3, {"max_execution_seconds": 60}, 0)
    await _refused(api, eighty)
    assert (await api.call("PUT", path, {"enabled": False})).is_success
    await api.post("/tasks", eighty)
    assert (await api.call("PUT", path, {"enabled": True})).is_success
    await _refused(api, eighty)
    assert (await api.call("DELETE", path)).is_success
    await api.post("/tasks", eighty)
    versions = (await api.get(f"{path}/versions"))["versions"]
    assert [version["version"] for version in versions] == [5, 4, 3, 2, 1]
    for method, removed in (("GET", path), ("DELETE", path), ("PUT", path), ("POST", f"{path}/rollback")):
        body = {"version": 1} if method == "POST" else {"priority": 1} if method == "PUT" else None
        assert (await api.call(method, removed, body)).status_code == 404


async def test_a_dry_run_counts_what_would_have_been_refused(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("a")
    for seconds in (30, 90, 90):
        await tasks.submit(task_type="quick", timeout_seconds=seconds)
    lease = await tasks.claim_one("a")
    first = await api.post("/policies", {"name": "Only a", "agent_allowlist": ["a"], "enabled": True})
    large = {"task_type": "large", "payload": {"n": 2**60}}
    await tasks.submit(**large)
    odd = await api.post("/policies/dry-run", {"name": "Odd", "deny_when": "payload.n > 1", "task_types": ["large"]})
    assert (odd["matched"], odd["denied"]) == (1, 1), "it is beyond what a condition can read"
    found = await api.post("/policies/dry-run", {**LIMIT, "agent_blocklist": ["a"]})
    assert (found["tried"], found["matched"], found["denied"], found["agent_refused"]) == (4, 3, 2, 1)
    assert lease["id"] in {task["task_id"] for task in found["tasks"]}
    assert [conflict["policy_id"] for conflict in found["conflicts"]] == [first["id"]]
    assert ((await api.get("/policies"))["total"], await _violations(api)) == (1, 0), "nothing was stored"


async def test_a_dry_run_that_has_no_time_says_what_it_left_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_routes, "DRY_RUN_S", 0.0)
    for n in range(2):
        await api.post("/tasks", {"task_type": "t", "payload": {"n": n}})
    reads = {"name": "Reads", "deny_when": "payload.n >= 0.0"}
    found = await api.post("/policies/dry-run", reads)
    assert (found["matched"], found["not_judged"], found["denied"]) == (2, 2, 0)
    found = await api.post("/policies/dry-run", {"name": "Reads nothing", "deny_when": "task.task_type == 't'"})
    assert (found["matched"], found["not_judged"], found["denied"]) == (2, 0, 2), "that takes no time"


async def test_statistics_count_each_status_for_itself(api: Api) -> None:
    await api.post("/policies", LIMIT)
    for _ in range(4):
        await _refused(api, LONG)
    ids = [violation["id"] for violation in (await api.get("/policies/violations?limit=3"))["violations"]]
    for violation_id, status in zip(ids, ("investigating", "resolved", "false_positive"), strict=True):
        answer = await api.call("PATCH", f"/policies/violations/{violation_id}", {"status": status})
        assert answer.json()["status"] == status
    stats = await api.get("/policies/violations/stats")
    assert [stats[name] for name in ("total", "open", "investigating", "resolved", "false_positive")] == [4, 1, 1, 1, 1]
    assert (stats["by_type"]["sla"], stats["open_by_type"]["sla"], stats["by_type"]["agent"]) == (4, 1, 0)
    page = await api.get("/policies/violations?status=resolved&limit=1")
    assert (page["total"], page["violations"][0]["id"]) == (1, ids[1])
    assert (await api.get("/policies/violations?violation_type=agent"))["total"] == 0
    path = f"/policies/violations/{ids[1]}"
    await api.call("PATCH", path, {"status": "resolved", "resolution_notes": "Told them."})
    resolved = (await api.get(path))["violation"]
    assert resolved["resolved_by"]
    assert (resolved["resolved_at"], resolved["resolution_notes"]) == (
        page["violations"][0]["resolved_at"],
        "Told them.",
    )


async def test_runs_of_schedules_and_workflows_are_under_policies(api: Api) -> None:
    policy = await api.post("/policies", LIMIT)
    made = await api.post("/schedules", {"every_seconds": 60, "task": LONG})
    path = f"/schedules/{made['schedule_id']}"
    asked = await api.call("POST", f"{path}/run")
    assert (asked.status_code, asked.json()["policy_id"]) == (403, policy["id"])
    keeper = schedule_keeper(api.stores, ManualClock(time.time() + 61))
    await keeper.fire_due()
    found = await api.get(path)
    assert (found["runs_started"], found["last_run_id"], found["open_run_ids"]) == (0, None, [])
    assert [row.data["reason"] for row in await api.rows() if row.kind == "schedule.skipped"] == ["policy"]
    step = {"id": "a", "task": LONG}
    await api.post("/workflows", {"name": "flow", "steps": [step]})
    run = await api.post("/workflows/flow/runs", {})
    await settle(workflow_keeper(api.stores, Agents(api.stores, "default")))
    found = await api.get(f"/workflow-runs/{run['run_id']}")
    assert (found["status"], found["steps"][0]["code"]) == ("failed", "policy_denied")
    assert policy["id"] in found["steps"][0]["reason"]
    assert await _violations(api) == 3
    await api.call("PUT", f"/policies/{policy['id']}", {"enforcement_level": "warn"})
    await schedule_keeper(api.stores, ManualClock(time.time() + 122)).fire_due()
    found = await api.get(path)
    assert found["runs_started"] == 1
    (warned, *_) = (await api.get("/policies/violations"))["violations"]
    assert warned["task_id"] == found["last_run_id"]


async def test_odd_bodies_are_refused_by_a_sentence(api: Api) -> None:
    for body, says in (
        ({"name": "Nothing"}, "demands nothing"),
        ({"agent_allowlist": ["a"]}, "name is required"),
        ({"name": "A", "agent_allowlist": ["a"], "agent_alowlist": ["b"]}, "did you mean agent_allowlist"),
        ({"name": "A", "agent_allowlist": ["a"], "enforcement_level": "harsh"}, "enforcement_level"),
        ({"name": "A", "sla": {"max_execution_seconds": -1}}, "max_execution_seconds"),
        ({"name": "A", "deny_when": "task.task_type =="}, "CEL"),
        ({"name": "A", "agent_allowlist": ["a"], "metadata": {"x": "y" * 20_000}}, "metadata"),
    ):
        answer = await api.call("POST", "/policies", body)
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text


async def _run(api: Api, *words: str) -> str:
    environment = {**clean_environment(), "ARAGORA_API_URL": api.url, "COLUMNS": "200"}
    result = await in_thread(CliRunner().invoke, cli, list(words), env=environment)
    assert result.exit_code == 0, result.output
    return str(result.output)


async def test_the_page_and_the_commands_of_policies(api: Api) -> None:
    page = (ROOT / "docs" / "policies.md").read_text()
    (body,) = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    await api.post("/policies", body)
    create, conditional, override, try_it = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    made = (await _run(api, *shlex.split(create)[1:])).strip()
    assert (await api.get(f"/policies/{made}"))["region_constraint"]["allowed_regions"] == ["eu-west"]
    conditioned = (await _run(api, *shlex.split(conditional)[1:])).strip()
    refused = await _refused(api, {"task_type": "echo", "priority": "urgent"})
    assert (refused["policy_id"], refused["violation_type"]) == (conditioned, "condition")
    await api.post("/tasks", {"task_type": "echo", "priority": "urgent", "tenant": "t1"})
    assert (await api.call("DELETE", f"/policies/{conditioned}")).is_success
    assert "Of the newest 1 tasks" in await _run(api, *shlex.split(try_it)[1:])
    soft = await api.post("/policies", {**LIMIT, "enforcement_level": "soft"})
    task_id = (await _run(api, *shlex.split(override)[1:])).strip()
    (overridden,) = (await api.get("/policies/violations?status=resolved"))["violations"]
    assert (overridden["policy_id"], overridden["task_id"]) == (soft["id"], task_id)
    assert (await api.call("DELETE", f"/policies/{soft['id']}")).is_success
    assert "Conflict: No region" in await _run(api, "policies", "create", "--name", "B", "--block-regions", "eu-west")
    changed = json.loads(await _run(api, "policies", "update", made, "--max-execution", "5", "--task-types", "report"))
    assert (changed["version"], changed["sla"]) == (2, {"max_execution_seconds": 5})
    assert "Reports stay in Europe" in await _run(api, "policies", "list")
    refused = await _refused(api, {"task_type": "report", "timeout_seconds": 6})
    assert refused["policy_id"] == made
    listed = json.loads(await _run(api, "policies", "violations", "list", "--policy", made, "--json"))
    (violation,) = listed["violations"]
    assert violation["id"] in await _run(api, "policies", "violations", "list")
    assert "resolved" in await _run(api, "policies", "violations", "set", violation["id"], "resolved", "--notes", "OK.")
    assert json.loads(await _run(api, "policies", "violations", "stats"))["resolved"] == 2
    assert json.loads(await _run(api, "policies", "rollback", made, "1"))["version"] == 3
    assert json.loads(await _run(api, "policies", "versions", made))["total"] == 3
    assert json.loads(await _run(api, "policies", "show", made))["sla"] == {"max_execution_seconds": 600}
    assert "deleted" in await _run(api, "policies", "delete", made)
