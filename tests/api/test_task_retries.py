"""Tasks with a retry policy of their own, over HTTP and from the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from typer.testing import CliRunner

from cluster.cli.main import app as cli
from tests.support.api import in_thread
from tests.support.called_agents import Endpoint, ended_task
from tests.support.docs import ROOT
from tests.support.endpoints import serving
from tests.support.task_api import TaskApi

REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"max_retries": 1, "retry": {"attempts": 2}}, "Give max_retries or retry.attempts, not both"),
    ({"retry": {"initial_seconds": 5, "cap_seconds": 4}}, "must not be more than retry.cap_seconds"),
    ({"retry": {"atempts": 2}}, "There is no field atempts"),
    *(({"retry": {"attempts": odd}}, "attempts") for odd in (0, 102, 1.5, "2", True)),
    *(({"retry": {"factor": odd}}, "factor") for odd in (0.9, 101)),
    *(({"retry": {"initial_seconds": odd}}, "initial_seconds") for odd in (-1, 86_401)),
    *(({"retry": {"calls": odd}}, "calls") for odd in (0, 11)),
    *(({"retry": {"non_retryable": [odd]}}, "non_retryable") for odd in ("", "two words", "x" * 65, 5)),
)


def _pauses(events: list[Any]) -> list[float]:
    return [event["data"]["delay_seconds"] for event in events if event["type"] == "retried"]


async def test_the_example_is_taken_shown_and_obeyed(tasks: TaskApi) -> None:
    (example,) = re.findall(
        r'```json\n(\{"task_type": "invoice".*?)```', (ROOT / "docs" / "tasks.md").read_text(), re.S
    )
    body = json.loads(example)
    (task_id,) = (await tasks.post("/tasks/batch", {"tasks": [{**body, "max_retries": None}]}))["task_ids"]
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["retry"], task["max_retries"]) == (
        body["retry"] | {"non_retryable": ["InvalidInvoice", "run_timeout"]},
        5,
    )
    assert (await tasks.get(f"/tasks/{task_id}/explain"))["retry"] == task["retry"]
    await tasks.agent("a1")
    await tasks.fail(await tasks.claim_one("a1"), error_code="Other")
    (pause,) = _pauses((await tasks.get(f"/tasks/{task_id}/events"))["events"])
    assert 1 <= pause <= 2
    quick = await tasks.submit(retry={"attempts": 9, "initial_seconds": 0, "non_retryable": ["Final"]})
    for code in ("Other", "Final"):
        await tasks.fail(await tasks.claim_one("a1", task_types=["echo"]), error_code=code)
    task = await tasks.get(f"/tasks/{quick}")
    assert (task["status"], task["status_detail"], task["attempt"]) == ("failed", "failed", 2)
    events = (await tasks.get(f"/tasks/{quick}/events"))["events"]
    assert [event["data"]["error_code"] for event in events if "error_code" in event["data"]] == ["Other", "Final"]


async def test_what_contradicts_itself_is_refused_and_changes_nothing(tasks: TaskApi) -> None:
    for fields, says in REFUSED:
        refused = await tasks.post("/tasks", {"task_type": "t", **fields}, expect=400)
        assert says in json.dumps(refused), fields
    refused = await tasks.post(
        "/tasks/batch", {"tasks": [{"task_type": "t"}, {"task_type": "t", **REFUSED[0][0]}]}, expect=400
    )
    assert refused["code"] == "invalid_retry"
    assert (await tasks.get("/tasks"))["tasks"] == []


async def test_a_repeat_under_a_key_has_to_ask_for_the_same_retries(tasks: TaskApi) -> None:
    body = {"task_type": "t", "idempotency_key": "k", "retry": {"attempts": 2, "calls": 3}}
    first = await tasks.post("/tasks", body)
    assert await tasks.post("/tasks", body) == first
    assert (await tasks.post("/tasks", {**body, "retry": {"attempts": 2}}, expect=409))[
        "code"
    ] == "idempotency_conflict"


async def test_one_attempt_calls_an_unavailable_agent_as_often_as_asked(tasks: TaskApi) -> None:
    endpoint = Endpoint(httpx.Response(503), {"result": "at last"})
    async with serving(endpoint) as url:
        await tasks.agent("called", endpoint=url, capabilities=["x"])
        task_id = await tasks.submit(required_capabilities=["x"], retry={"attempts": 1, "calls": 2})
        task = await ended_task(tasks.api, task_id)
    assert (task["status"], task["result"], task["attempt"], len(endpoint.asked)) == ("completed", "at last", 1, 2)


async def test_the_command_submits_a_policy(tasks: TaskApi) -> None:
    options = "--attempts 2 --retry-initial 3 --retry-factor 1 --retry-cap 4 --non-retryable A,B --calls 2"
    words = options.split()
    told = await in_thread(
        CliRunner().invoke, cli, ["tasks", "submit", "t", *words], env={"ARAGORA_API_URL": tasks.api.url}
    )
    assert told.exit_code == 0, told.output
    task = await tasks.get(f"/tasks/{told.output.strip()}")
    numbers = {"attempts": 2, "initial_seconds": 3.0, "factor": 1.0, "cap_seconds": 4.0, "calls": 2}
    assert task["retry"] == numbers | {"non_retryable": ["A", "B"]}
