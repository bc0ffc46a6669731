"""Work of every kind, all of whose words are one that nobody else writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.api import Api
from tests.support.models import models, register, vote
from tests.support.probes import eventually

#: In everything that this scene writes for somebody else, and in nothing else.
SECRET = "zanzibar"


@dataclass
class Scene:
    done: str
    dead: str
    waiting: str
    request_id: str
    schedule: str
    run: str
    objects: dict[str, str]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the tasks and the deliberation."""
        return self.done, self.dead, self.waiting, self.request_id


def says(model: str, _: str) -> str:
    return vote(f"{SECRET} one" if model != "b" else f"{SECRET} two", f"{SECRET}, thinks {model}")


async def _one_question(api: Api) -> dict[str, Any] | None:
    found = (await api.get("/questions"))["questions"]
    return found[0] if found else None


@asynccontextmanager
async def scene(api: Api) -> AsyncIterator[Scene]:
    """Tasks and a deliberation in their ends, all of whose words are secret."""
    private = {"payload": {"text": SECRET}, "metadata": {"name": SECRET, "document_count": SECRET, "tags": [SECRET]}}
    await api.post("/agents", {"agent_id": "worker", "capabilities": ["x"], "options": {"prompt": SECRET}})
    ids = []
    for verb, end in (("complete", {"result": {"text": SECRET}}), ("fail", {"error": SECRET})):
        await api.post("/tasks", {"task_type": "t", "required_capabilities": ["x"], "max_retries": 0, **private})
        task = (await api.post("/tasks/claim", {"agent_id": "worker"}))["task"]
        report = {"lease_token": task["lease_token"], "percent": 5, "message": SECRET, "checkpoint": {"text": SECRET}}
        await api.post(f"/tasks/{task['id']}/extend", report)
        await api.post(f"/tasks/{task['id']}/{verb}", {**end, "lease_token": task["lease_token"]})
        ids.append(task["id"])
    waiting = (await api.post("/tasks", {"task_type": "t", "required_capabilities": ["y"], **private}))["task_id"]
    async with models(says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        options = [f"{SECRET} one", f"{SECRET} two"]
        asking = {"when": "always", "question": SECRET}
        config = {"options": options, "agents": ["a", "b", "c"], "ask_person": asking}
        asked = await api.post("/deliberations", {"content": f"{SECRET}?", "config": config, "async": True})
        question = await eventually(lambda: _one_question(api))
        await api.post(f"/tasks/{question['task_id']}/answer", {"verdict": "approve"})
        result = (await api.get(f"/deliberations/{asked['request_id']}?wait=20"))["result"]
        assert (result["terminal"], result["decided_by"]) == ("DECIDED", "person")
        body = {"cron": "@daily", "task": {"task_type": "echo", **private}}
        schedule = (await api.post("/schedules", body))["schedule_id"]
        await api.post("/credentials", {"name": "c1", "secret": SECRET})
        steps = [{"id": "a", "task": {"task_type": "t", "input": SECRET}}]
        await api.post("/workflows", {"name": "flow", "description": SECRET, "steps": steps})
        run = await api.post("/workflows/flow/runs", {"input": SECRET, "metadata": {"note": SECRET}})
        wordy = {"task_type": "t", "metadata": {"note": SECRET}}
        await api.post("/hooks", {"name": "hook", "task": wordy, "input": {"text": SECRET}})
        mail = {"kind": "email", "host": "127.0.0.1", "port": 1, "sender": f"{SECRET}@example.com", "tls": "none"}
        await api.post("/notifications/channels", {"name": "c", **mail, "recipients": [f"{SECRET}@example.com"]})
        told = (await api.post("/notifications/channels/c/test"))["notification_id"]
        wordy = {"name": "No night runs", "description": SECRET, "metadata": {"note": SECRET}}
        policy = await api.post("/policies", {**wordy, "task_types": ["nightly"], "deny_when": "true"})
        refused = await api.call("POST", "/tasks", {"task_type": "nightly", **private})
        assert refused.status_code == 403
        (violation,) = (await api.get("/policies/violations"))["violations"]
        notes = {"status": "resolved", "resolution_notes": SECRET}
        assert (await api.call("PATCH", f"/policies/violations/{violation['id']}", notes)).is_success
        budget = {"name": "Night runs", "limit_usd": "9", "estimate_usd": "1", "scope": "agent", "subject": "nobody"}
        budget_id = (await api.post("/budgets", budget))["id"]
        objects = {
            "budget_id": budget_id,
            "notification_id": told,
            "policy_id": policy["id"],
            "violation_id": violation["id"],
        }
        yield Scene(*ids, waiting, result["request_id"], schedule, run["run_id"], objects)
