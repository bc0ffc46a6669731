"""Questions to people: of tasks that people do, and of holders that need to know something."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("verdict", "given", "outcome"),
    [
        ("approve", {}, ("completed", True, None)),
        ("approve", {"answer": {"tier": 2}}, ("completed", {"tier": 2}, None)),
        ("answer", {"answer": None}, ("completed", None, None)),
        ("reject", {"reason": "too early"}, ("failed", None, "Rejected: too early")),
    ],
)
async def test_the_answer_is_the_result_of_a_task_that_people_do(
    tasks: TaskApi, verdict: str, given: dict[str, Any], outcome: tuple[str, Any, str | None]
) -> None:
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
    assert (await tasks.get("/questions"))["total"] == 0
    refused = await _answer(tasks, task_id, "answer", answer="another", expect=409)
    assert refused["code"] == "already_answered"
    end = (await tasks.get(f"/story/{task_id}"))["events"][-1]
    assert (end["principal"], end["data"]["verdict"]) == ("user:local-admin", first["verdict"])


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
