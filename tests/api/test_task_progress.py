"""Progress and checkpoints of running tasks, from the holder's report to whoever looks, and to the next attempt."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from typer.testing import CliRunner

from cluster.cli.main import app as cli
from cluster.domain.access.permissions import ALL, Permission
from tests.api.test_cli_tasks import COMMAND
from tests.support.api import Api, in_thread
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi


async def _report(tasks: TaskApi, lease: Any, *, expect: int | None = None, **fields: Any) -> Any:
    body = {"lease_token": lease["lease_token"], **fields}
    return await tasks.post(f"/tasks/{lease['id']}/extend", body, expect=expect)


async def test_what_the_holder_reports_is_shown_at_once(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    lease = await tasks.claim_one("a1")
    assert "progress" not in lease
    assert "checkpoint" not in lease
    answer = await _report(tasks, lease, percent=40, message="page 2 of 5", checkpoint={"page": 2})
    assert answer.keys() == {"extended", "lease_expires_at"}
    task = await tasks.get(f"/tasks/{task_id}")
    reported_at = task["progress"].pop("reported_at")
    assert task["started_at"] <= reported_at
    assert task["progress"] == {"attempt": 1, "percent": 40.0, "message": "page 2 of 5"}
    assert task["checkpoint"] == {"page": 2}
    (listed,) = (await tasks.get("/tasks"))["tasks"]
    assert not {"progress", "checkpoint"} & listed.keys(), "a list has no room for checkpoints"
    told = await tasks.get(f"/story/{task_id}")
    assert told["progress"] == {"attempt": 1, "percent": 40.0, "message": "page 2 of 5", "reported_at": reported_at}
    assert [event["type"] for event in told["events"]] == ["task.submitted", "task.claimed"]


async def _fails(tasks: TaskApi, lease: Any) -> None:
    await tasks.fail(lease, retry_after_seconds=0)


async def _gives_back(tasks: TaskApi, lease: Any) -> None:
    await tasks.post(f"/tasks/{lease['id']}/fail", {"lease_token": lease["lease_token"], "released": True})


async def _leaves(tasks: TaskApi, lease: Any) -> None:
    await tasks.call("DELETE", "/agents/a1")
    await eventually(lambda: tasks.is_detail(lease["id"], "queued"))
    await tasks.agent("a1")


async def test_the_next_attempt_gets_the_last_checkpoint(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit(max_retries=3)
    lease = await tasks.claim_one("a1")
    for attempt, end in enumerate((_fails, _gives_back, _leaves), 2):
        await _report(tasks, lease, percent=99, message="nearly", checkpoint={"page": attempt})
        await end(tasks, lease)
        again = await tasks.claim_one("a1")
        assert (again["attempt"], again["checkpoint"]) == (attempt, {"page": attempt})
        assert again["progress"]["attempt"] == attempt - 1, "as far as the last one came"
        assert (await _report(tasks, lease, percent=100, expect=409))["code"] == "lease_lost"
        lease = again
    await _report(tasks, lease, percent=1)
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["progress"]["percent"], task["progress"]["message"], task["checkpoint"]) == (1.0, None, {"page": 4})


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    *(({"percent": odd}, "percent") for odd in (101, -1, "40", True)),
    *(({"message": odd}, "message") for odd in ("x" * 1001, ["x"], "\x00")),
    ({"checkpoint": "x" * 16_384}, "checkpoint is larger than 16384 bytes"),
    ({"checkpoint": {"a": "\x00"}}, "checkpoint"),
    ({"percent": 1, "lease_token": "no"}, "lease_token"),
)


async def test_a_report_that_cannot_be_stored_is_refused(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    lease = await tasks.claim_one("a1")
    for fields, says in REFUSED:
        assert says in json.dumps(await _report(tasks, lease, expect=400, **fields)), fields
    assert "progress" not in await tasks.get(f"/tasks/{task_id}")


async def test_the_number_is_for_readers_and_the_words_for_fewer(api: Api) -> None:
    permissions = ALL - {Permission.PAYLOADS_READ}
    api.app.state.resolver = TokenTable(
        {"all": principal("all", permissions=ALL), "blind": principal("blind", permissions=permissions)}
    )
    api.client.headers.update(bearer("all"))
    tasks = TaskApi(api)
    await tasks.agent("a1")
    task_id = await tasks.submit()
    await _report(tasks, await tasks.claim_one("a1"), percent=40, message="secret", checkpoint="secret")
    for path in (f"/tasks/{task_id}", f"/story/{task_id}"):
        shown = await api.get(path, headers=bearer("blind"))
        assert shown["progress"].keys() == {"attempt", "reported_at", "percent"}
        assert "secret" not in json.dumps(shown)


async def test_a_waiting_command_shows_progress(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    waiting = await asyncio.create_subprocess_exec(
        *(COMMAND, "tasks", "submit", "build", "--wait"),
        env=clean_environment(ARAGORA_API_URL=tasks.api.url, COLUMNS="200"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    lease = await tasks.claim_one("a1")
    await _report(tasks, lease, percent=12.5, message="page 1")
    assert waiting.stderr is not None
    lines = []
    while not lines or b"%" not in lines[-1]:
        lines.append(await waiting.stderr.readline())
        assert lines[-1], lines
    assert lines[-1] == b"running at a1, attempt 1, 12.5 %: page 1\n"
    await tasks.complete(lease)
    assert await waiting.wait() == 0
    told = await in_thread(CliRunner().invoke, cli, ["story", lease["id"]], env={"ARAGORA_API_URL": tasks.api.url})
    last = told.output.splitlines()[-1]
    assert last.startswith("last report of progress (attempt 1, ")
    assert last.endswith("): 12.5 %: page 1")
