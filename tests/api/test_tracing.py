"""Traces: a real collector gets the spans of requests, tasks, calls and deliberations of a real control plane."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from aragora_worker.children import Child
from aragora_worker.trace_context import traceparent_of
from aragora_worker.worker import Job
from cluster.process import spans
from cluster.telemetry import genai_names
from tests.api.test_typescript_client import node
from tests.api.test_worker import a_worker, ended, running
from tests.support.answering import Agents, always, registrations
from tests.support.api import Api, api_settings
from tests.support.called_agents import Endpoint, ended_task
from tests.support.collector import Collector, collecting, free_port, tracing
from tests.support.endpoints import serving
from tests.support.models import register, vote
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


class Traced:
    """A control plane that traces, and its collector."""

    def __init__(self, api: Api, collector: Collector, flush: Callable[[], None]) -> None:
        self.api = api
        self.collector = collector
        self._flush = flush

    async def spans_of(self, trace: str, *names: str) -> list[str]:
        """The tree of a trace, when spans of these names have come."""

        async def arrived() -> Any:
            await asyncio.to_thread(self._flush)
            return set(names) <= {span.name for span in self.collector.of(trace)}

        await eventually(arrived, what=f"{names}; there are {self.collector.tree(trace)}")
        return self.collector.tree(trace)

    def one(self, trace: str, name: str) -> Any:
        (found,) = [span for span in self.collector.of(trace) if span.name == name]
        return found


@pytest.fixture
async def traced(store_urls: StoreUrls, schema: str) -> AsyncIterator[Traced]:
    async with (
        collecting() as (collector, flush),
        Api(api_settings(store_urls, schema)).running() as api,
    ):
        yield Traced(api, collector, flush)


async def test_a_called_agents_task_is_one_trace_from_submit_to_report(traced: Traced) -> None:
    api, asked = traced.api, []

    async def agent(request: Any) -> Any:
        asked.append(request.headers.get("traceparent"))
        return await answer(request)

    answer = Endpoint({"result": {"word": "done"}})
    async with serving(agent) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url, "capabilities": ["x"]})
        body = {"task_type": "t", "payload": {}, "required_capabilities": ["x"]}
        sent = await api.post("/tasks", body, headers={"traceparent": TRACEPARENT})
        await ended_task(api, sent["task_id"])
        tree = await traced.spans_of(TRACE, "task.attempt", "invoke_agent a1", "ReportRequest")
    below = "? > POST /tasks"
    assert f"{below} > commit > submit_tasks" in tree
    assert f"{below} > task.submit > task.attempt > invoke_agent a1" in tree
    assert f"{below} > task.submit > task.attempt > ReportRequest" in tree
    assert traced.one(TRACE, "POST /tasks").parent == CALLER
    call = traced.one(TRACE, "invoke_agent a1")
    assert asked[-1] == f"00-{TRACE}-{call.id}-01"
    assert call.attributes[genai_names.OPERATION] == "invoke_agent"
    assert call.attributes[genai_names.AGENT_ID] == "a1"
    assert all(not row.cause or row.cause == TRACE for row in await api.rows(sent["task_id"]))


async def test_a_pulled_task_and_the_report_of_its_worker_are_one_trace(traced: Traced) -> None:
    api = traced.api
    await api.post("/agents", {"agent_id": "w1", "capabilities": []})
    sent = await api.post("/tasks", {"task_type": "t", "payload": {}}, headers={"traceparent": TRACEPARENT})
    own = "00-" + "7" * 32 + "-" + "8" * 16 + "-01"
    claim = await api.post("/tasks/claim", {"agent_id": "w1", "block_ms": 1000}, headers={"traceparent": own})
    task = claim["task"]
    assert task["id"] == sent["task_id"]
    report = {"agent_id": "w1", "lease_token": task["lease_token"], "result": {}}
    path = f"/tasks/{task['id']}/complete"
    await api.post(path, report, headers={"traceparent": task["traceparent"]})
    complete = "POST /tasks/{task_id}/complete"
    tree = await traced.spans_of(TRACE, "task.claim", complete, "ReportRequest")
    below = "? > POST /tasks > task.submit > task.claim"
    assert {below, f"{below} > {complete} > ReportRequest"} <= set(tree)
    await traced.spans_of("7" * 32, "POST /tasks/claim", "ClaimRequest")
    assert traced.one(TRACE, "task.claim").links == (traced.one("7" * 32, "POST /tasks/claim").id,)


async def test_a_report_without_a_trace_context_is_linked_into_the_tasks_trace(traced: Traced) -> None:
    api = traced.api
    await api.post("/agents", {"agent_id": "w1", "capabilities": []})
    await api.post("/tasks", {"task_type": "t", "payload": {}}, headers={"traceparent": TRACEPARENT})
    task = (await api.post("/tasks/claim", {"agent_id": "w1", "block_ms": 1000}))["task"]
    report = {"task_id": task["id"], "agent_id": "w1", "lease_token": task["lease_token"], "result": {}}
    answer = await api.call("POST", "/tasks/complete", {"reports": [report]})
    assert answer.json()["results"][0]["ok"]
    tree = await traced.spans_of(TRACE, "task.report", "ReportRequest")
    assert "? > POST /tasks > task.submit > task.report > ReportRequest" in tree
    own = answer.headers["x-trace-id"]
    await traced.spans_of(own, "POST /tasks/complete")
    assert traced.one(TRACE, "task.report").links == (traced.one(own, "POST /tasks/complete").id,)


_CLAIM = "? > POST /tasks > task.submit > task.claim"


async def test_a_workers_calls_about_a_task_are_in_its_trace(traced: Traced) -> None:
    api = traced.api
    worker, given = a_worker(api), []

    @worker.handles("parent")
    async def parent(job: Job) -> Any:
        given.append(job.traceparent)
        if job.children is None:
            await job.progress(percent=50)
            job.park([Child(task_type="child", required_capabilities=["x"])])
        return [child.result for child in job.children]

    @worker.handles("child")
    async def child(job: Job) -> Any:
        given.append(job.traceparent)
        return 17

    async with running(worker):
        body = {"task_type": "parent", "required_capabilities": ["x"]}
        sent = await api.post("/tasks", body, headers={"traceparent": TRACEPARENT})
        assert (await ended(api, sent["task_id"]))["result"] == [17]
        await _expect_one_trace(traced)
    assert [spans.trace_of(str(each)) for each in given] == [TRACE] * 3


async def test_the_typescript_workers_calls_are_in_the_trace(traced: Traced) -> None:
    async with node("worker.mts", traced.api.url, "ts-1"):
        body = {"task_type": "parks", "required_capabilities": ["ts"]}
        sent = await traced.api.post("/tasks", body, headers={"traceparent": TRACEPARENT})
        assert (await ended(traced.api, sent["task_id"]))["result"]["sums"] == [11, 12]
        await _expect_one_trace(traced)


async def _expect_one_trace(traced: Traced) -> None:
    children, complete = "POST /tasks/{task_id}/children", "POST /tasks/complete"
    extend = "POST /tasks/{task_id}/extend"
    tree = await traced.spans_of(TRACE, "task.claim", children, complete, extend, "ReportRequest")
    assert any(path.endswith(f"task.claim > {extend}") for path in tree)
    assert f"{_CLAIM} > {complete} > ReportRequest" in tree
    below = f"{_CLAIM} > {children} > task.submit > task.claim"
    assert {below, f"{below} > {complete} > ReportRequest"} <= set(tree)


async def test_what_is_no_trace_context_is_not_sent(traced: Traced) -> None:
    odd = ["", 17, None, "00-x", f"{TRACEPARENT}\r\nx: y", TRACEPARENT.upper(), f"{TRACEPARENT}-{'a' * 300}"]
    assert [traceparent_of({"traceparent": each}) for each in odd] == [None] * len(odd)
    assert traceparent_of({"traceparent": TRACEPARENT}) == TRACEPARENT


async def test_a_schedule_told_to_run_is_in_the_requests_trace(traced: Traced) -> None:
    api = traced.api
    await api.post("/agents", {"agent_id": "w1", "capabilities": []})
    made = await api.post("/schedules", {"every_seconds": 86_400, "task": {"task_type": "t"}})
    path = f"/schedules/{made['schedule_id']}/run"
    await api.call("POST", path, {}, headers={"traceparent": TRACEPARENT})
    task = (await api.post("/tasks/claim", {"agent_id": "w1", "block_ms": 10_000}))["task"]
    assert spans.trace_of(task["traceparent"]) == TRACE
    tree = await traced.spans_of(TRACE, "task.submit", "task.claim")
    assert "? > POST /schedules/{schedule_id}/run > task.submit > task.claim" in tree


async def test_a_deliberation_of_two_agents_is_one_trace(traced: Traced) -> None:
    async with Agents().running() as agents:
        for name in ("a", "b"):
            agents.answering[name] = always("A")
        await traced.api.post("/agents/batch", registrations(agents, "a", "b"))
        body = {"content": "Which?", "config": {"options": ["A", "B"]}}
        await traced.api.post("/deliberations", body, headers={"traceparent": TRACEPARENT})
        tree = await traced.spans_of(TRACE, "deliberation.run", "AgentCall", "POST /deliberations")
    run = "? > POST /deliberations > deliberation.submit > deliberation.run"
    calls = [span for span in traced.collector.of(TRACE) if genai_names.AGENT_ID in span.attributes]
    assert {call.attributes[genai_names.AGENT_ID] for call in calls} == {"a", "b"}
    assert {f"{run} > AgentCall > {call.name}" for call in calls} <= set(tree)
    assert all(call.attributes[genai_names.INPUT_TOKENS] > 0 for call in calls)


async def test_a_question_to_a_pull_agent_carries_its_trace_context(traced: Traced) -> None:
    api = traced.api
    for name in ("p1", "p2"):
        await api.post("/agents", {"agent_id": name, "capabilities": ["deliberation"]})
    body = {"content": "Which?", "async": True, "panel": {"agents": ["p1", "p2"], "size": 2}}
    await api.call("POST", "/deliberations", body, headers={"traceparent": TRACEPARENT})
    claimed = await api.post("/tasks/claim", {"agent_id": "p1", "block_ms": 10_000})
    given = claimed["task"]["payload"]["traceparent"]
    await traced.spans_of(TRACE, "task.claim")
    assert spans.trace_of(given) == TRACE


async def test_the_trace_id_of_errors_and_logs_is_that_of_the_span(traced: Traced) -> None:
    answer = await traced.api.call("GET", "/tasks/none")
    await traced.spans_of(answer.json()["trace_id"], "GET /tasks/{task_id}")
    named = await traced.api.call("GET", "/tasks/none", headers={"X-Request-Id": "deploy-17"})
    assert named.json()["trace_id"] == "deploy-17"
    await traced.spans_of(spans.trace_id_for("deploy-17"), "GET /tasks/{task_id}")
    assert traced.one(spans.trace_id_for("deploy-17"), "GET /tasks/{task_id}").attributes[
        "aragora.trace_id"
    ] == "deploy-17"  # fmt: skip


async def test_no_secret_and_no_words_are_in_what_is_sent(traced: Traced) -> None:
    api, secret = traced.api, "s3cr3t-5f1c0a9e"
    endpoint = Endpoint({"result": {"said": secret}})
    async with serving(endpoint) as url:
        at = url.replace("http://", f"http://user:{secret}@") + f"/?key={secret}"
        await api.post("/agents", {"agent_id": "a1", "endpoint": at, "capabilities": ["x"]})
        body = {
            "task_type": "t",
            "payload": {"word": secret},
            "metadata": {"m": secret},
            "required_capabilities": ["x"],
        }
        headers = {"traceparent": TRACEPARENT, "Authorization": f"Bearer {secret}"}
        sent = await api.post("/tasks", body, headers=headers)
        await ended_task(api, sent["task_id"])
        await api.call("GET", f"/tasks?q={secret}", headers={"traceparent": TRACEPARENT})
        await traced.spans_of(TRACE, "task.attempt", "GET /tasks", "ReportRequest")
    assert endpoint.asked
    assert json.dumps(endpoint.asked).count(secret)
    assert secret.encode() not in traced.collector.raw


async def test_a_reason_to_stop_that_agents_made_up_stays_out(traced: Traced) -> None:
    secret = "s3cr3t-5f1c0a9e"
    choice = {"message": {"role": "assistant", "content": vote("A", secret)}}
    endpoint = [httpx.Response(200, json={"choices": [choice | {"finish_reason": why}]}) for why in (secret, "stop")]
    async with serving(Endpoint(*endpoint)) as url:
        await register(traced.api, url, "a", "b")
        body = {"content": "Which?", "config": {"options": ["A", "B"], "agents": ["a", "b"], "rounds": 0}}
        await traced.api.post("/deliberations", body, headers={"traceparent": TRACEPARENT})
        await traced.spans_of(TRACE, "deliberation.run", "POST /deliberations", "chat a", "chat b")
    calls = [span for span in traced.collector.of(TRACE) if genai_names.RESPONSE_FINISH_REASONS in span.attributes]
    told = {reason for span in calls for reason in span.attributes[genai_names.RESPONSE_FINISH_REASONS]}
    assert told == {"other", "stop"}
    assert secret.encode() not in traced.collector.raw


async def test_work_is_done_while_the_collector_is_away(store_urls: StoreUrls, schema: str) -> None:
    endpoint = Endpoint({"result": {}})
    with tracing(f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="0.1", OTEL_BSP_SCHEDULE_DELAY="10"):
        async with Api(api_settings(store_urls, schema)).running() as api, serving(endpoint) as url:
            await api.post("/agents", {"agent_id": "a1", "endpoint": url, "max_concurrency": 10})
            tasks = [{"task_type": "t", "payload": {"n": n}} for n in range(20)]
            sent = (await api.post("/tasks/batch", {"tasks": tasks}))["task_ids"]
            ended = [await ended_task(api, task_id) for task_id in sent]
    assert {task["status"] for task in ended} == {"completed"}
