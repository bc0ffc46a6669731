"""An error in which nothing can be read costs nobody a finished result, and no task fails without a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.called_agents import Endpoint, ended_task
from tests.support.endpoints import serving

EMPTY: list[Any] = [
    *(None, "", " ", "\t\n", "\u00a0", "\u200b", "\ufeff", "\u2800", False, 0, 0.0, {}, [], [""], [{}], [None, " "]),
    *({"message": ""}, {"message": " ", "code": 0}, {"error": {"message": None}}),
]
SAID: list[tuple[Any, str]] = [
    ("no", "no"),
    (" no", " no"),
    (True, "true"),
    (5, "5"),
    ({"message": "no"}, "no"),
    (["no"], "no"),
]


async def _ended(api: Api, answers: list[Any], **fields: Any) -> list[dict[str, Any]]:
    """The tasks, each of which had one of the answers."""
    endpoint = Endpoint(*answers)
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        ended = []
        for _ in answers:
            created = await api.post("/tasks", {"task_type": "t", "max_retries": 0, **fields})
            ended.append(await ended_task(api, created["task_id"]))
        return ended


async def test_an_empty_error_beside_a_result_does_not_count(api: Api) -> None:
    results = [5, None, "", {"a": 1}]
    answers = [{"result": results[index % 4], "error": error} for index, error in enumerate(EMPTY)]
    for answer, task in zip(answers, await _ended(api, answers), strict=True):
        assert (task["status"], task["result"]) == ("completed", answer["result"]), (answer, task["error"])


async def test_an_empty_error_alone_fails_the_attempt_with_a_sentence(api: Api) -> None:
    answers = [{"error": error} | ({"requeue": False} if index % 2 else {}) for index, error in enumerate(EMPTY)]
    for answer, task in zip(answers, await _ended(api, answers), strict=True):
        assert task["status"] == "failed", (answer, task)
        assert task["error"] == "Agent a1: The answer has neither a result nor an error that says something.", answer
    assert (await api.get("/breakers"))["breakers"] == []


async def test_an_error_that_says_something_fails_the_attempt_beside_a_result_too(api: Api) -> None:
    answers = [{"result": 5, "error": error} for error, _ in SAID]
    for (_, words), task in zip(SAID, await _ended(api, answers), strict=True):
        assert (task["status"], task["error"]) == ("failed", words)


async def test_an_empty_error_beside_other_fields_leaves_them_the_result(api: Api) -> None:
    answers = [{"sum": 7, "error": error} for error in EMPTY]
    for answer, task in zip(answers, await _ended(api, answers), strict=True):
        assert (task["status"], task["result"]) == ("completed", answer)


@pytest.mark.parametrize("error", ["", " ", "\u200b"], ids=ascii)
async def test_a_worker_that_reports_an_empty_error_is_understood_alike(api: Api, error: str) -> None:
    await api.post("/agents", {"agent_id": "w1"})

    async def claimed() -> tuple[str, dict[str, Any]]:
        await api.post("/tasks", {"task_type": "t", "max_retries": 0})
        lease = (await api.post("/tasks/claim", {"agent_id": "w1", "block_ms": 20_000}))["task"]
        return lease["id"], {"lease_token": lease["lease_token"], "error": error}

    failed, said = await claimed()
    await api.post(f"/tasks/{failed}/fail", said)
    assert (await api.get(f"/tasks/{failed}"))["error"] == "Unknown error"
    for more, expected in (({"result": 5}, ("completed", 5, None)), ({}, ("failed", None, "Unknown error"))):
        task_id, said = await claimed()
        answer = await api.post("/tasks/complete", {"reports": [{"task_id": task_id, **said, **more}]})
        assert answer["results"][0]["ok"] is True, answer
        task = await api.get(f"/tasks/{task_id}")
        assert (task["status"], task["result"], task["error"]) == expected
