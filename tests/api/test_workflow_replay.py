"""Replays over the API, the command line and the client: what is kept, and what is refused with what advice."""

from __future__ import annotations

import json
from typing import Any

from cluster.client.blocking import BlockingClient
from cluster.domain.audit.retention import TASKS_REMOVED
from tests.support.api import Api, in_thread
from tests.support.cli import command
from tests.support.workflows import Agents, settle, submitted, workflow_keeper

FLOW = {
    "name": "flow",
    "steps": [
        {"id": "go", "signal": {"name": "go"}},
        {"id": "all", "map": {"over": {"from": "input"}, "task": {"task_type": "t", "input": {"x": {"from": "item"}}}}},
        {"id": "may", "on_failure": {"step": "why"}, "task": {"task_type": "t", "max_retries": 0, "input": {"x": -1}}},
        {"id": "why", "task": {"task_type": "t", "input": {"of": {"from": "failure", "path": "/task_id"}}}},
        {
            "id": "last",
            "task": {
                "task_type": "t",
                "max_retries": 0,
                "input": {"x": {"from": "go"}, "all": {"from": "all"}, "why": {"from": "may"}},
            },
        },
    ],
}


def work(payload: Any) -> Any:
    if payload.get("x", 0) == -1:
        raise ValueError("no")
    return payload


async def advance(api: Api, run_id: str, **works: Any) -> dict[str, Any]:
    """Does the run's tasks until it has ended, and returns it."""
    agents = Agents(api.stores, "default")
    keeper = workflow_keeper(api.stores, agents)
    for _ in range(20):
        await settle(keeper)
        for task_id in await agents.open():
            await agents.do(task_id, works.get(task_id.split(".")[1], work))
        run = await api.get(f"/workflow-runs/{run_id}?results=true")
        if run["ended_at"] is not None:
            return run
    raise AssertionError("the run does not end")


async def failed_run(api: Api) -> str:
    def fails(payload: Any) -> Any:
        raise ValueError("no")

    await api.post("/workflows", FLOW)
    run_id = str((await api.post("/workflows/flow/runs", {"input": [1, 2], "metadata": {"m": 1}}))["run_id"])
    await api.post(f"/workflow-runs/{run_id}/signals/go", {"value": "signalled"})
    assert (await advance(api, run_id, last=fails))["status"] == "failed"
    return run_id


async def test_a_replay_does_what_was_left_with_what_was_kept(api: Api) -> None:
    old = await failed_run(api)
    new = (await command(api, "workflows", "replay", old, "--key", "k")).strip()
    assert (await command(api, "workflows", "replay", old, "--key", "k")).strip() == new, "a repeat is no second run"
    run = await advance(api, new)
    assert (run["status"], run["replays"], run["metadata"]) == ("completed", old, {"m": 1})
    results = {step["id"]: step["result"] for step in run["steps"]}
    failed = f"{old}.may.00000.1"
    assert results["last"] == {"x": "signalled", "all": [{"x": 1}, {"x": 2}], "why": {"of": failed}}
    assert results["all"] == [{"x": 1}, {"x": 2}]
    assert [id_ for id_ in await submitted(api.stores) if id_.startswith(new)] == [f"{new}.last.00000.1"]
    again = json.loads(await command(api, "workflows", "replay", new, "--from", "all", "--json"))
    assert (await advance(api, again["run_id"]))["status"] == "completed"
    started = [id_ for id_ in await submitted(api.stores) if id_.startswith(again["run_id"])]
    assert [id_.split(".")[1] for id_ in started] == ["all", "all", "last"]


async def test_what_cannot_be_replayed_is_refused(api: Api) -> None:
    old = await failed_run(api)
    path = f"/workflow-runs/{old}/replay"
    refused: list[tuple[str, Any, int, str]] = [
        (path, {"from_step": "x"}, 400, "unknown_step"),
        (path, {"from_step": 3}, 400, "invalid_request"),
        (path, {"from": "last"}, 400, "unknown_field"),
        ("/workflow-runs/x/replay", {}, 404, "run_not_found"),
    ]
    for where, body, status, code in refused:
        answer = await api.call("POST", where, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text

    def start() -> Any:
        with BlockingClient(api.url) as client:
            return client.replay_run(old, "last", idempotency_key="k")["run_id"]

    new = await in_thread(start)
    open_run = await api.call("POST", f"/workflow-runs/{new}/replay", {})
    assert (open_run.status_code, open_run.json()["code"]) == (409, "open_work")
    await advance(api, new)
    done = await api.call("POST", f"/workflow-runs/{new}/replay", {})
    assert (done.status_code, done.json()["code"]) == (409, "nothing_to_replay")
    await api.stores.pool.execute("delete from tasks where id = $1", f"{old}.all.00001.1")
    removed = await api.call("POST", path, {})
    assert (removed.status_code, removed.json()["code"]) == (410, "result_removed")
    assert "replay from it" in removed.json()["error"]
    assert (await api.call("POST", path, {"from_step": "all"})).is_success
    await api.stores.pool.execute("delete from workflows")
    assert (await api.call("POST", path, {})).json()["code"] == "workflow_not_found"


async def test_a_result_that_was_removed_meanwhile_fails_its_step(api: Api) -> None:
    old = await failed_run(api)
    new = (await api.post(f"/workflow-runs/{old}/replay", {}))["run_id"]
    await api.stores.pool.execute("delete from tasks where id = $1", f"{old}.all.00001.1")
    run = await advance(api, new)
    assert [step["code"] for step in run["steps"] if step["status"] == "failed"] == ["task_failed", "result_removed"]


async def test_retention_leaves_what_an_open_replay_refers_to(api: Api) -> None:
    old = await failed_run(api)
    ids = [f"{old}.all.00000.1", f"{old}.last.00000.1"]
    assert set(await api.stores.retention.referred("default", TASKS_REMOVED, ids)) == set()
    await api.post(f"/workflow-runs/{old}/replay", {})
    assert set(await api.stores.retention.referred("default", TASKS_REMOVED, ids)) == set(ids)
