"""Children of tasks over HTTP: submits, parking, outcomes in the next claim, and the worker kit."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from aragora_worker import Child, Job, Worker
from cluster.domain.tasks.children import MAX_CHILDREN, MAX_DEPTH
from cluster.domain.tasks.task import LeaseToken
from tests.support.api import Api
from tests.support.docs import ROOT
from tests.support.permission_tables import with_role
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

CAPABILITIES = ["x"]


async def _leased(tasks: TaskApi, **fields: Any) -> Any:
    """A task that agent a1 holds."""
    await tasks.agent("a1", capabilities=["parent"])
    await tasks.submit(required_capabilities=["parent"], **fields)
    return await tasks.claim_one("a1")


async def _children(tasks: TaskApi, parent: str, number: int) -> list[str]:
    """For agent c1."""
    await tasks.agent("c1", capabilities=["child"])
    task = {"task_type": "part", "required_capabilities": ["child"], "parent_task_id": parent, "max_retries": 0}
    ids: list[str] = (await tasks.post("/tasks/batch", {"tasks": [task] * number}))["task_ids"]
    return ids


async def _park(tasks: TaskApi, lease: Any, children: Any, *, expect: int | None = None, **fields: Any) -> Any:
    body = {"lease_token": lease["lease_token"], "children": children, **fields}
    return await tasks.post(f"/tasks/{lease['id']}/park", body, expect=expect)


async def test_a_parked_task_is_claimed_again_with_the_outcomes(tasks: TaskApi) -> None:
    lease = await _leased(tasks, max_retries=0)
    task_id = lease["id"]
    children = await _children(tasks, task_id, 3)
    named = children[::-1]
    parked = await _park(tasks, lease, named, checkpoint={"page": 3})
    assert parked == {"parked": True, "attempt": 1}
    assert await _park(tasks, lease, named) == parked, "a repeat changes nothing"
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["status"], task["status_detail"], task["assigned_agent"]) == ("pending", "waiting_children", None)
    assert (task["parked"]["children"], task["parked"]["attempt"]) == (named, 1)
    assert (await tasks.get(f"/tasks/{children[0]}"))["parent_task_id"] == task_id
    assert await tasks.claim("a1") is None
    assert await tasks.has_reason(task_id, "waiting_children")
    listed = await tasks.get("/tasks", status_detail="waiting_children")
    assert [found["id"] for found in listed["tasks"]] == [task_id]
    for n, _ in enumerate(children):
        part = await tasks.claim_one("c1")
        if n == 1:
            await tasks.fail(part, requeue=False)
        else:
            await tasks.post(f"/tasks/{part['id']}/complete", {"lease_token": part["lease_token"], "result": {"n": n}})
    again = await tasks.claim_one("a1")
    assert (again["id"], again["attempt"], again["retries"], again["checkpoint"]) == (task_id, 2, 0, {"page": 3})
    found = [(child["task_id"], child["status"], child["result"], child["error"]) for child in again["children"]]
    assert [entry[0] for entry in found] == named
    results = [entry[2]["n"] for entry in found if entry[1:2] + entry[3:] == ("completed", None)]
    assert sorted(results) == [0, 2]
    assert [entry[1:] for entry in found if entry[1] != "completed"] == [("failed", None, "no")]
    await tasks.complete(again)
    assert await tasks.kinds(task_id) == ["submitted", "claimed", "parked", "unparked", "claimed", "completed"]


async def test_results_that_a_claim_has_no_room_for_are_left_out(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    children = await _children(tasks, lease["id"], 5)
    await _park(tasks, lease, children)
    for _ in children:
        part = await tasks.claim_one("c1")
        body = {"lease_token": part["lease_token"], "result": "x" * 950_000}
        await tasks.post(f"/tasks/{part['id']}/complete", body)
    outcomes = (await tasks.claim_one("a1"))["children"]
    assert [child.get("left_out") for child in outcomes].count(["result"]) == 1
    assert sorted(len(child["result"] or "") for child in outcomes) == [0, *[950_000] * 4]


async def test_what_cannot_be_waited_for_is_refused_with_a_reason(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    (child,) = await _children(tasks, lease["id"], 1)
    other = await tasks.submit(required_capabilities=["nobody"])
    for children, status, code in (
        ([], 400, None),
        ("task_1", 400, None),
        ([7], 400, None),
        (["no id"], 400, None),
        ([child] * 2, 400, "invalid_children"),
        (["task_0"], 400, "unknown_child"),
        ([child, other], 409, "not_a_child"),
        ([lease["id"]], 409, "not_a_child"),
        ([f"task_{n}" for n in range(MAX_CHILDREN + 1)], 400, None),
    ):
        refused = await _park(tasks, lease, children, expect=status)
        assert code is None or refused["code"] == code, children
    assert (await _park(tasks, lease, [child], checkpoint="x" * 20_000, expect=400))["code"] == "invalid_progress"
    odd = {"lease_token": lease["lease_token"], "children": [child]}
    assert (await tasks.post(f"/tasks/{other}/park", odd, expect=409))["code"] == "lease_lost"
    report = {"task_id": lease["id"], "lease_token": lease["lease_token"], "park": {"children": [other]}}
    (outcome,) = (await tasks.post("/tasks/complete", {"reports": [report]}))["results"]
    assert (outcome["ok"], outcome["code"]) == (False, "not_a_child")
    assert await tasks.is_detail(lease["id"], "running"), "nothing of it was done"
    (outcome,) = (await tasks.post("/tasks/complete", {"reports": [report | {"park": {"children": [child]}}]}))[
        "results"
    ]
    assert outcome["ok"]
    assert await tasks.is_detail(lease["id"], "waiting_children")


async def test_families_have_a_bounded_depth_and_parents_that_exist(tasks: TaskApi) -> None:
    assert (await tasks.post("/tasks", {"task_type": "t", "parent_task_id": "task_0"}, expect=400))[
        "code"
    ] == "unknown_parent"
    await tasks.post("/tasks", {"task_type": "t", "parent_task_id": "no id"}, expect=400)
    parent = await tasks.submit()
    for _ in range(MAX_DEPTH):
        parent = await tasks.submit(parent_task_id=parent)
    body = {"task_type": "t", "parent_task_id": parent}
    assert (await tasks.post("/tasks", body, expect=400))["code"] == "limit_exceeded"
    assert (await tasks.post("/tasks/batch", {"tasks": [body]}, expect=400))["code"] == "limit_exceeded"


async def test_tasks_of_another_workspace_are_no_family(tasks: TaskApi) -> None:
    tasks.api.app.state.resolver = TokenTable({name: principal("ann", name) for name in ("v", "w")})
    tasks.api.client.headers.update(bearer("v"))
    lease = await _leased(tasks)
    foreign = await tasks.api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer("w"))
    assert (await _park(tasks, lease, [foreign.json()["task_id"]], expect=400))["code"] == "unknown_child"
    body = {"task_type": "t", "parent_task_id": lease["id"]}
    refused = await tasks.api.call("POST", "/tasks", body, headers=bearer("w"))
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_parent")


async def test_cancelling_a_parent_ends_its_open_children(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    children = await _children(tasks, lease["id"], 3)
    await tasks.complete(await tasks.claim_one("c1"))
    held = await tasks.claim_one("c1")
    await _park(tasks, lease, children)
    await tasks.post(f"/tasks/{lease['id']}/cancel")
    (waiting,) = [child for child in children if (await tasks.get(f"/tasks/{child}"))["attempt"] == 0]
    await eventually(lambda: tasks.is_detail(waiting, "cancelled"))
    await eventually(lambda: tasks.is_detail(held["id"], "cancelling"))
    events = (await tasks.get(f"/tasks/{waiting}/events"))["events"]
    assert (events[-1]["data"]["reason"], events[-1]["principal"]) == ("parent_ended", "system")


async def test_a_dead_child_wakes_its_parent_and_its_replay_has_none(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    (child,) = await _children(tasks, lease["id"], 1)
    await _park(tasks, lease, [child])
    await tasks.fail(await tasks.claim_one("c1"))
    again = await tasks.claim_one("a1")
    assert [outcome["status_detail"] for outcome in again["children"]] == ["dead_lettered"]
    await tasks.post(f"/dead-letter/{child}/replay")
    await tasks.fail(again, requeue=False)
    part = await tasks.claim_one("c1")
    assert (await tasks.get(f"/tasks/{child}"))["replayed_as"] == part["id"]
    assert "parent_task_id" not in part


async def _ended(tasks: TaskApi, task_id: str) -> Any:
    async def has_ended() -> bool:
        return (await tasks.get(f"/tasks/{task_id}"))["status"] not in ("pending", "running")

    await eventually(has_ended)
    return await tasks.get(f"/tasks/{task_id}")


class _Working:
    """A worker with these handlers, for as long as the block lasts."""

    def __init__(self, api: Api, *capabilities: str, **handlers: Any) -> None:
        self._worker = Worker(
            agent_id="w1", capabilities=[*capabilities, *CAPABILITIES], base_url=api.url, heartbeat_s=0.2
        )
        for task_type, handler in handlers.items():
            self._worker.handles(task_type)(handler)

    async def __aenter__(self) -> None:
        self._running = asyncio.create_task(self._worker.run())

    async def __aexit__(self, *_: object) -> None:
        self._worker.drain()
        await self._running


async def test_the_example_of_the_page_runs(tasks: TaskApi) -> None:
    page = (ROOT / "docs" / "workers.md").read_text()
    (example,) = [code for code in re.findall(r"```python run\n(.*?)```", page, re.DOTALL) if "job.park" in code]
    names: dict[str, Any] = {}
    exec(example, names)
    async with _Working(tasks.api, review=names["review"], review_part=names["review_part"]):
        fields = {"payload": {"texts": ["To be or not to be", "so"]}, "max_retries": 0}
        task_id = await tasks.submit("review", required_capabilities=CAPABILITIES, **fields)
        task = await _ended(tasks, task_id)
    assert (task["result"], task["attempt"]) == ({"verdicts": ["fine", "too short"], "of": 2}, 2)


def _call_of_the_page(ends: str, lease: Any) -> tuple[str, str, Any]:
    page = (ROOT / "docs" / "tasks.md").read_text()
    (example,) = [code for code in re.findall(r"```json run\n(.*?)```", page, re.DOTALL) if f"{ends}\n" in code]
    call, _, body = example.partition("\n")
    method, path = call.replace("{id}", lease["id"]).split()
    return method, path, json.loads(body) | {"lease_token": lease["lease_token"]}


async def test_the_calls_of_the_page_are_taken(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    method, path, body = _call_of_the_page("/children", lease)
    children = (await tasks.call(method, path, body))["task_ids"]
    method, path, body = _call_of_the_page("/park", lease)
    assert (await tasks.call(method, path, body | {"children": children}))["parked"]


async def _bear(tasks: TaskApi, lease: Any, *children: Any, expect: int | None = None, **fields: Any) -> Any:
    body = {"lease_token": lease["lease_token"], "tasks": list(children), **fields}
    return await tasks.post(f"/tasks/{lease['id']}/children", body, expect=expect)


async def test_an_agent_submits_children_of_the_task_it_holds_alone(tasks: TaskApi) -> None:
    agent = replace(with_role("agent", "w"), agents=frozenset({"a1"}))
    tasks.api.app.state.resolver = TokenTable({"maker": principal("maker"), "a1": agent})
    tasks.api.client.headers.update(bearer("maker"))
    lease = await _leased(tasks)
    other = await tasks.submit(required_capabilities=["nobody"])
    tasks.api.client.headers.update(bearer("a1"))
    part = {"task_type": "part", "required_capabilities": ["nobody"]}
    (first,) = (await _bear(tasks, lease, part))["task_ids"]
    after = {**part, "after": [{"id": first, "when_failed": "run_anyway"}], "parent_task_id": lease["id"]}
    (second,) = (await _bear(tasks, lease, after))["task_ids"]
    for child, code in (
        ({**part, "parent_task_id": other}, "not_a_child"),
        ({**part, "after": [other]}, "not_a_child"),
        ({**part, "after": ["task_0"]}, "not_a_child"),
        ({**part, "priority": "enormous"}, None),
        ("part", None),
    ):
        refused = await _bear(tasks, lease, part, child, expect=400)
        assert code is None or refused["code"] == code, child
    assert (await _bear(tasks, {**lease, "id": other}, part, expect=409))["code"] == "lease_lost"
    forged = LeaseToken(task_id=other, attempt=1, agent_id="a1").encode()
    assert (await _bear(tasks, {"id": other, "lease_token": forged}, part, expect=409))["code"] == "lease_lost"
    forged = LeaseToken(task_id=lease["id"], attempt=1, agent_id="a2").encode()
    assert (await _bear(tasks, {**lease, "lease_token": forged}, part, expect=403))["code"] == "agent_mismatch"
    forged = LeaseToken(task_id="task_0", attempt=1, agent_id="a1").encode()
    assert (await _bear(tasks, {"id": "task_0", "lease_token": forged}, part, expect=404))["code"] == "task_not_found"
    for path, body in (("/tasks", part), ("/tasks/batch", {"tasks": [{**part, "parent_task_id": lease["id"]}]})):
        assert (await tasks.post(path, body, expect=403))["code"] == "forbidden"
    tasks.api.client.headers.update(bearer("maker"))
    listed = (await tasks.get("/tasks"))["tasks"]
    families = {task["id"]: task.get("parent_task_id") for task in listed}
    assert families == {lease["id"]: None, other: None, first: lease["id"], second: lease["id"]}


async def test_a_repeat_has_its_children_also_after_the_lease(tasks: TaskApi) -> None:
    lease = await _leased(tasks)
    part = {"task_type": "part", "required_capabilities": ["nobody"]}
    body = {"lease_token": lease["lease_token"], "tasks": [part]}
    path, key = f"/tasks/{lease['id']}/children", {"Idempotency-Key": "one"}
    first = await tasks.api.call("POST", path, body, headers=key)
    await tasks.complete(lease)
    again = await tasks.api.call("POST", path, body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (await tasks.api.call("POST", path, body, headers={"Idempotency-Key": "two"})).json()["code"] == "lease_lost"
    other = {**body, "tasks": [{**part, "payload": {"n": 2}}]}
    conflict = await tasks.api.call("POST", path, other, headers=key)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
async def test_an_attempt_after_a_lost_one_finds_its_children(tasks: TaskApi, same: bool) -> None:
    """The first one is lost between its submit and its report."""
    lease = await _leased(tasks)
    task = {"task_type": "part", "payload": {"n": 1}, "required_capabilities": CAPABILITIES}
    body = {"tasks": [task | {"parent_task_id": lease["id"]}]}
    key = {"Idempotency-Key": f"children:{lease['id']}:0"}
    (first,) = (await tasks.api.call("POST", "/tasks/batch", body, headers=key)).json()["task_ids"]
    await tasks.fail(lease, released=True)

    def parent(job: Job) -> Any:
        if job.children is None:
            job.park([Child("part", {"n": 1 if same else 2}, required_capabilities=CAPABILITIES)])
        return [child.task_id for child in job.children]

    async with _Working(tasks.api, "parent", echo=parent, part=lambda job: job.payload["n"]):
        result = (await _ended(tasks, lease["id"]))["result"]
    assert (result == [first]) == same


async def test_children_that_are_refused_fail_the_attempt_with_the_code(tasks: TaskApi) -> None:
    def parent(job: Job) -> Any:
        job.park([Child("part", {}, priority="enormous")])

    async with _Working(tasks.api, parent=parent):
        task_id = await tasks.submit("parent", required_capabilities=CAPABILITIES, max_retries=0)
        task = await _ended(tasks, task_id)
    assert task["status_detail"] == "dead_lettered"
    assert task["error"].startswith("its children were refused: priority must be one of")
