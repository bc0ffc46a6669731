"""Lists of tasks whose payloads are large: a page has room for some megabytes of them and says what it leaves out."""

from __future__ import annotations

from typing import Any

from tests.support.task_api import TaskApi

LARGE = 1_000_000 - 1000
FIT = 4


async def _dead(tasks: TaskApi, count: int) -> list[str]:
    """Ids of dead tasks with large payloads, the newest first."""
    await tasks.agent("a1")
    ids = []
    for n in range(count):
        ids.append(await tasks.submit("echo", max_retries=0, payload={"n": n, "text": "ab" * (LARGE // 2)}))
        await tasks.fail(await tasks.claim_one("a1"))
    return ids[::-1]


async def _payloads(tasks: TaskApi, count: int) -> list[dict[str, Any]]:
    """What the next claims bring."""
    found = []
    for _ in range(count):
        lease = await tasks.claim_one("a1")
        found.append(lease["payload"])
        await tasks.complete(lease)
    return found


async def test_a_list_leaves_out_what_it_has_no_room_for(tasks: TaskApi) -> None:
    ids = await _dead(tasks, FIT + 2)
    for path in ("/tasks", "/dead-letter"):
        page = await tasks.get(path)
        assert [task["id"] for task in page["tasks"]] == ids
        whole, empty = page["tasks"][:FIT], page["tasks"][FIT:]
        assert [task["payload"]["n"] for task in whole] == list(range(FIT + 2))[::-1][:FIT]
        assert not any("left_out" in task for task in whole)
        assert [(task["payload"], task["metadata"], task["result"]) for task in empty] == [(None, {}, None)] * 2
        assert [task["left_out"] for task in empty] == [["payload", "metadata", "result"]] * 2
    alone = await tasks.get(f"/tasks/{ids[-1]}")
    assert alone["payload"]["n"] == 0
    assert "left_out" not in alone
    history = await tasks.get("/tasks/history")
    assert not any("left_out" in entry for entry in history["history"]), "what it does not show takes no room"
    assert len((await tasks.get("/queue"))["jobs"]) == 0


async def test_a_replay_that_reads_payloads_goes_as_far_as_it_can(tasks: TaskApi) -> None:
    await _dead(tasks, FIT + 2)
    patch = {"filter": {}, "payload_patch": {"n": -1}}
    dry = await tasks.post("/dead-letter/replay", patch | {"dry_run": True})
    assert [task["payload"]["n"] for task in dry["would_replay"]] == [-1] * FIT
    assert (dry["total"], dry["remaining"]) == (FIT + 2, 2)
    first = await tasks.post("/dead-letter/replay", patch)
    assert (len(first["replayed"]), first["remaining"]) == (FIT, 2)
    rest = await tasks.post("/dead-letter/replay", patch)
    assert (len(rest["replayed"]), rest["remaining"]) == (2, 0)
    payloads = await _payloads(tasks, FIT + 2)
    assert [(payload["n"], len(payload["text"])) for payload in payloads] == [(-1, LARGE)] * (FIT + 2)


async def test_a_replay_that_changes_nothing_takes_all_at_once(tasks: TaskApi) -> None:
    await _dead(tasks, FIT + 2)
    replayed = await tasks.post("/dead-letter/replay", {"filter": {}})
    assert (len(replayed["replayed"]), replayed["remaining"]) == (FIT + 2, 0)
    assert sorted(payload["n"] for payload in await _payloads(tasks, FIT + 2)) == list(range(FIT + 2))


async def test_a_list_of_agents_leaves_out_what_it_has_no_room_for(tasks: TaskApi) -> None:
    text = "x" * (LARGE - 1000)
    for n in range(FIT + 2):
        await tasks.agent(f"a{n}", metadata={"n": n, "text": text})
        await tasks.agent(f"b{n}", metadata={"n": n}, options={"text": "x" * 1000})
    found = (await tasks.get("/agents"))["agents"]
    assert len(found) == 2 * (FIT + 2)
    large, small = found[: FIT + 2], found[FIT + 2 :]
    assert [agent["metadata"]["n"] for agent in large[:FIT]] == list(range(FIT))
    assert [(agent["metadata"], agent["options"]) for agent in large[FIT:]] == [({}, {})] * 2
    assert [agent["left_out"] for agent in large[FIT:]] == [["metadata", "options"]] * 2
    assert not any("left_out" in agent for agent in (*large[:FIT], *small)), "what is small takes no room"
    assert [agent["metadata"]["n"] for agent in small] == list(range(FIT + 2))
    alone = await tasks.get("/agents/a5")
    assert alone["metadata"]["n"] == 5
    assert "left_out" not in alone
