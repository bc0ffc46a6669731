"""Python of the pages that clients copy, run as it stands but for the address and the key, against a control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.domain.base.expressions import expression
from tests.api.test_deliberations import panel
from tests.support.answering import Agents
from tests.support.api import Api, api_settings, in_thread
from tests.support.code_blocks import Block, blocks
from tests.support.collector import free_port
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

#: What pages have in the place of the reader's own, and none of it is in their code otherwise.
ADDRESSES = ("https://control.example.com", "http://127.0.0.1:8080")
KEY = "ara_…"


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    port = free_port()
    # The card says where calls go.
    shown = {"a2a_enabled": True, "mcp_enabled": True, "public_url": f"http://127.0.0.1:{port}"}
    async with Api(api_settings(store_urls, schema, **shown)).running(port=port) as running:
        yield running


def block(language: str, mark: str) -> list[Block]:
    return [each for each in blocks() if (each.language, each.mark) == (language, mark)]


def code(page: str, part: str, of: list[Block] | None = None) -> str:
    """The only such block of a page that has a part of code."""
    (found,) = [each.text for each in of or block("python", "client") if each.page == page and part in each.text]
    return found


async def run(api: Api, page: str, part: str, call: str = "") -> tuple[Any, list[str]]:
    """Runs a block, and then ``call``, which names what it has made: (what that returns, what was printed)."""
    text = code(page, part)
    for address in ADDRESSES:
        text = text.replace(address, api.url)
    printed: list[str] = []
    names: dict[str, Any] = {"__name__": "page", "print": lambda *words, **_: printed.append(" ".join(map(str, words)))}

    def execute() -> Any:
        exec(compile(text.replace(KEY, "ara_x"), page, "exec"), names)
        found = eval(call, names) if call else None
        return asyncio.run(found) if asyncio.iscoroutine(found) else found

    return await in_thread(execute), printed


async def test_the_clients_of_both_protocols_get_a_decision(api: Api) -> None:
    async with Agents().running() as agents:
        await panel(api, agents, a="Redis", b="Redis", c="Postgres")
        _, printed = await run(api, "docs/a2a.md", "A2ACardResolver")
        assert "TASK_STATE_COMPLETED" in "".join(printed)
        _, printed = await run(api, "docs/mcp.md", "streamable_http_client")
        assert "'answer': 'Redis'" in "".join(printed)


async def test_the_clients_of_the_pages_about_tasks_do_what_they_say(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("a1")
    waiting = asyncio.create_task(run(api, "docs/tasks.md", "async def build", "build()"))
    lease = await tasks.claim_one("a1")
    await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], "result": {"ok": True}})
    assert (await waiting)[0] == {"ok": True}
    reviewed = await tasks.submit(metadata={"pr": 17, "tags": ["review"]}, max_retries=0)
    await tasks.fail(await tasks.claim_one("a1"))
    assert (await run(api, "docs/tasks.md", "def failed_reviews", "failed_reviews()"))[0] == [reviewed]
    await run(api, "README.md", "create_task")
    assert (await tasks.claim_one("a1"))["payload"] == {"pr": 17}
    asking = await tasks.submit("approval", input_required={"question": "Which tier?"})
    assert await tasks.is_detail(asking, "input_required")
    client = f"__import__('aragora_worker').ControlPlaneClient({api.url!r})"
    await run(api, "docs/questions.md", "async def answer_all", f"answer_all({client})")
    assert (await tasks.get(f"/tasks/{asking}"))["result"] == {"tier": 2}


def test_the_conditions_of_the_page_are_true_of_what_they_are_for() -> None:
    lines = code("docs/conditions.md", "task.priority", block("text", "run")).splitlines()
    truths: list[dict[str, Any]] = [
        {"task": {"priority": "urgent", "required_capabilities": ["x"]}},
        {"input": {"review": {"score": 0.25}}},
        {"item": {"labels": ["clear", "doubtful"]}},
    ]
    falsehoods: list[dict[str, Any]] = [
        {"task": {"priority": "urgent", "required_capabilities": []}},
        {"input": {"review": {}}},
        {"item": {"labels": []}},
    ]
    for line, true, false in zip(lines, truths, falsehoods, strict=True):
        condition = expression(line, frozenset(true))
        assert (condition.holds(true), condition.holds(false)) == (True, False), line
