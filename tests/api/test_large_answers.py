"""Large answers do not stop the host that takes them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.agents import a_call
from tests.support.api import Api
from tests.support.called_agents import Endpoint, ask_agent, ended_task
from tests.support.endpoints import completion, serving
from tests.support.threads import running_in

SIZES = pytest.mark.parametrize("size", [10, 100_000])


@SIZES
async def test_the_result_of_a_called_agent_is_written_off_the_loop(api: Api, size: int) -> None:
    result = {"numbers": list(range(size))}
    async with serving(Endpoint({"result": result})) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        with running_in("outcome_of") as ran:
            task = await api.post("/tasks", {"task_type": "t", "target_agent": "a1"})
            assert (await ended_task(api, task["task_id"]))["result"] == result
    assert ran["outcome_of"]
    assert (threading.get_ident() in ran["outcome_of"]) == (size == 10)


@SIZES
async def test_the_text_of_a_model_is_written_off_the_loop(api: Api, size: int) -> None:
    async with serving(Endpoint(completion("a" * size))) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url, "transport": "openai", "model": "m"})
        with running_in("outcome_of") as ran:
            body = {"task_type": "t", "target_agent": "a1", "payload": {"prompt": "Which?"}}
            task = await api.post("/tasks", body)
            assert len((await ended_task(api, task["task_id"]))["result"]["text"]) == size
    assert (threading.get_ident() in ran["outcome_of"]) == (size == 10)


@SIZES
async def test_the_answer_to_a_pull_call_is_written_off_the_loop(api: Api, size: int) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    answer: dict[str, Any] = {"choice": list(range(size))}
    with running_in("_reply") as ran:
        asked = ask_agent(api, a_call("a1"))
        task = (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 10_000}))["task"]
        await api.post(f"/tasks/{task['id']}/complete", {"result": answer, "agent_id": "a1"})
        assert len((await asked).text) > size
    assert ran["_reply"]
    assert (threading.get_ident() in ran["_reply"]) == (size == 10)


@SIZES
@pytest.mark.parametrize("path", ["/tasks/{id}/complete", "/tasks/complete"])
async def test_the_report_of_a_worker_is_read_off_the_loop(api: Api, path: str, size: int) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    created = await api.post("/tasks", {"task_type": "t"})
    task = (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 10_000}))["task"]
    report = {"task_id": task["id"], "lease_token": task["lease_token"], "result": list(range(size))}
    with running_in("_parsed", "_completed") as ran:
        if path == "/tasks/complete":
            await api.post(path, {"reports": [report]})
        else:
            await api.post(path.format(id=task["id"]), report)
    assert (await ended_task(api, created["task_id"]))["result"] == report["result"]
    here = threading.get_ident()
    assert {name: threads == {here} for name, threads in ran.items()} == dict.fromkeys(ran, size == 10)
