"""Retention of runs: what was removed answers with how it ended, and what open runs need stays."""

from __future__ import annotations

import time
from typing import Any

from cluster.domain.audit.retention import DAY_S, RUNS_REMOVED, RetentionRule
from tests.support.api import Api
from tests.support.cli import command
from tests.support.hooks import send
from tests.support.retention import KEPT_FOR_EVER, MONTH, Hurried, retention_keeper
from tests.support.workflows import Agents, settle, workflow_keeper

FLOW = {
    "name": "flow",
    "steps": [
        {"id": "go", "signal": {"name": "go"}},
        {"id": "a", "after": ["go"], "task": {"task_type": "t", "max_retries": 0}},
    ],
}


async def later(api: Api, rule: RetentionRule = MONTH, batch: int = 500) -> None:
    """What retention does a hundred days from now."""
    await retention_keeper(api.stores, rule, Hurried(time.time() + 100 * DAY_S), batch=batch).look()


async def cancelled(api: Api, run_id: str) -> str:
    await api.post(f"/workflow-runs/{run_id}/cancel")
    await settle(workflow_keeper(api.stores, Agents(api.stores, "default")))
    return run_id


async def started(api: Api) -> str:
    return str((await api.post("/workflows/flow/runs", {}))["run_id"])


async def ids(api: Api) -> set[str]:
    return {run["run_id"] for run in (await api.get("/workflow-runs"))["runs"]}


async def test_whoever_names_a_removed_run_is_told_how_it_ended(api: Api) -> None:
    await api.post("/workflows", FLOW)
    run_id, waits = await cancelled(api, await started(api)), await started(api)
    await later(api)
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/workflow-runs/{run_id}", None),
        ("GET", f"/workflow-runs/{run_id}?wait=5&results=true", None),
        ("POST", f"/workflow-runs/{run_id}/cancel", None),
        ("POST", f"/workflow-runs/{run_id}/replay", {}),
        ("POST", f"/workflow-runs/{run_id}/signals/go", {"value": 1}),
    ]
    for method, path, body in calls:
        answer = await api.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (410, "run_removed"), f"{method} {path}: {answer.text}"
        assert "ended as cancelled" in answer.json()["error"]
    assert await ids(api) == {waits}, "what has not ended stays"
    assert (await api.call("GET", "/workflow-runs/wfrun_never")).json()["code"] == "run_not_found"
    (row,) = [row for row in await api.rows() if row.kind == RUNS_REMOVED]
    assert (row.data, row.principal) == ({"run_ids": [run_id]}, "system:retention")
    assert (await api.get("/retention"))["last_run"]["workflow_runs"] == 1


async def test_runs_go_by_age_and_by_number_in_small_commits(api: Api) -> None:
    await api.post("/workflows", FLOW)
    runs = [await cancelled(api, await started(api)) for _ in range(5)]
    await later(api, KEPT_FOR_EVER)
    assert await ids(api) == set(runs)
    newest = RetentionRule(
        task_days=0, task_count=0, deliberation_days=0, deliberation_count=0, workflow_run_days=0, workflow_run_count=2
    )
    await later(api, newest, batch=2)
    assert await ids(api) == set(runs[3:])
    removed = [row.data["run_ids"] for row in await api.rows() if row.kind == RUNS_REMOVED]
    assert [len(part) for part in removed] == [2, 1]
    await later(api)
    assert await ids(api) == set(), "also in a workspace whose tasks have gone before"


async def test_a_run_that_an_open_replay_refers_to_stays(api: Api) -> None:
    await api.post("/workflows", FLOW)
    old = await started(api)
    await api.post(f"/workflow-runs/{old}/signals/go", {"value": 1})
    agents = Agents(api.stores, "default")
    keeper = workflow_keeper(api.stores, agents)
    await settle(keeper)
    (task_id,) = await agents.open()
    await agents.do(task_id, lambda payload: payload)
    await settle(keeper)
    assert (await api.get(f"/workflow-runs/{old}"))["status"] == "completed"
    replay = (await api.post(f"/workflow-runs/{old}/replay", {"from_step": "a"}))["run_id"]
    await later(api)
    assert await ids(api) == {old, replay}
    await cancelled(api, replay)
    await later(api)
    assert await ids(api) == set()


async def test_a_webhook_whose_run_was_removed_starts_no_other(api: Api) -> None:
    await api.post("/workflows", FLOW)
    hook = await api.post("/hooks", {"name": "hook", "workflow": "flow"})
    run_id = (await send(api, hook)).json()["run_id"]
    await cancelled(api, run_id)
    await later(api)
    await api.stores.pool.execute("delete from idempotency")
    assert (await send(api, hook)).json()["run_id"] == run_id
    assert await ids(api) == set()


async def test_the_command_sets_and_counts_runs(api: Api) -> None:
    await api.post("/workflows", FLOW)
    await cancelled(api, await started(api))
    shown = await command(api, "retention", "set", "--workflow-run-days", "0.5", "--workflow-run-count", "7")
    assert "Keeps runs of workflows for 0.5 days after their end, at most 7 of them." in shown
    await api.stores.pool.execute("update workflow_runs set created_at = created_at - 1e6, ended_at = ended_at - 1e6")
    assert "1 run of workflows" in await command(api, "retention", "run", "--dry-run")
