"""Questions to people: of tasks that people do, and of holders that need to know something."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from dataclasses import replace
from typing import Any

from typer.testing import CliRunner

from aragora_worker import BlockingClient, ControlPlaneClient, Worker
from cluster.cli.main import app as cli
from cluster.domain.access.permissions import ALL, Permission
from tests.support.api import Api, in_thread
from tests.support.docs import ROOT
from tests.support.permission_tables import with_role
from tests.support.principals import TokenTable, bearer
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

SCHEMA = {
    "type": "object",
    "properties": {"tier": {"enum": [1, 2]}},
    "required": ["tier"],
    "additionalProperties": False,
}


async def _question(tasks: TaskApi, **fields: Any) -> str:
    """A task whose question is open."""
    task_id = await tasks.submit("approval", input_required={"question": "Publish it?", **fields})
    assert await tasks.is_detail(task_id, "input_required")
    return task_id


async def _answer(tasks: TaskApi, task_id: str, verdict: str, *, expect: int | None = None, **fields: Any) -> Any:
    return await tasks.post(f"/tasks/{task_id}/answer", {"verdict": verdict, **fields}, expect=expect)


async def _asked(tasks: TaskApi, lease: Any, *, expect: int | None = None, **fields: Any) -> Any:
    body = {"question": "Which tier?", "lease_token": lease["lease_token"], **fields}
    return await tasks.post(f"/tasks/{lease['id']}/ask", body, expect=expect)


OUTCOMES: tuple[tuple[str, dict[str, Any], tuple[str, Any, str | None]], ...] = (
    ("approve", {}, ("completed", True, None)),
    ("approve", {"answer": {"tier": 2}}, ("completed", {"tier": 2}, None)),
    ("answer", {"answer": None}, ("completed", None, None)),
    ("reject", {"reason": "too early"}, ("failed", None, "Rejected: too early")),
)


async def test_the_answer_is_the_result_of_a_task_that_people_do(tasks: TaskApi) -> None:
    for verdict, given, outcome in OUTCOMES:
        task_id = await _question(tasks)
        (listed,) = (await tasks.get("/questions"))["questions"]
        assert (listed["task_id"], listed["question"], listed["open"]) == (task_id, "Publish it?", True)
        assert await tasks.has_reason(task_id, "input_required")
        first = await _answer(tasks, task_id, verdict, **given)
        assert await _answer(tasks, task_id, verdict, **given) == first, "a repeat"
        task = await tasks.get(f"/tasks/{task_id}")
        assert (task["status"], task["result"], task["error"]) == outcome
        assert (task["question"]["verdict"], task["question"]["open"]) == (first["verdict"], False)
        assert task["question"]["answered_by"] == first["answered_by"] == "user:local-admin"
        refused = await _answer(tasks, task_id, "answer", answer="another", expect=409)
        assert refused["code"] == "already_answered"
        end = (await tasks.get(f"/story/{task_id}"))["events"][-1]
        assert (end["principal"], end["data"]["verdict"]) == ("user:local-admin", first["verdict"])
    assert (await tasks.get("/questions"))["total"] == 0


async def test_a_holder_asks_and_the_next_attempt_has_the_answer(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit(max_retries=0)
    lease = await tasks.claim_one("a1")
    asked = await _asked(tasks, lease, answer_schema=SCHEMA, checkpoint={"page": 3})
    assert asked == {"asked": True, "attempt": 1}
    assert await _asked(tasks, lease) == asked, "a repeat is answered alike and changes nothing"
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["status"], task["status_detail"], task["assigned_agent"]) == ("pending", "input_required", None)
    assert task["question"]["answer_schema"] == SCHEMA
    assert await tasks.claim("a1") is None
    refused = await _answer(tasks, task_id, "answer", answer={"tier": 3}, expect=400)
    assert (refused["code"], "must be one of" in refused["error"]) == ("invalid_answer", True)
    await _answer(tasks, task_id, "answer", answer={"tier": 1})
    again = await tasks.claim_one("a1")
    assert (again["id"], again["attempt"], again["retries"]) == (task_id, 2, 0)
    assert (again["checkpoint"], again["question"]["answer"]) == ({"page": 3}, {"tier": 1})
    await tasks.complete(again)
    assert await tasks.kinds(task_id) == ["submitted", "claimed", "asked", "answered", "claimed", "completed"]


async def test_of_answers_at_the_same_time_one_counts(tasks: TaskApi) -> None:
    task_id = await _question(tasks)
    path = f"/api/control-plane/tasks/{task_id}/answer"
    answers = [tasks.api.client.post(path, json={"verdict": "answer", "answer": n % 2}) for n in range(10)]
    given = await asyncio.gather(*answers)
    result = (await tasks.get(f"/tasks/{task_id}"))["result"]
    assert [answer.status_code for answer in given] == [200 if n % 2 == result else 409 for n in range(10)]


async def test_the_question_comes_when_what_it_is_after_has_ended(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    first = await tasks.submit()
    task_id = await tasks.submit("approval", after=[first], input_required={"question": "Good?"})
    assert await tasks.is_detail(task_id, "blocked")
    assert (await _answer(tasks, task_id, "approve", expect=409))["code"] == "no_open_question"
    await tasks.complete(await tasks.claim_one("a1"))
    await eventually(lambda: tasks.is_detail(task_id, "input_required"))
    await tasks.api.kill_scheduler()
    await tasks.api.start_scheduler()
    await _answer(tasks, task_id, "approve")
    assert await tasks.is_detail(task_id, "completed")


async def _command(api: Api, *words: str, code: int = 0) -> str:
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "300"}
    result = await in_thread(CliRunner().invoke, cli, list(words), env=environment)
    assert result.exit_code == code, result.output
    return str(result.stdout)


async def test_the_examples_of_the_page_run(tasks: TaskApi) -> None:
    api, page = tasks.api, (ROOT / "docs" / "questions.md").read_text()
    (body,) = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    (commands,) = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    (handler,) = re.findall(r"```python run\n(.*?)```", page, re.DOTALL)
    ids = {"TASK": (await tasks.post("/tasks", body))["task_id"]}
    ids |= {name: await _question(tasks) for name in ("OTHER", "THIRD")}
    for line in commands.splitlines():
        assert ids["TASK"] in await _command(api, *(ids.get(word, word) for word in shlex.split(line)[1:])) or (
            "TASK" not in line
        )
    ends = [await tasks.get(f"/tasks/{task_id}") for task_id in ids.values()]
    assert [(task["status"], task["result"]) for task in ends] == [
        ("completed", {"tier": 2}),
        ("completed", True),
        ("failed", None),
    ]
    names: dict[str, Any] = {}
    exec(handler, names)
    worker = Worker(agent_id="w1", capabilities=["x"], base_url=api.url, heartbeat_s=0.2)
    worker.handles("publish")(names["publish"])
    working = asyncio.create_task(worker.run())
    try:
        first, second = [await tasks.submit("publish", required_capabilities=["x"], max_retries=0) for _ in range(2)]
        for task_id in (first, second):
            await eventually(lambda task_id=task_id: tasks.is_detail(task_id, "input_required"))  # type: ignore[misc]
        async with ControlPlaneClient(api.url) as client:
            assert [question["task_id"] async for question in client.questions()] == [second, first]
            await client.approve(first)
            assert await client.result(first, timeout_s=60) == "published 'Hello'"

        def rejected() -> Any:
            with BlockingClient(api.url) as blocking:
                assert [question["task_id"] for question in blocking.questions()] == [second]
                blocking.reject(second, "too early")
                return blocking.result(second, timeout_s=60)

        assert await in_thread(rejected) == "not published: too early"
    finally:
        worker.drain()
        await working


async def test_only_those_who_are_named_may_answer(tasks: TaskApi) -> None:
    given = ("viewer", "submitter", "agent", "auditor")
    roles = {role: replace(with_role(role, "w"), workspace="default") for role in given}
    ann = replace(roles["viewer"], id="user:ann", subjects=frozenset({"user:ann", "group:sales"}))
    table = {**roles, "ann": ann, "suspended": replace(ann, suspended=frozenset({Permission.TASKS_WRITE}))}
    tasks.api.app.state.resolver = TokenTable({"root": replace(ann, id="user:root", permissions=ALL), **table})
    tasks.api.client.headers.update(bearer("root"))

    async def may(task_id: str) -> list[str]:
        path, found = f"/tasks/{task_id}/answer", []
        for name in table:
            answer = await tasks.api.call("POST", path, {"verdict": "approve"}, headers=bearer(name))
            found += [name] if answer.status_code == 200 else []
            assert answer.status_code in (200, 403), answer.text
        return found

    assert await may(await _question(tasks)) == ["submitter"]
    assert await may(await _question(tasks, answerers=["role:auditor", "user:ann"])) == ["auditor", "ann", "suspended"]
    assert await may(await _question(tasks, answerers=["group:sales"])) == ["ann", "suspended"]
    seen = await tasks.api.call("GET", "/questions", headers=bearer("viewer"))
    assert "Publish" not in seen.text, "who reads no payloads reads no questions"


async def test_what_cannot_be_asked_or_answered_is_refused(tasks: TaskApi) -> None:
    for odd, words in (
        ({"question": ""}, "question"),
        ({"question": "x" * 4001}, "question"),
        ({"questions": "?"}, "There is no field questions"),
        ({"answer_schema": {"type": "nothing"}}, "is not a JSON Schema"),
        ({"answer_schema": {"$ref": "https://example.com/s"}}, "nothing is fetched"),
        ({"answer_schema": {"pattern": "(a|a)*\\1"}}, "pattern"),
        ({"answerers": ["ann"]}, "subject must be user:EMAIL"),
        ({"answerers": ["role:No Such"]}, "answerers must be role:NAME"),
        ({"answerers": ["role:admin"] * 33}, "answerers"),
        ({"time_limit_seconds": 0}, "time_limit_seconds"),
        ({"default": 1}, "give that too"),
        ({"default": "x" * 20_000, "time_limit_seconds": 9}, "default is larger"),
        ({"default": 3, "time_limit_seconds": 9, "answer_schema": SCHEMA}, "default does not fit"),
    ):
        body = {"task_type": "approval", "input_required": {"question": "Which?", **odd}}
        assert words in (await tasks.post("/tasks", body, expect=400))["error"], odd
    for name, value in {"required_capabilities": ["x"], "delay_seconds": 5, "target_agent": "a1"}.items():
        body = {"task_type": "approval", "input_required": {"question": "Which?"}, name: value}
        assert (await tasks.post("/tasks", body, expect=400))["code"] == "invalid_question", name
    task_id = await _question(tasks, answer_schema=SCHEMA)
    for verdict, fields in (
        ("approve", {}),
        ("answer", {}),
        ("answer", {"answer": {"tier": True}}),
        ("answer", {"answer": {"tier": 1}, "reason": "because"}),
        ("answer", {"answer": "x" * 70_000}),
        ("reject", {"answer": 1}),
        ("maybe", {}),
    ):
        await _answer(tasks, task_id, verdict, expect=400, **fields)
    assert (await _answer(tasks, task_id, "reject", attempt=1, expect=409))["code"] == "no_open_question"
    plain = await tasks.submit()
    assert (await _answer(tasks, plain, "reject", expect=409))["code"] == "no_open_question"
    await _answer(tasks, "task_0", "reject", expect=404)
    await tasks.agent("a1")
    lease = await tasks.claim_one("a1")
    report = {"task_id": lease["id"], "lease_token": lease["lease_token"]}
    for odd in ({"question": ""}, {"question": "?", "answer_schema": {"type": 1}}, "no object"):
        (outcome,) = (await tasks.post("/tasks/complete", {"reports": [report | {"ask": odd}]}))["results"]
        assert outcome["ok"] is False
    assert (await tasks.post("/tasks/complete", {"reports": [report | {"ask": {"question": "?"}}]}))["results"][0]["ok"]
    assert await tasks.is_detail(lease["id"], "input_required")
