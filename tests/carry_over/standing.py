"""What stands in a workspace when a build is killed: schedules, runs of workflows, questions, rules, budgets and what they hold.

``leave`` makes it over the public API. The names are for ``test_carry_over.py``, which goes on with each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.probes import eventually

if TYPE_CHECKING:
    from tests.carry_over.scene import Scene

SCHEDULE = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "task": {"task_type": "nightly", "required_capabilities": ["night"], "payload": {"of": "the night"}},
}
WORKFLOW = {
    "name": "release",
    "steps": [
        {
            "id": "build",
            "task": {"task_type": "build", "required_capabilities": ["builds"], "input": {"x": {"from": "input"}}},
        },
        {"id": "approval", "after": ["build"], "signal": {"name": "approved"}},
        {
            "id": "publish",
            "task": {
                "task_type": "publish",
                "required_capabilities": ["builds"],
                "input": {"built": {"from": "build"}, "by": {"from": "approval", "path": "/by"}},
            },
        },
    ],
}
SPREAD = {
    "name": "spread",
    "steps": [
        {
            "id": "all",
            "map": {
                "over": {"from": "input", "path": "/items"},
                "concurrency": 3,
                "task": {
                    "task_type": "spread",
                    "required_capabilities": ["spreads"],
                    "input": {"x": {"from": "item", "path": ""}},
                },
            },
        }
    ],
}
ITEMS = [5, 3, 8, 1, 2]
SPREADING = {
    "name": "weekly",
    "cron": "0 6 * * mon",
    "workflow": {"name": "spread", "input": {"items": [7]}},
}
POLICY = {"name": "No risky work", "task_types": ["risky"], "agent_blocklist": ["builder"]}
BUDGET = {
    **{"name": "Builds", "scope": "agent", "subject": "builder", "period": "month", "mode": "soft"},
    **{"limit_usd": "10.00", "estimate_usd": "0.10"},
}
CHANNEL = {
    **{"name": "mail", "kind": "email", "host": "127.0.0.1", "port": 1, "tls": "none"},
    **{"sender": "a@example.com", "recipients": ["b@example.com"]},
}
RULE = {"name": "dead", "events": ["task.dead_lettered"], "channels": ["mail"]}
CREDENTIAL = {"name": "provider", "secret": "a secret of the picture"}
QUESTION = {
    "question": "Shall it go on?",
    "answer_schema": {"type": "object", "required": ["tier"], "properties": {"tier": {"type": "integer"}}},
}
RETRY = {"attempts": 5, "initial_seconds": 1200, "factor": 3, "cap_seconds": 7200, "non_retryable": ["Broken"]}
CHECKPOINT = {"page": 2, "of": ["ä"]}
QUOTAS = {"queued_tasks": 5_000}

_LISTS = (
    "/workflows",
    "/credentials",
    "/policies",
    "/notifications/channels",
    "/notifications/rules",
    "/hooks",
    "/budgets",
)


def shown(facts: dict[str, Any]) -> list[str]:
    """Paths at which the API shows it, which must be there again."""
    runs = [f"/workflow-runs/{facts[name]}?results=true" for name in ("waiting", "building")]
    tasks = [f"/tasks/{facts['steady']['id']}", *(f"/tasks/{facts[name]}/explain" for name in ("asking", "retried"))]
    parked = [f"/tasks/{facts['parked']['parent']}"] if "parked" in facts else []  # builds before 0.10.0 had none
    spread = [f"/schedules/{facts['spread']['schedule']}"] if "spread" in facts else []  # before 0.11.0
    return [*_LISTS, f"/schedules/{facts['schedule']}", *runs, *tasks, *parked, *spread]


async def leave(scene: Scene) -> None:
    for name, capability in (
        ("builder", "builds"),
        ("night-worker", "night"),
        ("steady-worker", "steady"),
        ("hook-worker", "hooked"),
        ("parent-worker", "parents"),
        ("child-worker", "children"),
        ("spreader", "spreads"),
    ):
        await scene.agent(name, capability)
    facts: dict[str, Any] = {"budget": (await scene.repeatable("POST", "/budgets", BUDGET, "budget"))["id"]}
    facts["policy"] = (await scene.repeatable("POST", "/policies", POLICY, "policy"))["id"]
    facts["schedule"] = (await scene.repeatable("POST", "/schedules", SCHEDULE, "schedule"))["schedule_id"]
    await scene.post("/credentials", CREDENTIAL)
    await scene.post("/notifications/channels", CHANNEL)
    await scene.post("/notifications/rules", RULE)
    facts["hook"] = await scene.post(
        "/hooks", {"name": "reviews", "task": {"task_type": "hooked", "required_capabilities": ["hooked"]}}
    )
    await _runs(scene, facts)
    facts["asking"] = await scene.task("asking", input_required=QUESTION, payload=None)
    facts["open_question"] = await scene.task("asking", input_required=QUESTION, payload=None)
    retried = await scene.task("retried", "steady", retry=RETRY)
    await scene.fail(await scene.lease("steady-worker", retried), "not yet")
    steady = await scene.task("steady", "steady", max_retries=3)
    lease = await scene.lease("steady-worker", steady)
    said = {"lease_token": lease["lease_token"], "percent": 40, "message": "page 2 of 5", "checkpoint": CHECKPOINT}
    await scene.post(f"/tasks/{steady}/extend", said)
    facts["parked"] = await _parked(scene)
    facts["spread"] = await _spread(scene)
    await scene.call("PUT", "/quotas", QUOTAS)
    scene.facts["standing"] = facts | {"retried": retried, "steady": lease}


async def _parked(scene: Scene) -> dict[str, Any]:
    """A task whose holder waits for two children, of which one has ended."""
    parent = await scene.task("parent", "parents")
    lease = await scene.lease("parent-worker", parent)
    asked = [{"task_type": f"child-{n}", "required_capabilities": ["children"], "payload": n} for n in range(2)]
    body = {"lease_token": lease["lease_token"], "tasks": asked}
    children = (await scene.repeatable("POST", f"/tasks/{parent}/children", body, "children-of-parent"))["task_ids"]
    parking = {"lease_token": lease["lease_token"], "children": children, "checkpoint": CHECKPOINT}
    await scene.post(f"/tasks/{parent}/park", parking)
    first = await scene.lease("child-worker", children[0])
    await scene.post(f"/tasks/{first['id']}/complete", {"lease_token": first["lease_token"], "result": "early"})
    return {"parent": parent, "children": children}


async def _spread(scene: Scene) -> dict[str, Any]:
    """A fan-out of which some items have ended and some are at a worker, and a schedule that starts another."""
    await scene.repeatable("POST", "/workflows", SPREAD, "workflow-spread")
    run = await scene.repeatable("POST", "/workflows/spread/runs", {"input": {"items": ITEMS}}, "run-spread")
    for number in range(2):
        lease = await scene.claim("spreader", f"spread-{number}")
        done = {"lease_token": lease["lease_token"], "result": lease["payload"]["x"] * 10}
        await scene.post(f"/tasks/{lease['id']}/complete", done)
    held = await scene.claim("spreader", "spread-held")
    schedule = (await scene.repeatable("POST", "/schedules", SPREADING, "schedule-spread"))["schedule_id"]
    lease = {name: held[name] for name in ("id", "payload", "lease_token")}
    return {"run": run["run_id"], "held": lease, "schedule": schedule}


async def _runs(scene: Scene, facts: dict[str, Any]) -> None:
    """One waits for a signal, with a paid build behind it; of the other a worker has the first step."""
    await scene.repeatable("POST", "/workflows", WORKFLOW, "workflow")
    waiting = (await scene.repeatable("POST", "/workflows/release/runs", {"input": 1}, "run-1"))["run_id"]
    first = await scene.claim("builder", "build-1")
    done = {"lease_token": first["lease_token"], "result": {"built": 1}, "cost_usd": "1.25"}
    await scene.post(f"/tasks/{first['id']}/complete", done)

    async def waits() -> bool:
        run = await scene.get(f"/workflow-runs/{waiting}?results=true")
        return any((step["id"], step["status"]) == ("approval", "running") for step in run["steps"])

    await eventually(waits, what="the run to wait for its signal")
    building = (await scene.repeatable("POST", "/workflows/release/runs", {"input": 2}, "run-2"))["run_id"]
    lease = await scene.claim("builder", "build-2")
    facts |= {"waiting": waiting, "building": building}
    facts["build"] = {name: lease[name] for name in ("id", "attempt", "lease_token")} | {"agent_id": "builder"}
