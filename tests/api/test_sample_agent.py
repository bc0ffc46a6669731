"""The agent of docs/agent-contract.md, taken from the page and run, keeps the contract that the page states."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from cluster.embedded.ports import free_ports
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

PAGE = (ROOT / "docs" / "agent-contract.md").read_text()


@contextlib.asynccontextmanager
async def running_sample(choice: str = "[0]") -> AsyncIterator[str]:
    """The URL of the page's agent, which runs as a process of its own on a free port. It takes the first of several answers,
    unless it is told another ``choice``."""
    (source,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "serve_forever" in text]
    (port,) = free_ports(1)
    assert (source.count("9000"), source.count('["enum"][0]')) == (1, 1)
    source = source.replace("9000", str(port)).replace('["enum"][0]', f'["enum"]{choice}')
    if choice != "[0]":
        source = source.replace("It comes first.", "Another.")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stderr=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"

    async def serves() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            try:
                return (await http.get(url)).status_code == 200
            except httpx.TransportError:
                return False

    try:
        await eventually(serves)
        yield url
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def sample() -> AsyncIterator[str]:
    async with running_sample() as url:
        yield url


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b"null",
        b'{"task": 5}',
        b'{"task": {"payload": {}}}',
        b'{"task": {"payload": {"terms": ["a"]}}}',
    ],
)
async def test_what_the_sample_cannot_do_is_an_error_in_json(sample: str, body: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.post(sample, content=body)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"
    assert re.match(r"\w+: ", response.json()["error"])


async def test_the_sample_does_tasks_and_answers_questions(tasks: TaskApi, sample: str) -> None:
    await tasks.agent("adder", capabilities=["add", "deliberation"], endpoint=sample)
    task_id = await tasks.submit("sum", payload={"terms": [1, 2, 39]}, required_capabilities=["add"])

    async def is_done() -> bool:
        return bool((await tasks.get(f"/tasks/{task_id}"))["status"] == "completed")

    await eventually(is_done)
    assert (await tasks.get(f"/tasks/{task_id}"))["result"] == 42
    asked = {"content": "Which?", "config": {"options": ["a", "b"], "agents": ["adder"], "min_agents": 1, "k": 1}}
    decided = await tasks.post("/deliberations", asked)
    assert (decided["terminal"], decided["answer"]) == ("DECIDED", "a"), (decided["error"], decided["abstained"])


async def phases_of(tasks: TaskApi, decided: dict[str, Any]) -> set[str]:
    """The phases in which the panel answered; every answer did fit at once."""
    events = (await tasks.get(f"/deliberations/{decided['request_id']}/transcript"))["events"]
    turns = [event["data"] for event in events if event["kind"] in ("asked", "answered")]
    answered = [event["data"]["phase"] for event in events if event["kind"] == "answered"]
    assert {turn["attempt"] for turn in turns} == {0}
    assert len(answered) == sum(len(turn["calls"]) for turn in turns if "calls" in turn)
    return set(answered)


@pytest.mark.parametrize(
    ("config", "canonical"),
    [
        ({"options": ["x", "y"]}, "x"),
        ({"options": ["x", "y"], "consensus": "approval"}, "x"),
        ({"options": ["x", "y", "z"], "consensus": "borda"}, "x"),
        ({"answer_type": "boolean"}, "true"),
        ({"answer_type": "number", "unit": "m"}, "0"),
        ({"answer_type": "set", "options": ["x", "y"]}, '["x"]'),
        ({"answer_type": "json", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}, '{"n":0}'),
        ({}, "It comes first."),
    ],
    ids=["choice", "approval", "ranking", "boolean", "number", "set", "json", "text"],
)
async def test_a_panel_of_samples_decides(tasks: TaskApi, sample: str, config: dict[str, Any], canonical: str) -> None:
    for name in ("first", "second"):
        await tasks.agent(name, capabilities=["deliberation"], endpoint=sample)
    decided = await tasks.post("/deliberations", {"content": "Which?", "config": {"debate_on": "always", **config}})
    assert (decided["terminal"], decided["answer"]) == ("DECIDED", canonical), (decided["error"], decided["abstained"])
    assert await phases_of(tasks, decided) <= {"PROPOSE", "CRITIQUE", "REVISE"}


@pytest.mark.parametrize(
    ("config", "more"),
    [({"options": ["x", "y"]}, set()), ({}, {"VOTE"}), ({"options": ["x", "y"], "consensus": "approval"}, set())],
    ids=["options", "text", "approval"],
)
async def test_samples_that_differ_debate_through_every_phase(
    tasks: TaskApi, sample: str, config: dict[str, Any], more: set[str]
) -> None:
    async with running_sample("[-1]") as other:
        await tasks.agent("first", capabilities=["deliberation"], endpoint=sample)
        await tasks.agent("last", capabilities=["deliberation"], endpoint=other)
        asked = {"content": "Which?", "config": {"rounds": 1, "debate_on": "always", **config}}
        decided = await tasks.post("/deliberations", asked)
    assert decided["terminal"] == "NO_CONSENSUS", decided
    assert await phases_of(tasks, decided) == {"PROPOSE", "CRITIQUE", "REVISE", *more}
