"""Search over HTTP, on the command line and by the clients: what `where` takes, who may ask for what, and how its pages go on."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.blocking import BlockingClient
from cluster.domain.access.permissions import ALL, Permission
from cluster.postgres import task_search
from tests.support.principals import TokenTable, bearer, principal
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi


async def _ids(tasks: TaskApi, *where: str, **params: Any) -> list[str]:
    return [task["id"] for task in (await tasks.get("/tasks", where=where, **params))["tasks"]]


async def test_tasks_are_found_by_what_was_written_on_them(tasks: TaskApi) -> None:
    review = await tasks.submit("review", metadata={"pr": 17, "tags": ["nightly", "100%"]}, tenant="acme", queue="q")
    other = await tasks.submit("build", metadata={"pr": 18, "tags": ["nightly"]})
    bare = await tasks.submit("build")
    assert await _ids(tasks, "metadata.pr=17") == [review]
    assert await _ids(tasks, "tag=nightly") == [other, review]
    assert await _ids(tasks, "tag=nightly", "type~VIEW", "created>=2020-01-01") == [review]
    assert await _ids(tasks, "tenant=acme", queue="q", status="pending") == [review]
    assert await _ids(tasks, f"tenant={(await tasks.get(f'/tasks/{bare}/explain'))['tenant']}") == [bare, other]
    assert await _ids(tasks, f"id~{bare[-8:]}") == [bare]
    # Characters that mean something in a pattern mean themselves.
    assert await _ids(tasks, "type~%") == await _ids(tasks, "type~_") == await _ids(tasks, "tag=%") == []
    assert await _ids(tasks, "tag=100%") == [review]


async def test_a_search_finds_who_had_a_task_and_when_it_ended(tasks: TaskApi) -> None:
    await tasks.agent("worker", capabilities=["x"])
    done = await tasks.submit(required_capabilities=["x"])
    open_ = await tasks.submit(required_capabilities=["y"])
    await tasks.complete(await tasks.claim_one("worker"))
    assert await _ids(tasks, "agent=worker") == [done]
    assert await _ids(tasks, "agent=worker", agent_id="nobody") == []
    assert await _ids(tasks, "ended>=2020-01-01") == [done]
    assert await _ids(tasks, "ended<2020-01-01") == []
    assert open_ not in await _ids(tasks, "ended>=1")
    history = await tasks.get("/tasks/history", where=["agent=worker"])
    assert [entry["id"] for entry in history["history"]] == [done]


async def test_pages_of_a_search_go_on_where_the_one_before_ended(
    tasks: TaskApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page reads a bounded part of the table: it may be empty while there is more, and says so."""
    monkeypatch.setattr(task_search, "SCANNED", 2)
    wanted = await tasks.submit("wanted")
    for _ in range(5):
        await tasks.submit("other")
    page = await tasks.get("/tasks", where=["type~wanted"])
    assert (page["tasks"], page["total_exact"], page["has_more"]) == ([], False, True)
    async with ControlPlaneClient(tasks.api.url) as client:
        assert [task["id"] async for task in client.tasks("type~wanted", status="pending")] == [wanted]

    def found() -> list[str]:
        with BlockingClient(tasks.api.url) as client:
            return [task["id"] for task in client.tasks("type~wanted", limit=1)]

    assert await asyncio.to_thread(found) == [wanted]
    listed = json.loads(await _printed(tasks, "--where", "type~wanted", "--limit", "1", "--json"))
    assert [task["id"] for task in listed["tasks"]] == [wanted]


async def _printed(tasks: TaskApi, *words: str, command: str = "list") -> str:
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("aragora-cp"), "tasks", command, *words),
        env=clean_environment(ARAGORA_API_URL=tasks.api.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode()


async def test_the_command_line_finds_by_conditions_that_all_hold(tasks: TaskApi) -> None:
    words = '{"pr": 17, "by": "Ada L."}'
    first = (await _printed(tasks, "echo", "--metadata", words, command="submit")).strip()
    await tasks.submit(metadata={"pr": 17, "by": "Bob"})
    found = json.loads(await _printed(tasks, "--where", "metadata.pr=17", "--where", "metadata.by=Ada L.", "--json"))
    assert ([task["id"] for task in found["tasks"]], found["total"], found["total_exact"]) == ([first], 1, True)
    assert "is no condition; where takes metadata.KEY=VALUE" in await _printed(tasks, "--where", "pr=17")


BAD = [
    *("", "pr=17", "metadata.=1", "tag=", "agent=a b", "created>=soon", "created<1e999", "ended<" + "9" * 400),
    *("tag=\x00", "metadata.\x00=1", "metadata.a=\x00", "id~\x00", "tag=" + "a" * 600, "['a']", '{"a": {"b": 1}}'),
]


async def test_a_condition_that_cannot_be_meant_is_a_sentence(tasks: TaskApi) -> None:
    for path in ("/tasks", "/tasks/history"):
        for condition in BAD:
            refused = await tasks.call("GET", path, where=["tag=x", condition], expect=400)
            assert refused["error"].endswith("."), condition


async def test_a_search_has_bounds_and_no_offset(tasks: TaskApi) -> None:
    await tasks.call("GET", "/tasks", where=["tag=x"] * 17, expect=400)
    assert await _ids(tasks, *(["tag=x"] * 16)) == []
    refused = await tasks.call("GET", "/tasks", where=["tag=x"], offset=1, expect=400)
    assert "cursor" in refused["error"]
    # Half a surrogate pair has no UTF-8: a client can only send its bytes.
    answer = await tasks.api.client.get("/api/control-plane/tasks?where=tag%3D%ED%A0%80")
    assert answer.status_code in (200, 400)


async def test_nobody_probes_for_words_that_they_may_not_read(tasks: TaskApi) -> None:
    """What a search finds tells what is there, so metadata and tags take the permission that shows them; names do not."""
    task = await tasks.submit(metadata={"secret": "zanzibar", "tags": ["zanzibar"]}, tenant="acme")
    tasks.api.app.state.resolver = TokenTable(
        {
            "reader": principal("reader", workspace="default", permissions=ALL),
            "blind": principal("blind", workspace="default", permissions=ALL - {Permission.PAYLOADS_READ}),
        }
    )
    for path in ("/tasks", "/tasks/history"):
        for condition in ("metadata.secret=zanzibar", "metadata.secret=other", "tag=zanzibar", "tag=other"):
            for where in ([condition], ["tenant=acme", condition]):
                answer = await tasks.api.client.get(
                    f"/api/control-plane{path}", params={"where": where}, headers=bearer("blind")
                )
                assert answer.status_code == 403, answer.text
                assert "payloads.read" in answer.json()["error"]
    asked = {"where": ["tenant=acme", "type~echo", f"id~{task}", "created>=1"]}
    answer = await tasks.api.client.get("/api/control-plane/tasks", params=asked, headers=bearer("blind"))
    assert [found["id"] for found in answer.json()["tasks"]] == [task]
    asked = {"where": ["tag=zanzibar"]}
    answer = await tasks.api.client.get("/api/control-plane/tasks", params=asked, headers=bearer("reader"))
    assert [found["id"] for found in answer.json()["tasks"]] == [task]


async def test_a_search_finds_nothing_of_another_workspace(tasks: TaskApi) -> None:
    await tasks.submit(metadata={"pr": 17}, tenant="acme")
    tasks.api.app.state.resolver = TokenTable({"t": principal("t", workspace="elsewhere", permissions=ALL)})
    for condition in ("metadata.pr=17", "tenant=acme", "id~task", "type~echo", "created>=1"):
        answer = await tasks.api.client.get(
            "/api/control-plane/tasks", params={"where": condition}, headers=bearer("t")
        )
        assert answer.json()["tasks"] == []
