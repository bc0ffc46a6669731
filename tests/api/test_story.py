"""The cause of every row, and the story that is read by causes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.main import app as cli
from cluster.domain.base.errors import ImpossibleTransition
from cluster.domain.base.log import LogRow
from cluster.domain.tasks.events import LeaseExpired
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from tests.support.answering import Agents, always, registrations, reply
from tests.support.api import Api, in_thread
from tests.support.called_agents import Endpoint, ended_task
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.samples import NOW, new_task
from tests.support.system import clean_environment


async def _post(api: Api, path: str, trace: str, body: Any = None) -> Any:
    return await api.post(path, body, headers={"X-Request-ID": trace})


async def _has(api: Api, entity: str, kind: str) -> LogRow:
    found: list[LogRow] = []

    async def there() -> bool:
        found[:] = [row for row in await api.rows(entity) if row.kind == kind]
        return bool(found)

    await eventually(there, what=f"{kind} of {entity}")
    return found[-1]


def _causes(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["cause"]) for event in events]


async def test_a_requests_trace_is_the_cause_of_all_rows_it_leads_to(api: Api) -> None:
    await _post(api, "/agents", "register-1", {"agent_id": "a1"})
    task_id = (await _post(api, "/tasks", "submit-1", {"task_type": "echo"}))["task_id"]
    later = {"task_type": "echo", "after": [{"id": task_id}]}
    later_id = (await _post(api, "/tasks", "submit-2", later))["task_id"]
    lease = (await _post(api, "/tasks/claim", "claim-1", {"agent_id": "a1", "block_ms": 20_000}))["task"]
    assert lease["id"] == task_id
    await _post(api, "/queue/prioritize", "first-1", {"task_id": later_id, "priority": "high"})
    done = {"lease_token": lease["lease_token"], "result": "It is done."}
    await _post(api, f"/tasks/{task_id}/complete", "done-1", done)
    await _has(api, later_id, "task.unblocked")
    await _post(api, f"/tasks/{later_id}/cancel", "stop-1")
    story = await api.get(f"/story/{task_id}")
    assert _causes(story["events"]) == [
        ("task.submitted", "submit-1"),
        ("task.claimed", "claim-1"),
        ("task.completed", "done-1"),
    ]
    assert story["events"][-1]["data"]["result_summary"] == "It is done."
    assert _causes((await api.get(f"/story/{later_id}"))["events"]) == [
        ("task.submitted", "submit-2"),
        ("task.prioritized", "first-1"),
        ("task.unblocked", "done-1"),
        ("task.cancelled", "stop-1"),
    ]
    both = (await api.get("/story/done-1"))["events"]
    assert [(event["type"], event["entity"]) for event in both] == [
        ("task.completed", task_id),
        ("task.unblocked", later_id),
    ]
    assert (await api.rows("a1"))[0].cause == "register-1"


@pytest.mark.parametrize("trace", ["#1", "two words", "x" * 129, "", "zeilen\u00fcmbruch"])
async def test_a_trace_that_is_no_id_is_replaced(api: Api, trace: str) -> None:
    headers = {"X-Request-ID": trace.encode()}
    response = await api.call("POST", "/agents", {"agent_id": "a1"}, headers=headers)
    (row,) = await api.rows("a1")
    assert row.cause == response.headers["X-Trace-Id"]
    assert row.cause != trace
    assert row.cause.isalnum()


async def test_a_row_is_the_cause_of_what_it_leads_to(api: Api) -> None:
    await _post(api, "/agents", "register-1", {"agent_id": "a1"})
    task_id = (await _post(api, "/tasks", "submit-1", {"task_type": "echo"}))["task_id"]
    await _post(api, "/tasks/claim", "claim-1", {"agent_id": "a1", "block_ms": 20_000})
    assert (await api.call("DELETE", "/agents/a1", headers={"X-Request-ID": "bye-1"})).is_success
    requeued = await _has(api, task_id, "task.requeued")
    gone = await _has(api, "a1", "agent.unregistered")
    assert (gone.cause, requeued.cause) == ("bye-1", f"#{gone.seq}")
    of_task = await api.get(f"/story/{task_id}")
    assert [event["type"] for event in of_task["events"]] == [
        "task.submitted",
        "task.claimed",
        "agent.unregistered",
        "task.requeued",
    ]
    for of in ("a1", "bye-1"):
        events = (await api.get(f"/story/{of}"))["events"]
        assert [event["type"] for event in events][-2:] == ["agent.unregistered", "task.requeued"]
    pages, after = [], 0
    while True:
        page = await api.get(f"/story/{task_id}", params={"limit": 1, "after": after})
        pages += page["events"]
        after = pages[-1]["seq"]
        if not page["has_more"]:
            break
    assert pages == of_task["events"]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        ({"text": "yes"}, ["task.completed"]),
        ({"error": "no", "requeue": False}, ["task.failed"]),
        ([1, 2], ["task.completed"]),
    ],
)
async def test_the_rows_of_a_called_agents_task_have_its_cause(
    api: Api, answer: Any, ends: list[str], restarted: bool
) -> None:
    """Also if the shard has read its state again before the agent came."""
    endpoint = Endpoint(answer)
    task_id = (await _post(api, "/tasks", "submit-1", {"task_type": "echo", "target_agent": "a1"}))["task_id"]
    if restarted:
        await api.kill_scheduler()
        await api.start_scheduler()
    async with serving(endpoint) as url:
        await _post(api, "/agents", "register-1", {"agent_id": "a1", "endpoint": url})
        await ended_task(api, task_id)
    assert [(row.kind, row.cause) for row in await api.rows(task_id)] == [
        (kind, "submit-1") for kind in ("task.submitted", "task.claimed", *ends)
    ]
    of_trace = (await api.get("/story/submit-1"))["events"]
    assert {"task.claimed", *ends} <= {event["type"] for event in of_trace}


async def test_all_rows_of_a_deliberation_have_the_cause_of_its_request(api: Api) -> None:
    async with Agents().running() as agents:
        agents.answering["a"] = always("A")
        agents.answering["b"] = lambda agent, body: (500, "Out of order.")
        await api.post("/agents/batch", registrations(agents, "a", "b"))
        await api.post("/agents", {"agent_id": "p", "capabilities": ["debate"]})
        question = {"content": "Which one?", "config": {"options": ["A", "B"], "agents": ["a", "b", "p"]}}
        asked = asyncio.create_task(_post(api, "/deliberations", "ask-1", question))
        turn = (await api.post("/tasks/claim", {"agent_id": "p", "block_ms": 20_000}))["task"]
        done = {"lease_token": turn["lease_token"], "result": {"text": reply("A")}}
        await _post(api, f"/tasks/{turn['id']}/complete", "answer-1", done)
        result = await asked
    request_id = result["request_id"]
    rows = await api.rows(request_id)
    assert {row.cause for row in rows} == {"ask-1"}
    assert {row.kind for row in rows} >= {"deliberation.admitted", "deliberation.started", "deliberation.completed"}
    story = await api.get(f"/story/{request_id}")
    assert story["events"] == (await api.get("/story/ask-1"))["events"]
    assert [event["entity"] for event in story["events"] if event["type"] == "task.submitted"] == [turn["id"]]
    by_words = {event["type"]: event["data"] for event in story["events"]}
    assert by_words["deliberation.started"]["task_preview"] == "Which one?"


async def _command(api: Api, *words: str) -> Result:
    environment = clean_environment(ARAGORA_API_URL=api.url)
    return await in_thread(CliRunner().invoke, cli, ["story", *words], env=environment)


async def test_the_command_prints_the_story(api: Api) -> None:
    await _post(api, "/agents", "register-1", {"agent_id": "a1"})
    task_id = (await _post(api, "/tasks", "submit-1", {"task_type": "echo", "max_retries": 0}))["task_id"]
    lease = (await _post(api, "/tasks/claim", "claim-1", {"agent_id": "a1", "block_ms": 20_000}))["task"]
    failure = {"lease_token": lease["lease_token"], "error": "Out of paper."}
    await _post(api, f"/tasks/{task_id}/fail", "fail-1", failure)
    shown = (await _command(api, task_id)).output
    for words in ("task.submitted", "task.claimed", "task.dead_lettered", "claim-1", "fail-1", "error=Out of paper."):
        assert words in shown
    assert "agent a1" in shown  # who held it, though a claim's row is by somebody else
    assert "priority=normal" in shown
    whole = json.loads((await _command(api, "fail-1", "--json")).output)
    assert [(event["entity"], event["cause"]) for event in whole["events"]] == [(task_id, "fail-1")]
    events = (await api.get(f"/tasks/{task_id}/events"))["events"]
    assert events[-1]["data"]["error"] == "Out of paper."
    nothing = await _command(api, "task_nobody")
    assert nothing.exit_code != 0
    assert "The log has no row about task_nobody" in str(nothing.exception) + nothing.output


def test_an_impossible_transition_names_its_cause() -> None:
    task = new_task()
    with pytest.raises(ImpossibleTransition, match=r"LeaseExpired cannot happen to it \(cause: #7\)"):
        step(task.head(), LeaseExpired(cause="#7"), NOW, RetryPolicy())


async def test_the_story_of_an_unknown_id_is_not_found(api: Api) -> None:
    response = await api.call("GET", "/story/task_nobody")
    assert (response.status_code, response.json()["code"]) == (404, "story_not_found")
    assert (await api.call("GET", f"/story/{'x' * 500}")).status_code == 400
    assert (await api.call("GET", "/story/%00")).status_code == 400


async def test_the_command_says_why_a_task_waits(api: Api) -> None:
    body = {"task_type": "echo", "required_capabilities": ["nobody-has-it"], "timeout_seconds": 90}
    task_id = (await _post(api, "/tasks", "submit-1", body))["task_id"]
    shown = (await _command(api, task_id)).output
    assert "No registered agent has nobody-has-it." in shown
    assert "What would change it: Register an agent with nobody-has-it." in shown
    assert "timeout_seconds=1 min 30 s" in shown
    await _post(api, f"/tasks/{task_id}/cancel", "stop-1")
    ended = (await _command(api, task_id)).output
    assert "What would change it" not in ended
    assert "  +" in ended
