"""A valid call of every route that changes something, on an object that was made for it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cluster.domain.access.roles import ROLES
from cluster.domain.notifications.delivery import NotTaken, settled
from tests.support.api import Api
from tests.support.principals import ROLE
from tests.support.probes import eventually
from tests.support.workflows import Agents, settle, workflow_keeper

Prepare = Callable[[Api], Awaitable[tuple[str, Any]]]
_ids = itertools.count(1)


async def _agent(api: Api) -> str:
    agent_id = f"agent-{next(_ids)}"
    await api.post("/agents", {"agent_id": agent_id, "capabilities": [agent_id]})
    return agent_id


async def _task(api: Api, **changes: Any) -> str:
    return str(
        (await api.post("/tasks", {"task_type": "echo", "required_capabilities": ["nobody"], **changes}))["task_id"]
    )


async def _leased(api: Api, **fields: Any) -> dict[str, Any]:
    agent_id = await _agent(api)
    await _task(api, required_capabilities=[agent_id], **fields)
    return dict((await api.post("/tasks/claim", {"agent_id": agent_id}))["task"])


def _fixed(path: str, body: Any) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        return path, body

    return prepare


def _of_agent(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        agent_id = await _agent(api)
        return path.format(agent_id), body(agent_id) if callable(body) else body

    return prepare


def _of_task(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        task_id = await _task(api)
        return path.format(task_id), body(task_id) if callable(body) else body

    return prepare


def _of_lease(path: str, body: Callable[[dict[str, Any]], Any]) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        task = await _leased(api)
        return path.format(task["id"]), body(task)

    return prepare


async def _claim(api: Api) -> tuple[str, Any]:
    agent_id = await _agent(api)
    for _ in range(3):
        await _task(api, required_capabilities=[agent_id])
    return "/tasks/claim", {"agent_id": agent_id}


def _of_schedule(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        schedule = await api.post("/schedules", {"cron": "@daily", "task": {"task_type": "echo"}})
        return path.format(schedule["schedule_id"]), body

    return prepare


def _of_credential(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        name = f"credential-{next(_ids)}"
        await api.post("/credentials", {"name": name, "secret": f"secret of {name}"})
        return path.format(name), body

    return prepare


#: It is about tasks that no other call of this table submits.
A_POLICY = {"name": "No night runs", "task_types": ["nightly"], "agent_blocklist": ["night-owl"]}


def _of_policy(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        return path.format((await api.post("/policies", A_POLICY))["id"]), body

    return prepare


MAIL = {
    "kind": "email",
    "host": "127.0.0.1",
    "port": 1,
    "sender": "a@example.com",
    "recipients": ["b@example.com"],
    "tls": "none",
}


async def _channel(api: Api) -> str:
    name = f"channel-{next(_ids)}"
    await api.post("/notifications/channels", {"name": name, **MAIL})
    return name


def _of_channel(path: str, body: Callable[[str], Any] | None = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        name = await _channel(api)
        return path.format(name), body and body(name)

    return prepare


#: It counts what no other call of this table does.
A_BUDGET = {
    **{"name": "Night runs", "scope": "task_type", "subject": "nightly", "mode": "soft"},
    **{"limit_usd": "10.00", "estimate_usd": "0.10"},
}


def _of_budget(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        return path.format((await api.post("/budgets", A_BUDGET))["id"]), body

    return prepare


async def _of_violation(api: Api) -> tuple[str, Any]:
    await api.post("/policies", A_POLICY)
    refused = await api.call("POST", "/tasks", {"task_type": "nightly", "target_agent": "night-owl"})
    assert refused.status_code == 403
    newest = (await api.get("/policies/violations"))["violations"][0]
    return f"/policies/violations/{newest['id']}", {"status": "resolved"}


async def _rule_of_notifications(api: Api) -> tuple[str, Any]:
    name = await _channel(api)
    await api.post("/notifications/rules", {"name": name, "events": ["*"], "channels": [name]})
    return f"/notifications/rules/{name}", None


async def _dead_notification(api: Api) -> tuple[str, Any]:
    store, now = api.stores.notifications, time.time()
    name = await _channel(api)
    made = await api.post(f"/notifications/channels/{name}/test")
    due = {claimed.id: claimed for claimed, _ in await store.claim(now + 1, now + 60, 100, [])}
    claimed = due[made["notification_id"]]
    await store.settle([settled(claimed, NotTaken("The server is away.", is_final=True), now, 0.5)])
    return f"/notifications/{claimed.id}/replay", None


def _of_hook(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        name = f"hook-{next(_ids)}"
        await api.post("/hooks", {"name": name, "task": {"task_type": "echo"}})
        return path.format(name), body

    return prepare


ONE_STEP = {"name": "one", "steps": [{"id": "a", "task": {"task_type": "echo"}}]}


def _of_workflow(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        name = f"flow-{next(_ids)}"
        await api.post("/workflows", {**ONE_STEP, "name": name})
        return path.format(name), body

    return prepare


async def _open_run(api: Api) -> tuple[str, Any]:
    await api.post("/workflows", ONE_STEP)
    return f"/workflow-runs/{(await api.post('/workflows/one/runs', {}))['run_id']}/cancel", None


async def _cancelled_run(api: Api) -> tuple[str, Any]:
    await api.post("/workflows", ONE_STEP)
    run_id = (await api.post("/workflows/one/runs", {}))["run_id"]
    await api.post(f"/workflow-runs/{run_id}/cancel")
    agents = Agents(api.stores, "default")
    await settle(workflow_keeper(api.stores, agents))
    return f"/workflow-runs/{run_id}/replay", {}


async def _awaited_signal(api: Api) -> tuple[str, Any]:
    await api.post("/workflows", {"name": "waits", "steps": [{"id": "a", "signal": {"name": "go"}}]})
    return f"/workflow-runs/{(await api.post('/workflows/waits/runs', {}))['run_id']}/signals/go", {"value": next(_ids)}


async def _open_deliberation(api: Api) -> tuple[str, Any]:
    body = {"content": f"question {next(_ids)}", "async": True, "config": {"min_agents": 2}}
    request_id = (await api.post("/deliberations", body))["request_id"]
    return f"/deliberations/{request_id}/cancel", None


async def _ended_deliberation(api: Api) -> tuple[str, Any]:
    cancel, _ = await _open_deliberation(api)
    await api.post(cancel)
    path = cancel.removesuffix("/cancel")

    async def ended() -> bool:
        return (await api.get(path))["terminal"] is not None

    await eventually(ended)
    return f"{path}/outcome", {"correct": "a", "votes": {"x": "a", "y": "b"}}


async def _parking(api: Api) -> tuple[str, Any]:
    task = await _leased(api)
    child = await _task(api, parent_task_id=task["id"])
    return f"/tasks/{task['id']}/park", {"children": [child], **_token(task)}


async def _bearing(api: Api) -> tuple[str, Any]:
    task = await _leased(api)
    return f"/tasks/{task['id']}/children", {"tasks": [{"task_type": "echo"}], **_token(task)}


async def _stopping(api: Api) -> tuple[str, Any]:
    task = await _leased(api)
    await api.post(f"/tasks/{task['id']}/cancel", None)
    return f"/tasks/{task['id']}/stopped", _token(task)


async def _asking(api: Api) -> tuple[str, Any]:
    question = {"question": "Which one?", "answerers": [f"role:{role}" for role in (*ROLES, ROLE)]}
    return f"/tasks/{await _task(api, required_capabilities=[], input_required=question)}/answer", {
        "verdict": "approve"
    }


def _of_dead(path: str, body: Callable[[str], Any] | None = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        task = await _leased(api, max_retries=0)
        await api.post(f"/tasks/{task['id']}/fail", {"error": "no", **_token(task)})
        return path.format(task["id"]), body(task["id"]) if body is not None else None

    return prepare


def _token(task: dict[str, Any]) -> dict[str, Any]:
    return {"lease_token": task["lease_token"]}


def _of_workspace(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        workspace = f"workspace-{next(_ids)}"
        await api.post("/workspaces", {"id": workspace})
        member = {"subject": "user:ann@example.org", "role": "viewer"}
        assert (await api.call("PUT", f"/workspaces/{workspace}/members", member)).is_success
        return path.format(workspace), body

    return prepare


def _of_key(path: str, body: Any = None) -> Prepare:
    async def prepare(api: Api) -> tuple[str, Any]:
        key = await api.post("/keys", {"name": "Of a test", "grants": ["viewer"]})
        return path.format(key["id"]), body

    return prepare


async def _defined_role(api: Api) -> tuple[str, Any]:
    path = f"/roles/role-{next(_ids)}"
    assert (await api.call("PUT", path, {"permissions": ["controlplane:tasks.read"]})).is_success
    return path, None


CHANGES: dict[tuple[str, str], Prepare] = {
    ("POST", "/workspaces"): _fixed("/workspaces", {"id": "new", "name": "A new one"}),
    ("PATCH", "/workspaces/{workspace_id}"): _of_workspace("/workspaces/{}", {"name": "X", "state": "suspended"}),
    ("DELETE", "/workspaces/{workspace_id}"): _of_workspace("/workspaces/{}"),
    ("PUT", "/workspaces/{workspace_id}/members"): _of_workspace(
        "/workspaces/{}/members", {"subject": "group:builders", "role": "operator"}
    ),
    ("DELETE", "/workspaces/{workspace_id}/members"): _of_workspace(
        "/workspaces/{}/members?subject=user:ann@example.org&role=viewer"
    ),
    ("PUT", "/roles/{role_name}"): _fixed("/roles/starter", {"permissions": ["controlplane:tasks.write"]}),
    ("DELETE", "/roles/{role_name}"): _defined_role,
    ("POST", "/keys"): _fixed("/keys", {"name": "Of the build", "grants": ["submitter"], "expires_in_seconds": 60}),
    ("POST", "/keys/{key_id}/rotate"): _of_key("/keys/{}/rotate", {"overlap_seconds": 5}),
    ("DELETE", "/keys/{key_id}"): _of_key("/keys/{}"),
    ("POST", "/erasures"): _of_dead("/erasures", lambda task_id: {"task_id": task_id}),
    ("PUT", "/retention"): _fixed("/retention", {"task_days": 7, "task_count": 1000}),
    ("POST", "/retention/run"): _fixed("/retention/run", {}),
    ("POST", "/agents"): _fixed("/agents", {"agent_id": "one", "capabilities": ["x"]}),
    ("POST", "/agents/batch"): _fixed("/agents/batch", {"agents": [{"agent_id": "two"}, {"agent_id": "three"}]}),
    ("POST", "/agents/heartbeats"): _of_agent(
        "/agents/heartbeats", lambda agent_id: {"heartbeats": [{"agent_id": agent_id}]}
    ),
    ("DELETE", "/agents/{agent_id}"): _of_agent("/agents/{}"),
    ("POST", "/agents/{agent_id}/heartbeat"): _of_agent("/agents/{}/heartbeat"),
    ("POST", "/agents/{agent_id}/pause"): _of_agent("/agents/{}/pause"),
    ("POST", "/agents/{agent_id}/drain"): _of_agent("/agents/{}/drain"),
    ("POST", "/agents/{agent_id}/resume"): _of_agent("/agents/{}/resume"),
    ("POST", "/tasks"): _fixed("/tasks", {"task_type": "echo", "payload": {"n": 1}}),
    ("POST", "/tasks/batch"): _fixed("/tasks/batch", {"tasks": [{"task_type": "echo"}, {"task_type": "echo"}]}),
    ("POST", "/tasks/claim"): _claim,
    ("POST", "/tasks/complete"): _of_lease(
        "/tasks/complete", lambda t: {"reports": [{"task_id": t["id"], **_token(t)}]}
    ),
    ("POST", "/tasks/{task_id}/complete"): _of_lease("/tasks/{}/complete", lambda t: {"result": 1, **_token(t)}),
    ("POST", "/tasks/{task_id}/fail"): _of_lease("/tasks/{}/fail", lambda t: {"error": "no", **_token(t)}),
    ("POST", "/tasks/{task_id}/cancel"): _of_task("/tasks/{}/cancel"),
    ("POST", "/tasks/{task_id}/extend"): _of_lease("/tasks/{}/extend", _token),
    ("POST", "/tasks/{task_id}/chunks"): _of_lease(
        "/tasks/{}/chunks", lambda t: {"first": 1, "chunks": ["once upon"], **_token(t)}
    ),
    ("POST", "/tasks/{task_id}/park"): _parking,
    ("POST", "/tasks/{task_id}/children"): _bearing,
    ("POST", "/tasks/{task_id}/ask"): _of_lease("/tasks/{}/ask", lambda t: {"question": "Which one?", **_token(t)}),
    ("POST", "/tasks/{task_id}/answer"): _asking,
    ("POST", "/tasks/fail"): _of_lease(
        "/tasks/fail", lambda t: {"reports": [{"task_id": t["id"], "error": "no", **_token(t)}]}
    ),
    ("POST", "/tasks/{task_id}/stopped"): _stopping,
    ("PUT", "/queue/controls"): _fixed("/queue/controls", {"kind": "queue", "name": "slow", "rate_per_second": 5}),
    ("POST", "/queue/pause"): _fixed("/queue/pause", {"kind": "task_type", "name": "held"}),
    ("POST", "/queue/resume"): _fixed("/queue/resume", {"kind": "task_type", "name": "held"}),
    ("POST", "/dead-letter/{task_id}/replay"): _of_dead("/dead-letter/{}/replay"),
    ("POST", "/dead-letter/replay"): _of_dead("/dead-letter/replay", lambda task_id: {"ids": [task_id]}),
    ("POST", "/dead-letter/purge"): _of_dead("/dead-letter/purge", lambda task_id: {"ids": [task_id]}),
    ("POST", "/queue/prioritize"): _of_task(
        "/queue/prioritize", lambda task_id: {"task_id": task_id, "priority": "high"}
    ),
    ("POST", "/credentials"): _fixed("/credentials", {"name": "new", "secret": "a new secret"}),
    ("POST", "/credentials/{credential_name}/rotate"): _of_credential(
        "/credentials/{}/rotate", {"secret": "the next one"}
    ),
    ("DELETE", "/credentials/{credential_name}"): _of_credential("/credentials/{}"),
    ("POST", "/notifications/channels"): _fixed("/notifications/channels", {"name": "new", **MAIL}),
    ("DELETE", "/notifications/channels/{channel_name}"): _of_channel("/notifications/channels/{}"),
    ("POST", "/notifications/channels/{channel_name}/test"): _of_channel("/notifications/channels/{}/test"),
    ("POST", "/notifications/rules"): _of_channel(
        "/notifications/rules", lambda name: {"name": "new", "events": ["task.*"], "channels": [name]}
    ),
    ("DELETE", "/notifications/rules/{rule_name}"): _rule_of_notifications,
    ("POST", "/notifications/{notification_id}/replay"): _dead_notification,
    ("POST", "/hooks"): _fixed("/hooks", {"name": "new", "task": {"task_type": "echo"}}),
    ("PUT", "/hooks/{hook_name}"): _of_hook("/hooks/{}", {"task": {"task_type": "other"}}),
    ("POST", "/hooks/{hook_name}/rotate"): _of_hook("/hooks/{}/rotate", {"overlap_seconds": 60}),
    ("POST", "/hooks/{hook_name}/pause"): _of_hook("/hooks/{}/pause"),
    ("POST", "/hooks/{hook_name}/resume"): _of_hook("/hooks/{}/resume"),
    ("DELETE", "/hooks/{hook_name}"): _of_hook("/hooks/{}"),
    ("POST", "/schedules"): _fixed("/schedules", {"cron": "30 2 * * *", "task": {"task_type": "echo"}}),
    ("PUT", "/schedules/{schedule_id}"): _of_schedule("/schedules/{}", {"cron": "@hourly", "paused": True}),
    ("DELETE", "/schedules/{schedule_id}"): _of_schedule("/schedules/{}"),
    ("POST", "/schedules/{schedule_id}/pause"): _of_schedule("/schedules/{}/pause"),
    ("POST", "/schedules/{schedule_id}/resume"): _of_schedule("/schedules/{}/resume"),
    ("POST", "/schedules/{schedule_id}/run"): _of_schedule("/schedules/{}/run"),
    ("POST", "/budgets"): _fixed("/budgets", A_BUDGET),
    ("PUT", "/budgets/{budget_id}"): _of_budget("/budgets/{}", {"limit_usd": "11.00"}),
    ("DELETE", "/budgets/{budget_id}"): _of_budget("/budgets/{}"),
    ("PUT", "/quotas"): _fixed("/quotas", {"agents": 999_999}),
    ("POST", "/policies"): _fixed("/policies", A_POLICY),
    ("POST", "/policies/dry-run"): _fixed("/policies/dry-run", A_POLICY),
    ("PUT", "/policies/{policy_id}"): _of_policy("/policies/{}", {"priority": 5}),
    ("DELETE", "/policies/{policy_id}"): _of_policy("/policies/{}"),
    ("POST", "/policies/{policy_id}/rollback"): _of_policy("/policies/{}/rollback", {"version": 1}),
    ("PATCH", "/policies/violations/{violation_id}"): _of_violation,
    ("POST", "/workflows"): _fixed("/workflows", ONE_STEP),
    ("DELETE", "/workflows/{name}"): _of_workflow("/workflows/{}"),
    ("POST", "/workflows/{name}/runs"): _of_workflow("/workflows/{}/runs", {"input": [1]}),
    ("POST", "/workflow-runs/{run_id}/cancel"): _open_run,
    ("POST", "/workflow-runs/{run_id}/replay"): _cancelled_run,
    ("POST", "/workflow-runs/{run_id}/signals/{signal}"): _awaited_signal,
    ("POST", "/deliberations"): _fixed("/deliberations", {"content": "Tea or coffee?", "async": True}),
    ("POST", "/deliberations/{request_id}/cancel"): _open_deliberation,
    ("POST", "/deliberations/{request_id}/outcome"): _ended_deliberation,
    ("POST", "/auth/ticket"): _fixed("/auth/ticket", None),
    ("POST", "/outcomes/batch"): _fixed(
        "/outcomes/batch", {"outcomes": [{"id": "q1", "votes": {"x": "a", "y": "b"}, "correct": "a"}]}
    ),
}
