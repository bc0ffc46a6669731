"""Large values of runs as those get them that do the work: by a claim over HTTP, as called agents and as language models."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

from actors.roles import SEALER
from cluster.client.worker import Job, Worker
from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.tasks.events import Claim, Fail, Reporter
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.workflows.large_values import MOST_COPIED
from tests.support.api import Api
from tests.support.called_agents import Endpoint
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.endpoints import completion, serving
from tests.support.principals import TokenTable, bearer, principal
from tests.support.workflows import Agents, settle, workflow_keeper

PAGE = (ROOT / "docs" / "workflows.md").read_text()
LONG = "x" * (MOST_COPIED + 1)


async def test_the_example_of_large_values_runs(api: Api, tmp_path: Path) -> None:
    (document,) = re.findall(r"```yaml large\n(.*?)```", PAGE, re.DOTALL)
    (commands,) = re.findall(r"```sh large\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "digest.yaml"
    file.write_text(document)
    await api.start(SEALER)
    worker = Worker(agent_id="w1", capabilities=["web"], base_url=api.url, heartbeat_s=0.2, concurrency=4)

    @worker.handles("fetch")
    async def fetch(job: Job) -> Any:
        return job.payload["page"] * 40_000

    @worker.handles("summarise")
    async def summarise(job: Job) -> Any:
        return [len(page) for page in job.payload["pages"]]

    running = asyncio.create_task(worker.run())
    try:
        for line in commands.splitlines():
            words = [str(file) if word == file.name else word for word in shlex.split(line)[1:]]
            shown = await command(api, *words)
    finally:
        worker.drain()
        await asyncio.wait_for(running, 30)
    run = json.loads(shown)
    assert [step["status"] for step in run["steps"]] == ["completed"] * 2
    assert run["steps"][1]["result"] == [40_000, 40_000, 40_000]
    id_ = run["steps"][1]["first_task_id"]
    stored = await api.stores.pool.value("select length(payload::text) from tasks where id = $1", id_)
    assert stored < 1_000, "the pages are where they were"


async def test_called_agents_and_models_get_large_values(api: Api) -> None:
    plain, model = Endpoint({"result": 1}), Endpoint(completion("short"))
    await api.start(SEALER)
    async with serving(plain) as plain_url, serving(model) as model_url:
        await api.post("/agents", {"agent_id": "plain", "endpoint": plain_url})
        described = {"transport": "openai", "endpoint": model_url, "model": "m1"}
        await api.post("/agents", {"agent_id": "model", **described})
        whole = {"prompt": {"from": "input"}}
        steps = [
            {"id": name, "task": {"task_type": "t", "target_agent": name, "input": whole}}
            for name in ("plain", "model")
        ]
        await api.post("/workflows", {"name": "flow", "steps": steps})
        run_id = (await api.post("/workflows/flow/runs", {"input": LONG}))["run_id"]
        run = await api.get(f"/workflow-runs/{run_id}?wait=25")
    assert run["status"] == "completed"
    assert plain.asked[0]["task"]["payload"] == {"prompt": LONG}
    assert model.asked[0]["messages"] == [{"role": "user", "content": LONG}]


async def test_the_permission_for_payloads_rules_large_values(api: Api) -> None:
    step = {"id": "a", "task": {"task_type": "t", "input": {"of": {"from": "input"}}}}
    await api.post("/workflows", {"name": "flow", "steps": [step]})
    run_id = (await api.post("/workflows/flow/runs", {"input": LONG}))["run_id"]
    path = f"/tasks/{run_id}.a.00000.1"
    await settle(workflow_keeper(api.stores))
    assert (await api.get(path))["payload"] == {"of": LONG}
    blind = principal("blind", workspace="default", permissions=ALL - {Permission.PAYLOADS_READ})
    api.app.state.resolver = TokenTable({"blind": blind})
    assert "xxx" not in (await api.call("GET", path, headers=bearer("blind"))).text


async def test_a_replay_from_the_dead_letter_has_a_copy(api: Api) -> None:
    once = {"task_type": "t", "max_retries": 0}
    steps = [{"id": "first", "task": once}, {"id": "then", "task": {**once, "input": {"of": {"from": "first"}}}}]
    await api.post("/workflows", {"name": "flow", "steps": steps})
    run_id = (await api.post("/workflows/flow/runs", {}))["run_id"]
    agents = Agents(api.stores, "default")
    keeper = workflow_keeper(api.stores, agents)
    await settle(keeper)
    await agents.do(f"{run_id}.first.00000.1", lambda _: LONG)
    await settle(keeper)
    dead = f"{run_id}.then.00000.1"
    fails = Fail(by=Reporter(principal="p1", agent_id="a1", attempt=1), error="no", error_class=ErrorClass.RETRYABLE)
    await agents.decide(dead, Claim(agent_id="a1", claim_id="c1", principal="p1"), fails)
    await settle(keeper)
    again = (await api.post(f"/dead-letter/{dead}/replay", {}))["replayed_as"]
    await api.stores.pool.execute("delete from tasks where id like '%.first.%'")
    assert (await api.get(f"/tasks/{again}"))["payload"] == {"of": LONG}
    assert (await api.get(f"/tasks/{dead}"))["payload"] == {"of": None}
