"""The agent of docs/agent-contract.md, taken from the page and run, keeps the contract that the page states."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from cluster.embedded.ports import free_ports
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

PAGE = (ROOT / "docs" / "agent-contract.md").read_text()


@pytest.fixture
async def sample() -> AsyncIterator[str]:
    """The URL of the page's agent, which runs as a process of its own on a free port."""
    (source,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "serve_forever" in text]
    (port,) = free_ports(1)
    assert source.count("9000") == 1
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source.replace("9000", str(port)), stderr=asyncio.subprocess.DEVNULL
    )
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
