"""Chunks over HTTP: who may write and read them, what is refused with which sentence, and what is left of them."""

from __future__ import annotations

from typing import Any

from cluster.domain.tasks.chunks import CHUNK_BYTES
from tests.support.api import Api
from tests.support.authenticated import authenticated
from tests.support.principals import bearer
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi


async def _lease(tasks: TaskApi, agent_id: str = "a1", **fields: Any) -> dict[str, Any]:
    await tasks.agent(agent_id)
    await tasks.submit(target_agent=agent_id, **fields)
    return dict(await tasks.claim_one(agent_id))


async def write(tasks: TaskApi, lease: dict[str, Any], first: int, *chunks: Any, expect: int = 200, **more: Any) -> Any:
    body = {"lease_token": lease["lease_token"], "first": first, "chunks": list(chunks), **more}
    return await tasks.post(f"/tasks/{lease['id']}/chunks", body, expect=expect)


async def test_chunks_are_written_and_read_on_by_number(tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    assert await write(tasks, lease, 1, "once", {"step": 2}) == {"next": 3}
    assert await write(tasks, lease, 1, "once", {"step": 2}, None) == {"next": 4}
    path = f"/tasks/{lease['id']}/chunks"
    page = await tasks.get(path, limit=2)
    assert [(chunk["attempt"], chunk["n"], chunk["content"]) for chunk in page["chunks"]] == [
        (1, 1, "once"),
        (1, 2, {"step": 2}),
    ]
    assert (page["after"], page["has_more"], page["status"], page["attempt"]) == ("1.2", True, "running", 1)
    page = await tasks.get(path, after="1.2")
    assert [chunk["content"] for chunk in page["chunks"]] == [None]
    assert (page["after"], page["has_more"], page["elsewhere"]) == ("1.3", False, False)
    await tasks.complete(lease)
    page = await tasks.get(path, after="1.3")
    assert (page["chunks"], page["status"], page["after"]) == ([], "completed", "1.3")


async def test_each_refusal_says_what_to_do(tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "a", "b")

    async def refused(
        status: int, first: int, *chunks: Any, of: dict[str, Any] = lease, **more: Any
    ) -> tuple[str, str]:
        answer = await write(tasks, of, first, *chunks, expect=status, **more)
        return answer["code"], answer["error"]

    assert (await refused(409, 1, "other"))[0] == "chunk_changed"
    code, sentence = await refused(409, 4, "d")
    assert (code, "number 3" in sentence) == ("chunk_gap", True)
    assert await write(tasks, lease, 4, "d", skip=True) == {"next": 5}
    assert (await refused(409, 3, "c"))[0] == "chunk_changed"
    assert (await refused(413, 5, "x" * CHUNK_BYTES))[0] == "chunk_too_large"
    assert (await refused(400, 5))[0] == "invalid_request"
    assert (await refused(400, 0, "z"))[0] == "invalid_request"
    assert (await refused(400, 5, "\x00"))[0] == "invalid_json"
    another = await _lease(tasks, "a2")
    assert (await refused(409, 5, "e", of=another | {"id": lease["id"]}))[0] == "lease_lost"
    await tasks.complete(lease)
    assert (await refused(409, 5, "late"))[0] == "lease_lost"
    assert (await tasks.get(f"/tasks/{lease['id']}/chunks", after="1", expect=400))["code"] == "invalid_cursor"
    assert (await tasks.get("/tasks/unknown/chunks", expect=404))["code"] == "task_not_found"


async def test_a_holder_that_writes_too_fast_is_told_when_to_go_on(tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    for first in range(1, 2000, 100):  # until a call takes less time than its chunks may
        body = {"lease_token": lease["lease_token"], "first": first, "chunks": ["x"] * 100}
        response = await tasks.api.call("POST", f"/tasks/{lease['id']}/chunks", body)
        if response.status_code == 429:
            break
    assert (response.status_code, response.json()["code"]) == (429, "chunks_too_fast")
    assert int(response.headers["Retry-After"]) >= 1


async def test_the_next_attempt_has_numbers_of_its_own_and_fences_the_first(tasks: TaskApi) -> None:
    first = await _lease(tasks)
    await write(tasks, first, 1, "of the first")
    await tasks.fail(first, released=True)
    second = await tasks.claim_one("a1")
    assert second["id"] == first["id"]
    assert (await write(tasks, first, 2, "of a zombie", expect=409))["code"] == "lease_lost"
    assert await write(tasks, second, 1, "of the second") == {"next": 2}
    page = await tasks.get(f"/tasks/{first['id']}/chunks")
    assert [(chunk["attempt"], chunk["n"], chunk["content"]) for chunk in page["chunks"]] == [
        (1, 1, "of the first"),
        (2, 1, "of the second"),
    ]


async def test_an_erased_task_has_no_chunks(api: Api, tasks: TaskApi) -> None:
    lease = await _lease(tasks)
    await write(tasks, lease, 1, "words")
    await tasks.complete(lease)
    await api.post("/erasures", {"task_id": lease["id"]})
    page = await tasks.get(f"/tasks/{lease['id']}/chunks")
    assert (page["chunks"], page["has_more"]) == ([], False)
    assert await api.stores.pool.value("select count(*) from task_chunks") == 0


async def test_chunks_are_for_those_who_may_read_payloads(store_urls: StoreUrls) -> None:
    async with authenticated(store_urls) as auth:
        await auth.call("POST", "/agents", {"agent_id": "a1"})
        await auth.call("POST", "/tasks", {"task_type": "echo", "target_agent": "a1"})
        lease = (await auth.call("POST", "/tasks/claim", {"agent_id": "a1", "block_ms": 20_000}))["task"]
        path = f"/tasks/{lease['id']}/chunks"
        body = {"lease_token": lease["lease_token"], "first": 1, "chunks": ["words"]}
        agent, reader, viewer = [bearer(await auth.key(role)) for role in ("agent", "submitter", "viewer")]
        assert await auth.call("POST", path, body, headers=agent) == {"next": 2}
        assert (await auth.api.call("POST", path, body, headers=reader)).status_code == 403
        assert (await auth.call("GET", path, headers=reader))["chunks"][0]["content"] == "words"
        for other in (viewer, agent):
            assert (await auth.api.call("GET", path, headers=other)).status_code == 403
        await auth.call("POST", "/workspaces", {"id": "another"})
        elsewhere = bearer(await auth.key("operator", workspace="another"))
        assert (await auth.api.call("GET", path, headers=elsewhere)).status_code == 404
        assert (await auth.api.call("POST", path, body, headers=elsewhere)).status_code == 404
