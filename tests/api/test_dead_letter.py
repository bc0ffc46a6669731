"""The dead letter over HTTP: what gets there, looking at it, replaying it once, and throwing it away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.task_api import TaskApi


async def _dead(tasks: TaskApi, task_type: str = "echo", error: str = "broken", **fields: Any) -> str:
    await tasks.agent("a1")
    task_id = await tasks.submit(task_type, max_retries=0, **fields)
    await tasks.fail(await tasks.claim_one("a1"), error=error)
    return task_id


async def test_a_task_without_retries_left_is_kept_with_everything_it_was(tasks: TaskApi) -> None:
    task_id = await _dead(tasks, payload={"n": 1}, queue="q", concurrency_key="k")
    page = await tasks.get("/dead-letter")
    assert [(task["id"], task["reason"], task["error"]) for task in page["tasks"]] == [
        (task_id, "dead_lettered", "broken")
    ]
    assert page["total"] == 1
    shown = await tasks.get(f"/dead-letter/{task_id}")
    assert (shown["payload"], shown["queue"], shown["concurrency_key"]) == ({"n": 1}, "q", "k")
    await tasks.call("GET", "/dead-letter/task_nobody", expect=404)


async def test_a_replay_is_a_new_task_made_once_with_the_edited_payload(tasks: TaskApi) -> None:
    task_id = await _dead(tasks, payload={"n": 1, "m": 2}, priority="high", required_capabilities=[])
    dry = await tasks.post(f"/dead-letter/{task_id}/replay", {"dry_run": True, "payload_patch": {"n": 5}})
    assert dry["payload"] == {"n": 5, "m": 2}
    first = await tasks.post(f"/dead-letter/{task_id}/replay", {"payload_patch": {"n": 5}})
    again = await tasks.post(f"/dead-letter/{task_id}/replay", {"payload_patch": {"n": 6}})
    assert first == again
    (reason,) = (await tasks.get(f"/tasks/{task_id}/explain"))["reasons"]
    assert f"It was replayed as {first['replayed_as']}." in reason["message"]
    assert reason["unblock"] == f"Look at the new task: aragora-cp tasks explain {first['replayed_as']}"
    lease = await tasks.claim_one("a1")
    assert (lease["id"], lease["payload"], lease["priority"]) == (first["replayed_as"], {"n": 5, "m": 2}, 75)
    await tasks.complete(lease)
    assert await tasks.kinds(task_id) == ["submitted", "claimed", "dead_lettered", "replayed"]
    assert await tasks.kinds(lease["id"]) == ["submitted", "claimed", "completed"]
    assert (await tasks.get("/dead-letter"))["total"] == 0
    shown = await tasks.get("/dead-letter", replayed="true")
    assert [task["replayed_as"] for task in shown["tasks"]] == [lease["id"]]
    assert (await tasks.get(f"/tasks/{task_id}"))["status_detail"] == "dead_lettered", "what has ended never changes"


async def test_many_are_replayed_by_filter_and_the_rest_stays(tasks: TaskApi) -> None:
    a = [await _dead(tasks, "a", f"timeout of {n}") for n in range(3)]
    b = await _dead(tasks, "b", "bug")
    dry = await tasks.post("/dead-letter/replay", {"filter": {"task_type": "a"}, "dry_run": True})
    assert sorted(task["task_id"] for task in dry["would_replay"]) == sorted(a)
    assert (await tasks.get("/dead-letter"))["total"] == 4
    part = await tasks.post("/dead-letter/replay", {"filter": {"error_contains": "TIMEOUT"}, "limit": 2})
    assert (len(part["replayed"]), part["total"], part["remaining"]) == (2, 3, 1)
    rest = await tasks.post("/dead-letter/replay", {"ids": [*a, b, "task_nobody"], "payload": [1]})
    assert {task["task_id"] for task in part["replayed"] + rest["replayed"]} == {*a, b}
    assert len(rest["replayed"]) == 2
    assert (await tasks.get("/tasks", status="pending"))["total"] == 4


async def test_a_purge_takes_what_was_reported_and_asked_too(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit(max_retries=0)
    asking = await tasks.claim_one("a1")
    held = f"/tasks/{task_id}"
    await tasks.post(
        f"{held}/extend", {"lease_token": asking["lease_token"], "message": "half", "checkpoint": {"at": 1}}
    )
    await tasks.post(f"{held}/ask", {"lease_token": asking["lease_token"], "question": "Go on?"})
    await tasks.post(f"{held}/answer", {"verdict": "approve", "answer": "as Ann said"})
    await tasks.fail(await tasks.claim_one("a1"))
    counts = "select (select count(*) from task_progress) as reported, (select count(*) from task_questions) as asked"
    assert [tuple(row) for row in await tasks.api.stores.pool.rows(counts)] == [(1, 1)]
    await tasks.post("/dead-letter/purge", {"ids": [task_id]})
    assert [tuple(row) for row in await tasks.api.stores.pool.rows(counts)] == [(0, 0)]


async def test_what_is_purged_is_gone_for_good_but_not_from_history(tasks: TaskApi) -> None:
    task_id, kept = await _dead(tasks, "a", payload={"secret": 1}), await _dead(tasks, "b")
    purge = {"filter": {"task_type": "a"}}
    assert (await tasks.post("/dead-letter/purge", purge | {"dry_run": True}))["would_purge"] == [task_id]
    assert (await tasks.post("/dead-letter/purge", purge))["purged"] == 1
    assert (await tasks.post("/dead-letter/purge", purge))["purged"] == 0
    assert [row["id"] for row in (await tasks.get("/dead-letter"))["tasks"]] == [kept]
    await tasks.call("POST", f"/dead-letter/{task_id}/replay", expect=404)
    (reason,) = (await tasks.get(f"/tasks/{task_id}/explain"))["reasons"]
    assert reason["message"].endswith("It was purged, so it cannot be replayed.")
    assert reason["unblock"] == "Submit a new task."
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["payload"], task["error"]) == (None, "broken")
    assert (await tasks.kinds(task_id))[-1] == "purged"


@pytest.mark.parametrize("reason", ["queued", "nonsense"])
async def test_a_reason_that_no_dead_task_has_is_refused(tasks: TaskApi, reason: str) -> None:
    answers = [
        await tasks.call("GET", "/dead-letter", expect=400, reason=reason),
        await tasks.call("POST", "/dead-letter/purge", {"filter": {"reason": reason}}, expect=400),
    ]
    for answer in answers:
        assert answer["error"].endswith("reason: Input should be 'dead_lettered' or 'timeout'.")
    for known in ("dead_lettered", "timeout"):
        assert (await tasks.get("/dead-letter", reason=known))["tasks"] == []


async def test_pages_of_the_dead_letter_neither_skip_nor_repeat(tasks: TaskApi) -> None:
    ids = [await _dead(tasks) for _ in range(5)]
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = await tasks.get("/dead-letter", **params)
        seen += [task["id"] for task in page["tasks"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == list(reversed(ids))
    await tasks.call("GET", "/dead-letter", expect=400, cursor="!!")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": ["x"], "filter": {}},
        {"filter": {"reason": "completed"}},
        {"filter": {"ended_after": -1}},
        {"filter": {}, "limit": 0},
        {"filter": {}, "payload": 1, "payload_patch": {}},
    ],
)
async def test_an_invalid_selection_is_refused(tasks: TaskApi, body: dict[str, Any]) -> None:
    answer = await tasks.call("POST", "/dead-letter/replay", body, expect=400)
    assert answer["error"].endswith(".")
