"""Turns of agents without an endpoint: tasks that they claim."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actors.roles import AGENT_HOST
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentMalformed, AgentRefused, AgentTimeout
from tests.support.agents import a_call
from tests.support.api import CP, Api, in_thread
from tests.support.called_agents import ask_agent
from tests.support.probes import eventually


async def _turn(api: Api, agent_id: str = "a1") -> dict[str, Any]:
    """Claimed as the released client claims."""
    sdk = api.sdk().control_plane
    task = (await in_thread(sdk.claim_task, agent_id=agent_id, block_ms=10_000))["task"]
    assert task["task_type"] == "deliberation.turn"
    return dict(task)


async def test_the_released_client_completes_the_turn_of_an_agent_without_endpoint(api: Api) -> None:
    sdk = api.sdk().control_plane
    await in_thread(sdk.register_agent, agent_id="a1")
    asked = ask_agent(api, a_call("a1"))
    task = await _turn(api)
    payload = task["payload"]
    assert (payload["messages"], payload["schema"]) == ([{"role": "user", "content": "Which?"}], {"type": "object"})
    assert payload["deadline"] > task["created_at"]
    assert (task["target_agent"], task["timeout_seconds"], task["max_retries"]) == ("a1", 20.0, 0)
    result = {"text": '{"choice": "a"}', "input_tokens": 5, "output_tokens": 7}
    await api.post(f"/tasks/{task['id']}/complete", {"result": result, "agent_id": "a1"})
    reply = Reply(text='{"choice": "a"}', tokens=12, input_tokens=5, output_tokens=7)
    assert await asked == reply
    assert await ask_agent(api, a_call("a1")) == reply, "the same key finds the same turn"


async def test_a_typed_result_is_an_answer_and_a_missing_one_malformed(api: Api) -> None:
    sdk = api.sdk().control_plane
    await in_thread(sdk.register_agent, agent_id="a1")
    asked = ask_agent(api, a_call("a1"))
    task = await _turn(api)
    await api.post(f"/tasks/{task['id']}/complete", {"result": {"choice": "a"}})
    reply = await asked
    assert (json.loads(reply.text), reply.estimated) == ({"choice": "a"}, True)

    asked = ask_agent(api, a_call("a1", key="turn-2"))
    task = await _turn(api)
    await in_thread(sdk.complete_task, task["id"])
    with pytest.raises(AgentMalformed):
        await asked


async def test_a_turn_whose_task_fails_is_not_asked_again(api: Api) -> None:
    sdk = api.sdk().control_plane
    await in_thread(sdk.register_agent, agent_id="a1")
    asked = ask_agent(api, a_call("a1"))
    task = await _turn(api)
    await api.post(f"/tasks/{task['id']}/fail", {"error": "no idea", "agent_id": "a1"})
    with pytest.raises(AgentRefused, match="no idea"):
        await asked
    assert (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 0}))["task"] is None


async def test_a_turn_nobody_waits_for_any_more_is_cancelled(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    with pytest.raises(AgentTimeout):
        await ask_agent(api, a_call("a1", timeout_s=0.3))
    asked = ask_agent(api, a_call("a1", key="turn-2"))

    async def turns(status: str) -> Any:
        found = await api.get("/tasks", params={"status": status})
        return [task["id"] for task in found["tasks"]]

    assert await eventually(lambda: turns("pending"))
    asked.cancel()

    async def all_over() -> bool:
        """The first one's own time is over in the same moment, and either may come first."""
        cancelled, timed_out = await turns("cancelled"), await turns("timeout")
        return bool(cancelled) and len(cancelled) + len(timed_out) == 2

    await eventually(all_over)


async def test_a_turn_goes_on_while_one_of_two_callers_waits(api: Api) -> None:
    """As the deliberation worker that was killed and the one that followed it."""
    await api.post("/agents", {"agent_id": "a1"})
    before, after = ask_agent(api, a_call("a1")), ask_agent(api, a_call("a1"))
    task = await _turn(api)
    turns = api.actor(AGENT_HOST)._pull_calls
    await eventually(lambda: len(turns._waiting.get(task["id"], ())) == 2)
    before.cancel()
    await asyncio.gather(before, return_exceptions=True)
    await eventually(lambda: not turns._cancels)
    assert (await api.get(f"/tasks/{task['id']}"))["status_detail"] == "running"
    await api.post(f"/tasks/{task['id']}/complete", {"result": "yes", "agent_id": "a1"})
    assert (await after).text == "yes"


async def test_a_turn_outlives_the_host_that_asked(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    asked = ask_agent(api, a_call("a1"))
    task = await _turn(api)
    await api.kill(AGENT_HOST)
    await asyncio.gather(asked, return_exceptions=True)
    await api.post(f"/tasks/{task['id']}/complete", {"result": "yes", "agent_id": "a1"})
    await api.start(AGENT_HOST)
    assert (await ask_agent(api, a_call("a1"))).text == "yes"


#: A report of a result over each way in: FastAPI reads bodies whose content type has parameters.
_WAYS = (
    ("complete", "application/json"),
    ("complete", "application/json; charset=utf-8"),
    ("reports", "application/json"),
    ("reports", "application/json; charset=utf-8"),
)


@pytest.mark.parametrize(("way", "content_type"), _WAYS)
async def test_an_answer_keeps_all_digits_of_its_numbers(api: Api, way: str, content_type: str) -> None:
    await in_thread(api.sdk().control_plane.register_agent, agent_id="a1")
    asked = ask_agent(api, a_call("a1"))
    task = await _turn(api)
    digits = [
        "9007199254740993.0",
        "9007199254740993",
        "12345678901234567890.5",
        "1e22",
        "1e308",
        "0.30000000000000004",
    ]
    result = f'{{"value": [{", ".join(digits)}]}}'
    path, body = f"/tasks/{task['id']}/complete", f'{{"result": {result}}}'
    if way == "reports":
        path, body = "/tasks/complete", f'{{"reports": [{{"task_id": "{task["id"]}", "result": {result}}}]}}'
    answer = await api.client.post(CP + path, content=body, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text
    assert json.loads((await asked).text, parse_float=str, parse_int=str) == {"value": digits}
    stored = json.loads((await api.call("GET", f"/tasks/{task['id']}")).text)["result"]
    assert stored == json.loads(result), "readers of the task get the nearest double of each"
