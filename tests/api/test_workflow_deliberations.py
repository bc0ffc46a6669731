"""Workflows that deliberate, through the API: the example of the page, who may, and what retention and erasure leave."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.roles import SEALER
from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.audit.retention import DAY_S
from tests.support.answering import Agents as Panel
from tests.support.answering import always, registrations
from tests.support.api import Api
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.retention import MONTH, Hurried, retention_keeper
from tests.support.workflows import Agents, decide, open_deliberations, settle, workflow_keeper

PAGE = (ROOT / "docs" / "workflows.md").read_text()
FLOW = {
    "name": "flow",
    "steps": [
        {"id": "verdict", "deliberation": {"content": "Ship it?", "config": {"options": ["yes", "no"]}}},
        {"id": "then", "task": {"task_type": "t", "input": {"of": {"from": "verdict", "path": "/answer"}}}},
    ],
}


@pytest.fixture
async def panel() -> AsyncIterator[Panel]:
    async with Panel().running() as running:
        yield running


async def test_the_example_that_deliberates_runs(api: Api, panel: Panel, tmp_path: Path) -> None:
    (document,) = re.findall(r"```yaml deliberates\n(.*?)```", PAGE, re.DOTALL)
    (commands,) = re.findall(r"```sh deliberates\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "verdicts.yaml"
    file.write_text(document)
    panel.answering = {"a": always("keep"), "b": always("keep")}
    await api.post("/agents/batch", registrations(panel, "a", "b"))
    await api.start(SEALER)
    for line in commands.splitlines():
        words = [str(file) if word == file.name else word for word in shlex.split(line)[1:]]
        shown = await command(api, *words)
    run = json.loads(shown)
    results = {step["id"]: step["result"] for step in run["steps"]}
    assert run["status"] == "completed"
    assert [found["answer"] for found in results["each"]] == ["keep", "keep"]
    assert (results["whole"]["answer"], results["whole"]["consensus_reached"]) == ("keep", True)
    (each, _) = run["steps"]
    assert each["first_deliberation_id"] == f"{run['run_id']}.each.00000.1"
    record = await api.get(f"/deliberations/{each['first_deliberation_id']}")
    assert record["status"] == "completed"
    assert len(yaml.safe_load(document)["steps"]) == len(results)


async def test_a_cancelled_run_ends_when_its_deliberation_has(api: Api, panel: Panel) -> None:
    panel.answering = {"a": lambda agent, body: None, "b": lambda agent, body: None}
    await api.post("/agents/batch", registrations(panel, "a", "b"))
    await api.start(SEALER)
    await api.post("/workflows", FLOW)
    run_id = (await api.post("/workflows/flow/runs", {}))["run_id"]

    async def asked() -> Any:
        return panel.calls

    await eventually(asked)
    await api.post(f"/workflow-runs/{run_id}/cancel")
    run = await api.get(f"/workflow-runs/{run_id}?wait=25")
    assert run["status"] == "cancelled"
    assert (await api.get(f"/deliberations/{run_id}.verdict.00000.1"))["status"] == "cancelled"


async def started(api: Api, metadata: dict[str, Any] | None = None) -> str:
    await api.post("/workflows", FLOW)
    run_id = str((await api.post("/workflows/flow/runs", {"metadata": metadata or {}}))["run_id"])
    await settle(workflow_keeper(api.stores))
    return run_id


async def done(api: Api, run_id: str) -> None:
    await decide(api.stores, f"{run_id}.verdict.00000.1", "yes")
    agents = Agents(api.stores, "default")
    await settle(workflow_keeper(api.stores, agents))
    (task_id,) = await agents.open()
    await agents.do(task_id, lambda payload: payload["of"])
    await settle(workflow_keeper(api.stores, agents))


async def test_a_replay_keeps_the_decision(api: Api) -> None:
    old = await started(api)
    await done(api, old)
    replay = (await api.post(f"/workflow-runs/{old}/replay", {"from_step": "then"}))["run_id"]
    agents = Agents(api.stores, "default")
    await settle(workflow_keeper(api.stores, agents))
    assert await open_deliberations(api.stores) == []
    (task_id,) = await agents.open()
    assert task_id == f"{replay}.then.00000.1"
    await retention_keeper(api.stores, MONTH, Hurried(time.time() + 100 * DAY_S)).look()
    assert (await api.get(f"/deliberations/{old}.verdict.00000.1"))["status"] == "completed", "an open run refers to it"
    await agents.do(task_id, lambda payload: payload["of"])
    await settle(workflow_keeper(api.stores, agents))
    steps = (await api.get(f"/workflow-runs/{replay}?results=true"))["steps"]
    assert [steps[0]["result"]["answer"], steps[1]["result"]] == ["yes", "yes"]


async def test_what_retention_took_is_no_result_and_cannot_be_kept(api: Api) -> None:
    run_id = await started(api)
    await done(api, run_id)
    await api.stores.pool.execute("delete from deliberations")
    steps = (await api.get(f"/workflow-runs/{run_id}?results=true"))["steps"]
    assert [(step["result"], step["result_left_out"]) for step in steps] == [(None, True), ("yes", False)]
    refused = await api.call("POST", f"/workflow-runs/{run_id}/replay", {"from_step": "then"})
    assert (refused.status_code, refused.json()["code"]) == (410, "result_removed")


async def test_erasing_the_subject_of_a_run_takes_its_deliberations(api: Api) -> None:
    run_id = await started(api, {"subject": "ann"})
    refused = await api.call("POST", "/erasures", {"subject": "ann"})
    assert refused.json()["code"] == "open_work"
    await done(api, run_id)
    erased = (await api.post("/erasures", {"subject": "ann"}))["erased"]
    assert (erased["workflows"], erased["deliberations"], erased["tasks"]) == (1, 1, 1)
    assert (await api.get(f"/deliberations/{run_id}.verdict.00000.1"))["redacted"] is True


async def test_erasing_a_subject_takes_documents_that_ask_about_it(api: Api) -> None:
    asked = {"content": "Who is Ann?", "context": {"subject": "ann"}}
    each = {"over": [1], "deliberation": asked}
    for name, step in (
        ("one", {"deliberation": asked}),
        ("each", {"map": each}),
        ("other", {"task": {"task_type": "t"}}),
    ):
        await api.post("/workflows", {"name": name, "steps": [{"id": "a", **step}]})
    assert (await api.post("/erasures", {"subject": "ann"}))["erased"]["workflows"] == 2
    assert [workflow["name"] for workflow in (await api.get("/workflows"))["workflows"]] == ["other"]


async def test_whoever_may_not_deliberate_may_not_by_a_workflow(api: Api) -> None:
    await api.post("/workflows", FLOW)
    run_id = await started(api)
    await done(api, run_id)
    lacking = principal("lacking", workspace="default", permissions=ALL - {Permission.DELIBERATIONS_WRITE})
    api.app.state.resolver = TokenTable({"lacking": lacking})
    replay = f"/workflow-runs/{run_id}/replay"
    plain = {"name": "plain", "steps": [{"id": "a", "task": {"task_type": "t"}}]}
    calls = (("/workflows", FLOW), ("/workflows/flow/runs", {}), (replay, {"from_step": "then"}))
    for path, body in calls:
        refused = await api.call("POST", path, body, headers=bearer("lacking"))
        assert refused.status_code == 403, path
    assert (await api.call("POST", "/workflows", plain, headers=bearer("lacking"))).status_code == 201


async def test_nobody_takes_the_id_of_a_step(api: Api) -> None:
    run_id = await started(api)
    body = {"content": "Which?", "request_id": f"{run_id}.other.00000.1"}
    refused = await api.call("POST", "/deliberations", body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_id")
