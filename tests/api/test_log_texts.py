"""Rows that routes and actors make by themselves: every kind of them, and no words in their data. The rows of the machines of
tasks and deliberations are checked in tests/unit/domain/test_log_texts.py."""

from __future__ import annotations

import socket
import time

from cluster.domain.audit.retention import DAY_S
from cluster.domain.base.log import LogRow, Origin
from cluster.domain.notifications.events import DIGEST, KINDS, TITLES
from cluster.ports.access import Revocation
from cluster.process.clock import ManualClock
from tests.api.test_outcomes import imports
from tests.support.access import NEVER
from tests.support.api import Api
from tests.support.changes import CHANGES
from tests.support.hooks import send as send_webhook
from tests.support.log_texts import LOG_TEXTS, words_in
from tests.support.probes import eventually
from tests.support.retention import Hurried, retention_keeper, settling_keeper
from tests.support.schedules import schedule_keeper
from tests.support.task_api import TaskApi
from tests.support.workflows import Agents, settle, workflow_keeper
from tests.unit.domain.test_log_texts import WORDS, kinds_in_code

#: What operators of several regions do. No region alone makes such a row, and the data are names of regions.
OF_OPERATORS = {"region.joined", "region.left", "region.transfer_asked", "region.loss_accepted", "region.mode_set"}
#: Made while authentication is on; test_login.py, test_login_throttle.py and test_denials.py look at their data.
OF_LOGINS = {"auth.login", "auth.logout", "auth.failed", "auth.denied"}

#: Made over A2A; test_a2a_pushes.py looks at their data.
OF_PUSHES = {"notification.push_set", "notification.push_deleted"}
#: Made of logs of many rows; tests/actors/test_log_keeper.py looks at their data.
OF_ARCHIVES = {"retention.log_removed", "retention.archive_deleted", "retention.cursor_dropped"}


async def _agents(api: Api, dead: str) -> None:
    wordy = {"metadata": {"note": WORDS}, "tags": [WORDS], "persona": WORDS, "capabilities": ["debate"]}
    await api.post("/agents", {"agent_id": "a1", **wordy})
    await api.post("/agents", {"agent_id": "dead", "transport": "http", "endpoint": dead, **wordy})
    await api.post("/agents/a1/heartbeat", {"status": "draining"})
    await api.post("/agents/a1/pause")
    await api.post("/agents/a1/resume")
    await api.post("/agents/a1/heartbeat", {"status": "ready"})


async def _deliberations(api: Api) -> None:
    config = {"agents": ["dead"], "options": [WORDS, "Another one."], "min_agents": 1, "timeout_seconds": 5}
    await api.post("/deliberations", {"content": WORDS, "config": config})
    waits = {"content": WORDS, "async": True, "config": {"agents": ["nobody", "nobody-else"]}}
    request_id = (await api.post("/deliberations", waits))["request_id"]
    await api.post(f"/deliberations/{request_id}/cancel")


async def _operations(api: Api) -> None:
    for name in ("pause", "resume"):
        await api.post(f"/queue/{name}", {"kind": "queue", "name": "q1"})
    assert (await api.call("PUT", "/queue/controls", {"kind": "tenant", "name": "t1", "weight": 2.0})).is_success
    tasks = TaskApi(api)
    for _ in range(2):
        await tasks.submit(payload={"text": WORDS}, metadata={"note": WORDS}, max_retries=0, target_agent="a1")
        lease = await tasks.claim_one("a1")
        progress = {"percent": 5, "message": WORDS, "checkpoint": {"text": WORDS}}
        await tasks.post(f"/tasks/{lease['id']}/extend", {"lease_token": lease["lease_token"], **progress})
        await tasks.fail(lease, error=WORDS)
    first, second = (task["id"] for task in (await tasks.get("/dead-letter"))["tasks"])
    await tasks.post(f"/dead-letter/{first}/replay", {"payload": WORDS})
    await tasks.post("/dead-letter/purge", {"ids": [second]})


async def _access(api: Api) -> None:
    await api.post("/workspaces", {"id": "w1", "name": WORDS})
    assert (await api.call("PATCH", "/workspaces/w1", {"name": f"{WORDS} Again."})).is_success
    members = "/workspaces/w1/members"
    assert (await api.call("PUT", members, {"subject": "user:ann@example.org", "role": "viewer"})).is_success
    assert (await api.call("DELETE", f"{members}?subject=user:ann@example.org&role=viewer")).is_success
    assert (await api.call("PUT", "/roles/starter", {"permissions": ["controlplane:tasks.write"]})).is_success
    assert (await api.call("DELETE", "/roles/starter")).is_success
    key = (await api.post("/keys", {"name": WORDS, "grants": ["viewer"]}))["id"]
    await api.post(f"/keys/{key}/rotate")
    assert (await api.call("DELETE", f"/keys/{key}")).is_success
    origin = Origin(workspace="w1")
    await api.stores.access.revoke(origin, Revocation(subject="jti:t1", not_before=0.0, until=NEVER))


async def _outcomes(api: Api) -> None:
    wordy = {"id": "q", "votes": {"good": WORDS, "fair": "No."}, "correct": WORDS, "options": [WORDS, "No."]}
    await api.post("/outcomes/batch", {"outcomes": [wordy, *imports(25)]})


async def _schedules(api: Api) -> None:
    """Each kind of row of a schedule; of the runs that are due ten minutes from now, all but one are skipped."""
    template = {"task_type": "echo", "payload": WORDS, "metadata": {"note": WORDS}}
    made = await api.post("/schedules", {"every_seconds": 60, "name": WORDS, "task": template})
    path = f"/schedules/{made['schedule_id']}"
    assert (await api.call("PUT", path, {"name": f"{WORDS} Again."})).is_success
    await api.post(f"{path}/pause")
    await api.post(f"{path}/resume")
    await schedule_keeper(api.stores, ManualClock(time.time() + 600)).fire_due()
    assert (await api.call("DELETE", path)).is_success


async def _credentials(api: Api) -> None:
    await api.post("/credentials", {"name": "c1", "secret": WORDS})
    await api.post("/credentials/c1/rotate", {"secret": f"{WORDS} Again."})
    assert (await api.call("DELETE", "/credentials/c1")).is_success


async def _budgets(api: Api) -> None:
    """Each kind of row of a budget: one attempt uses half of it."""
    about = {"scope": "task_type", "subject": "costly"}
    made = await api.post("/budgets", {"name": WORDS, **about, "limit_usd": "2", "estimate_usd": "1"})
    path = f"/budgets/{made['id']}"
    await api.post("/agents", {"agent_id": "payer", "capabilities": ["costly"]})
    await api.post("/tasks", {"task_type": "costly", "required_capabilities": ["costly"]})
    task = (await api.post("/tasks/claim", {"agent_id": "payer", "block_ms": 20_000}))["task"]
    await api.post(f"/tasks/{task['id']}/complete", {"lease_token": task["lease_token"], "cost_usd": "1.5"})
    await eventually(lambda: _has(api, "budget.level_reached"), what="people are told of a level")
    assert (await api.call("PUT", path, {"name": f"{WORDS} Again."})).is_success
    assert (await api.call("DELETE", path)).is_success


async def _quotas(api: Api) -> None:
    assert (await api.call("PUT", "/quotas", {"running_tasks": 1000})).is_success


async def _policies(api: Api) -> None:
    """Each kind of row of a policy and of a violation."""
    wordy = {"name": WORDS, "description": WORDS, "metadata": {"note": WORDS}}
    made = await api.post("/policies", {**wordy, "task_types": ["nightly"], "agent_blocklist": ["a1"]})
    path = f"/policies/{made['id']}"
    refused = await api.call("POST", "/tasks", {"task_type": "nightly", "target_agent": "a1", "payload": WORDS})
    assert refused.status_code == 403
    soft = {"name": "Soft", "task_types": ["soft"], "deny_when": "true", "enforcement_level": "soft"}
    overridden = await api.post("/policies", soft)
    overriding = await api.post("/tasks", {"task_type": "soft", "policy_override": {"reason": WORDS}})
    await api.post(f"/tasks/{overriding['task_id']}/cancel")
    assert (await api.call("DELETE", f"/policies/{overridden['id']}")).is_success
    (violation,) = (await api.get("/policies/violations?status=open"))["violations"]
    notes = {"status": "resolved", "resolution_notes": WORDS}
    assert (await api.call("PATCH", f"/policies/violations/{violation['id']}", notes)).is_success
    await api.post("/tasks", {"task_type": "nightly"})
    assert (await api.call("PUT", path, {"description": f"{WORDS} Again."})).is_success
    assert (await api.call("DELETE", path)).is_success


async def _notifications(api: Api) -> None:
    replay, _ = await CHANGES["POST", "/notifications/{notification_id}/replay"](api)
    await api.post(replay)
    rule, _ = await CHANGES["DELETE", "/notifications/rules/{rule_name}"](api)
    assert (await api.call("DELETE", rule)).is_success
    channel = rule.replace("rules", "channels")
    assert (await api.call("DELETE", channel)).is_success


async def _hooks(api: Api) -> None:
    """Each kind of row of a hook, which starts a task with words."""
    task = {"task_type": "echo", "metadata": {"note": WORDS}}
    hook = await api.post("/hooks", {"name": "h", "task": task, "input": {"text": WORDS, "x": {"from": "body"}}})
    assert (await send_webhook(api, hook, WORDS)).is_success
    assert (await api.call("PUT", "/hooks/h", {"task": task})).is_success
    for verb in ("rotate", "pause", "resume"):
        await api.post(f"/hooks/h/{verb}")
    assert (await api.call("DELETE", "/hooks/h")).is_success


async def _workflows(api: Api) -> None:
    """Each kind of row of a workflow and its runs; the first step of the run has no input."""
    task = {"task_type": "echo", "metadata": {"note": WORDS}}
    steps = [
        {
            "id": "a",
            "task": {**task, "input": {"x": {"from": "input", "path": f"/{WORDS}"}}},
            "on_failure": {"step": "b"},
        },
        {"id": "b", "task": {**task, "input": {"text": WORDS}}},
        {"id": "c", "signal": {"name": "go"}},
        {"id": "d", "signal": {"name": "stop", "timeout_seconds": 1, "default": WORDS}},
    ]
    await api.post("/workflows", {"name": "flow", "description": WORDS, "steps": steps})
    run = await api.post("/workflows/flow/runs", {"input": {"text": WORDS}, "metadata": {"note": WORDS}})
    agents, clock = Agents(api.stores, "default"), ManualClock(time.time())
    await settle(workflow_keeper(api.stores, agents, clock=clock))
    await api.post(f"/workflow-runs/{run['run_id']}/signals/go", {"value": WORDS})
    await clock.advance(1.0)
    await settle(workflow_keeper(api.stores, agents, clock=clock))
    await api.post(f"/workflow-runs/{run['run_id']}/cancel")
    await settle(workflow_keeper(api.stores, agents))
    assert (await api.get(f"/workflow-runs/{run['run_id']}"))["status"] == "cancelled"


async def _erasure(api: Api) -> None:
    for task in (await api.get("/tasks"))["tasks"]:
        if task["status"] in ("pending", "running"):
            await api.post(f"/tasks/{task['id']}/cancel")
    await api.post("/erasures", {"workspace": "default"})


async def _retention(api: Api) -> None:
    await api.post("/workflows", {"name": "ends", "steps": [{"id": "a", "signal": {"name": "go"}}]})
    run_id = (await api.post("/workflows/ends/runs", {"input": WORDS}))["run_id"]
    await api.post(f"/workflow-runs/{run_id}/cancel")
    await settle(workflow_keeper(api.stores, Agents(api.stores, "default")))
    kept = ("task_days", "deliberation_days", "workflow_run_days", "spending_days", "violation_days")
    rule = dict.fromkeys((*kept, "policy_version_days"), 1)
    assert (await api.call("PUT", "/retention", rule)).is_success
    kept = await api.post("/policies", {"name": "Kept", "task_types": ["nightly"], "agent_blocklist": ["a1"]})
    assert (await api.call("PUT", f"/policies/{kept['id']}", {"priority": 1})).is_success
    await api.post("/retention/run", {})
    await retention_keeper(api.stores, clock=Hurried(time.time() + 30 * DAY_S)).look()
    await settling_keeper(api.stores, Hurried(time.time() + 60 * DAY_S)).look()


async def test_no_route_and_no_actor_puts_words_into_data(api: Api) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        await _agents(api, f"http://127.0.0.1:{nobody_listens.getsockname()[1]}/")
        await _deliberations(api)
        await _operations(api)
        await _outcomes(api)
        await _access(api)
        await _schedules(api)
        await _credentials(api)
        await _policies(api)
        await _budgets(api)
        await _quotas(api)
        await _notifications(api)
        await _hooks(api)
        await _workflows(api)
        monitor = await api.start_health_monitor()

        async def judged() -> bool:
            await monitor.probes.probe_some()
            return any(row.principal == "system:health-monitor" for row in await api.rows("dead"))

        await eventually(judged, what="the monitor finds that nobody listens")
    assert (await api.call("DELETE", "/agents/a1")).is_success
    await eventually(lambda: _has(api, "weights.fitted"), what="weights are learned")
    assert WORDS in str([row.private_json for row in await api.rows()])
    await _erasure(api)
    await _retention(api)
    await api.stores.region.raise_epoch("leader-1")
    rows = await api.rows()
    assert all(row.verifies() for row in rows)
    assert [(row.kind, words) for row in rows if (words := words_in(row.kind, row.data))] == []
    assert [row.kind for row in rows if WORDS in row.data_json] == []
    assert WORDS not in str([row.private_json for row in rows if row.workspace == "default"])
    made = {row.kind for row in rows}
    events = {DIGEST, *TITLES} - {*KINDS}  # names of notifications' events, which are no kinds
    missed = set().union(*(kinds_in_code(subject) for subject in LOG_TEXTS)) - made - events
    machines = {kind for kind in missed if kind.startswith(("task.", "deliberation."))}
    assert missed - machines == OF_OPERATORS | OF_LOGINS | OF_ARCHIVES | OF_PUSHES
    assert {"task.submitted", "task.purged", "task.replayed"} <= made
    assert {"deliberation.admitted", "deliberation.cancel_requested"} <= made


async def _has(api: Api, kind: str) -> list[LogRow]:
    return [row for row in await api.rows() if row.kind == kind]
