"""Workflows over the API: what is refused with what advice, and runs whose tasks a worker does."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from actors.roles import SEALER
from cluster.client.blocking import BlockingClient
from cluster.client.worker import Job, Worker
from tests.support.api import Api, in_thread
from tests.support.cli import command
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.workflows import Agents, settle, workflow_keeper

ECHO = {"task_type": "echo"}
PAGE = (ROOT / "docs" / "workflows.md").read_text()


def flow(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "flow", "steps": list(steps), **fields}


def one(**fields: Any) -> dict[str, Any]:
    return flow({"id": "a", "task": {**ECHO, **fields}})


@asynccontextmanager
async def working(api: Api) -> AsyncIterator[None]:
    """What advances runs, and a worker that does the tasks of the page."""
    await api.start(SEALER)
    worker = Worker(agent_id="w1", capabilities=["math"], base_url=api.url, heartbeat_s=0.2, concurrency=4)

    @worker.handles("square")
    async def square(job: Job) -> Any:
        return job.payload["x"] ** 2

    @worker.handles("sum")
    async def add(job: Job) -> Any:
        return sum(job.payload["numbers"])

    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.drain()
        await asyncio.wait_for(task, 30)


async def test_the_examples_of_the_page_run(api: Api, tmp_path: Path) -> None:
    (squares,) = re.findall(r"```yaml workflow\n(.*?)```", PAGE, re.DOTALL)
    (commands,) = re.findall(r"```sh run\n(.*?)```", PAGE, re.DOTALL)
    (script,) = re.findall(r"```python run\n(.*?)```", PAGE, re.DOTALL)
    documents = [json.loads(text) for text in re.findall(r"```json workflow\n(.*?)```", PAGE, re.DOTALL)]
    file = tmp_path / "squares.yaml"
    file.write_text(squares)
    (apply, run, *lists) = [shlex.split(line)[1:] for line in commands.splitlines()]
    async with working(api):
        assert "squares version 1" in await command(api, *(str(file) if word == file.name else word for word in apply))
        shown = json.loads(await command(api, *run))
        assert shown["status"] == "completed"
        assert [step["result"] for step in shown["steps"]] == [[1, 4, 9], 14]
        for words in lists:
            assert "squares" in await command(api, *words)
        lines: list[str] = []
        names = {"BlockingClient": BlockingClient, "print": lambda *found: lines.append(" ".join(map(str, found)))}
        await in_thread(exec, script.replace("http://localhost:8080", api.url), names)
        assert lines == ["completed 49"]
    (waits,) = re.findall(r"```yaml waits\n(.*?)```", PAGE, re.DOTALL)
    for document in [*documents, yaml.safe_load(squares), yaml.safe_load(waits)]:
        await api.post("/workflows", document)
        jsonschema.validate(document, (await api.get("/workflow-schema"))["schema"])


async def test_the_example_that_waits_runs(api: Api, tmp_path: Path) -> None:
    (document,) = re.findall(r"```yaml waits\n(.*?)```", PAGE, re.DOTALL)
    (commands,) = re.findall(r"```sh waits\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "release.yaml").write_text(document)
    run_id = "RUN"
    async with working(api):
        for line in commands.splitlines():
            words = line.replace("RUN", run_id).replace("release.yaml", str(tmp_path / "release.yaml"))
            shown = await command(api, *shlex.split(words)[1:])
            if "workflows run" in line:
                run_id = shown.strip()
    results = {step["id"]: step["result"] for step in json.loads(shown)["steps"]}
    assert results == {"build": 9, "pause": None, "approval": {"by": "ann", "copies": 5}, "publish": 25}


async def test_a_document_is_a_version_once(api: Api) -> None:
    document = one(input={"x": 1})
    assert [(await api.post("/workflows", document))["version"] for _ in range(2)] == [1, 1]
    assert (await api.post("/workflows", one(input={"x": 2})))["version"] == 2
    assert (await api.get("/workflows/flow?version=1"))["document"] == document
    assert [workflow["version"] for workflow in (await api.get("/workflows"))["workflows"]] == [2]


ASKED = {"content": "Which?"}
TWO = [{"id": "a", "task": ECHO}, {"id": "b", "task": ECHO}]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (flow(), "invalid_workflow", "1 to 500 steps"),
    (flow(*[{"id": f"s{n}", "task": ECHO} for n in range(501)]), "limit_exceeded", "1 to 500 steps"),
    (flow(TWO[0], TWO[0]), "invalid_workflow", "an id of its own"),
    (flow({"id": "input", "task": ECHO}), "invalid_workflow", "use for something else"),
    (flow({"id": "a"}), "invalid_workflow", "one of task, deliberation, map, signal, sleep"),
    (
        flow({"id": "a", "task": ECHO, "map": {"over": [], "task": ECHO}}),
        "invalid_workflow",
        "one of task, deliberation, map, signal, sleep",
    ),
    (flow({"id": "a", "task": ECHO, "deliberation": ASKED}), "invalid_workflow", "one of task, deliberation"),
    (flow({"id": "a", "map": {"over": []}}), "invalid_workflow", "either task or deliberation"),
    (flow({"id": "a", "map": {"over": [], "task": ECHO, "deliberation": ASKED}}), "invalid_workflow", "either task or"),
    (flow({"id": "a", "deliberation": {}}), "invalid_request", "deliberation.content"),
    (flow({"id": "a", "deliberation": {**ASKED, "content": {"from": "item"}}}), "invalid_workflow", "literal"),
    (flow({"id": "a", "deliberation": {**ASKED, "request_id": "x"}}), "unknown_field", "request_id"),
    (
        flow({"id": "a", "deliberation": {**ASKED, "config": {"optoins": []}}}),
        "invalid_config",
        "Step a: config.optoins",
    ),
    (flow({"id": "a", "deliberation": {**ASKED, "content": " "}}), "invalid_content", "Step a: content"),
    (flow({"id": "a", "deliberation": {**ASKED, "documents": [1]}}), "invalid_deliberation", "list of texts"),
    (flow({"id": "a", "deliberation": {**ASKED, "on_no_consensus": "skip"}}), "invalid_request", "on_no_consensus"),
    (
        flow({"id": "a", "map": {"over": [], "deliberation": {**ASKED, "config": {"k": 0}}}}),
        "invalid_config",
        "config.k",
    ),
    (
        flow({"id": "a", "task": ECHO, "after": ["b"]}, {"id": "b", "task": ECHO, "after": ["a"]}),
        "invalid_workflow",
        "a, b",
    ),
    (flow({"id": "a", "task": ECHO, "after": ["a"]}), "invalid_workflow", "wait for each other"),
    (flow({"id": "a", "task": ECHO, "after": ["x"]}), "invalid_workflow", "does not exist: x"),
    (flow({"id": "a", "task": ECHO, "on_failure": {"step": "x"}}), "invalid_workflow", "another step"),
    (
        flow(*({**step, "on_failure": {"step": "h"}} for step in TWO), {"id": "h", "task": ECHO}),
        "invalid_workflow",
        "two",
    ),
    (one(input={"from": "item"}), "invalid_workflow", "literal"),
    (one(input={"from": "failure"}), "invalid_workflow", "literal"),
    (one(input=[{"from": "later"}]), "invalid_workflow", "literal"),
    (one(input={"from": "input", "path": "a"}), "invalid_workflow", "JSON Pointer"),
    (one(input={"from": "input", "path": "/~2"}), "invalid_workflow", "JSON Pointer"),
    (one(input=json.loads("[" * 17 + "]" * 17)), "limit_exceeded", "16 levels"),
    (one(input=[float("nan")]), "invalid_json", "NaN"),
    (one(metadata={"x": float("inf")}), "invalid_json", "NaN"),
    (flow({"id": "a", "map": {"over": [float("nan")], "task": ECHO}}), "invalid_json", "NaN"),
    (one(input={"from": "input", "path": "/x", "default": float("nan")}), "invalid_json", "NaN"),
    (
        flow({"id": "a", "map": {"over": "x", "task": ECHO}}),
        "invalid_request",
        "steps.0.map.over: Input should be a valid list; or steps.0.map.over must be a JSON object.",
    ),
    (
        flow({"id": "a", "task": ECHO, "on_failure": 3}),
        "invalid_request",
        "steps.0.on_failure: Input should be 'fail' or 'continue'; or steps.0.on_failure must be a JSON object.",
    ),
    (flow({"id": "a", "task": ECHO, "on_failure": {}}), "invalid_request", "steps.0.on_failure.step is required."),
    (
        flow({"id": "a", "task": ECHO, "on_failure": {"step": 3}}),
        "invalid_request",
        "steps.0.on_failure.step: Input should be a valid string.",
    ),
    (flow({"id": "a", "task": ECHO, "when": "b >"}), "invalid_condition", "when of a: The condition is not CEL"),
    (flow({"id": "a", "task": ECHO, "when": "b == 1.0"}), "invalid_condition", "there is only a, input"),
    (flow({"id": "a", "task": ECHO, "when": "item == 1.0"}), "invalid_condition", "there is only a, input"),
    (flow({"id": "a", "task": ECHO, "when": "a == 1.0"}), "invalid_workflow", "wait for each other"),
    (flow({"id": "a", "task": ECHO, "when": "x" * 1001}), "invalid_request", "when"),
    (
        flow({"id": "a", "map": {"over": [], "filter": "failure == 1.0", "task": ECHO}}),
        "invalid_condition",
        "filter of",
    ),
    (flow({"id": "a", "signal": {"name": "a/b"}}), "invalid_request", "signal.name"),
    (flow({"id": "a", "signal": {"name": "a", "timeout_seconds": -1}}), "invalid_request", "timeout_seconds"),
    (flow({"id": "a", "signal": {"name": "a", "default": float("nan")}}), "invalid_json", "NaN"),
    (flow({"id": "a", "sleep": {}}), "invalid_request", "sleep"),
    (flow({"id": "a", "sleep": {"seconds": 1, "until": 1}}), "invalid_request", "sleep"),
    (flow({"id": "a", "sleep": {"seconds": 1e9}}), "invalid_request", "sleep.seconds"),
    (flow({"id": "a", "sleep": {"seconds": {"x": 1}}}), "invalid_workflow", "must become a number from 0"),
    (flow({"id": "a", "sleep": {"until": "soon"}}), "invalid_workflow", "2027-01-31T06:00:00Z"),
    (flow({"id": "a", "sleep": {"until": {"from": "item"}}}), "invalid_workflow", "literal"),
    (one(input="x" * 262_144), "limit_exceeded", "262,144"),
    (one(payload={}), "unknown_field", "payload"),
    (one(run_at=1), "unknown_field", "run_at"),
    (flow({"id": "a", "map": {"over": {"x": 1}, "concurrency": 0, "task": ECHO}}), "invalid_request", "concurrency"),
    (flow({"id": "a/b", "task": ECHO}), "invalid_request", "id"),
    (flow(*TWO, name="a/b"), "invalid_id", "name"),
]


@pytest.mark.parametrize("n", range(0, len(REFUSED), 6))
async def test_what_cannot_be_is_refused_when_it_is_applied(api: Api, n: int) -> None:
    for body, code, advice in REFUSED[n : n + 6]:
        content, headers = json.dumps(body), {"Content-Type": "application/json"}  # NaN too, which httpx does not write
        answer = await api.call("POST", "/workflows", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
        assert advice in answer.json()["error"] + str(answer.json().get("errors")), answer.text
    assert (await api.get("/workflows"))["total"] == 0


async def test_a_repeat_under_a_key_is_the_same_run(api: Api) -> None:
    await api.post("/workflows", one())
    headers = {"Idempotency-Key": "k"}
    runs = [(await api.post("/workflows/flow/runs", {"input": 1}, headers=headers))["run_id"] for _ in range(2)]
    assert runs[0] == runs[1]
    other = await api.call("POST", "/workflows/flow/runs", {"input": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert (await api.get("/workflow-runs"))["total"] == 1


async def test_what_there_is_not_is_404(api: Api) -> None:
    await api.post("/workflows", one())
    for method, path in (
        ("GET", "/workflows/x"),
        ("GET", "/workflows/flow?version=2"),
        ("DELETE", "/workflows/x"),
        ("POST", "/workflows/x/runs"),
        ("GET", "/workflow-runs/x"),
        ("POST", "/workflow-runs/x/cancel"),
        ("POST", "/workflow-runs/x/signals/go"),
    ):
        answer = await api.call(method, path, {} if path.endswith(("runs", "go")) else None)
        assert answer.status_code == 404, path


async def test_a_run_that_is_waited_for_fails_with_its_exit_code(api: Api) -> None:
    await api.start(SEALER)
    await api.post("/workflows", one(input={"x": {"from": "input", "path": "/absent"}}))
    shown = json.loads(await command(api, "workflows", "run", "flow", "--input", "{}", "--wait", "--json", code=7))
    (step,) = shown["steps"]
    assert (shown["status"], step["code"], step["tasks"]) == ("failed", "input_unresolved", 1)
    assert "input#/absent" in step["reason"]
    assert "failed" in await command(api, "workflows", "status", shown["run_id"])


async def test_a_cancelled_run_lets_its_workflow_go(api: Api) -> None:
    await api.start(SEALER)
    await api.post("/workflows", one())
    run_id = (await api.post("/workflows/flow/runs", {"metadata": {"subject": "ann"}}))["run_id"]
    assert (await api.call("DELETE", "/workflows/flow")).json()["code"] == "open_work"
    assert (await api.call("POST", "/erasures", {"subject": "ann"})).json()["code"] == "open_work"
    await command(api, "workflows", "cancel", run_id)
    await command(api, "workflows", "wait", run_id, code=8)
    assert (await api.call("POST", f"/workflow-runs/{run_id}/cancel")).json()["code"] == "already_terminal"
    assert (await api.post("/erasures", {"subject": "ann"}))["erased"]["workflows"] == 1
    assert (await api.get("/workflow-runs"))["runs"] == []
    await command(api, "workflows", "delete", "flow")
    assert (await api.get("/workflows"))["workflows"] == []


async def test_a_cancelled_item_of_a_run_is_a_failure(api: Api) -> None:
    """By the scheduler itself: it rings when a task of a run ends."""
    await api.start(SEALER)
    await api.post("/workflows", one())
    run_id = (await api.post("/workflows/flow/runs", {}))["run_id"]

    async def started() -> Any:
        steps = (await api.get(f"/workflow-runs/{run_id}"))["steps"]
        return steps and steps[0]["first_task_id"]

    await api.post(f"/tasks/{await eventually(started)}/cancel")
    run = await api.get(f"/workflow-runs/{run_id}?wait=25")
    assert (run["status"], run["steps"][0]["code"]) == ("failed", "task_cancelled")


async def test_a_file_that_is_no_document_is_an_error_of_usage(api: Api, tmp_path: Path) -> None:
    texts = ("a: [b", "[1]", "at: 2026-01-01", "at: 2026-13-01", "at: !!timestamp x", "n: !!int x", "is: !!bool x")
    for text in (*texts, f"n: {'1' * 5000}", "[" * 5000):
        file = tmp_path / "a.yaml"
        file.write_text(text)
        await command(api, "workflows", "apply", str(file), code=2)


async def test_metadata_that_are_an_empty_list_are_refused(api: Api) -> None:
    await api.post("/workflows", flow(*TWO))
    await command(api, "workflows", "run", "flow", "--metadata", "[]", code=1)
    await command(api, "tasks", "submit", "echo", "--metadata", "[]", code=1)


async def test_results_too_long_for_an_answer_are_left_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.routes.workflows.MOST_RESULTS", 10)
    await api.post("/workflows", flow(*TWO))
    run_id = (await api.post("/workflows/flow/runs", {}))["run_id"]
    agents = Agents(api.stores, "default")
    await settle(workflow_keeper(api.stores, agents))
    for task_id in sorted(await agents.open()):
        await agents.do(task_id, lambda _, long=".a." in task_id: "x" * 20 if long else 1)
    await settle(workflow_keeper(api.stores, agents))
    run = await api.get(f"/workflow-runs/{run_id}?results=true")
    assert [(step["result"], step["result_left_out"]) for step in run["steps"]] == [(None, True), (1, False)]
    await api.stores.pool.execute("delete from tasks where id like '%.b.%'")
    run = await api.get(f"/workflow-runs/{run_id}?results=true")
    assert [(step["result"], step["result_left_out"]) for step in run["steps"]] == [(None, True), (None, True)]
