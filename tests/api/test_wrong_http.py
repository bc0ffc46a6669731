"""Agents whose answers are not HTTP, or break off: through the host and the shard."""

from __future__ import annotations

from typing import Any

from tests.support.api import Api
from tests.support.called_agents import ended_task
from tests.support.probes import eventually
from tests.transports.test_wrong_http import LOST, WRONG, saying


async def test_answers_that_are_not_http_fail_attempts_and_leave_the_breaker(api: Api) -> None:
    for number, name in enumerate(WRONG):
        async with saying(WRONG[name]) as url:
            # Each has its own: a call may still go to the address that an agent had a moment ago.
            await api.post("/agents", {"agent_id": f"a{number}", "endpoint": url})
            created = await api.post("/tasks", {"task_type": "t", "max_retries": 0, "target_agent": f"a{number}"})
            task = await ended_task(api, created["task_id"])
        assert task["status"] == "failed", (number, name)
        assert task["error"].startswith(f"Agent a{number}: 127.0.0.1 "), task["error"]
        (row,) = [row for row in await api.rows(task["id"]) if row.kind == "task.dead_lettered"]
        assert row.data["error_class"] == "malformed"
    assert (await api.get("/breakers"))["breakers"] == []


async def test_answers_that_break_off_open_the_breaker(api: Api) -> None:
    for name in ("nothing", "half a head", "half a body"):
        async with saying(LOST[name]) as url:
            await api.post("/agents", {"agent_id": "a1", "endpoint": url})
            created = await api.post("/tasks", {"task_type": "t", "max_retries": 0})
            task = await ended_task(api, created["task_id"])
        assert (task["status"], "cannot be reached" in task["error"]) == ("failed", True), (name, task["error"])

    async def opened() -> Any:
        return [breaker for breaker in (await api.get("/breakers"))["breakers"] if breaker["state"] == "open"]

    (breaker,) = await eventually(opened)
    assert breaker["failure_count"] == 3
