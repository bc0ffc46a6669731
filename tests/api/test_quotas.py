"""Quotas over HTTP: set, shown, and kept by two replicas at once; the page's examples and the commands."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.roles import SCHEDULER
from cluster.cli.main import app as cli
from cluster.domain.quotas.quotas import MOST
from serve_app.auth import shared_limits
from tests.support.api import Api, api_settings, in_thread
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi


@pytest.fixture
async def replicas(store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Api]]:
    """Two replicas of one deployment, which do not take a busy machine for a Redis that is away."""
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    settings = api_settings(store_urls, schema, redis_prefix=fresh_name())
    async with AsyncExitStack() as running:
        yield [await running.enter_async_context(Api(settings).running(())) for _ in range(2)]


async def _set(api: Api, **quotas: int | None) -> dict[str, Any]:
    answer = await api.call("PUT", "/quotas", quotas)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _known(api: Api, others: list[Api]) -> None:
    """Returns when other replicas have the quotas of one."""
    version = (await api.get("/quotas"))["version"]

    async def known() -> bool:
        views = [other.gateway.quota_view.quotas(other.gateway.settings.workspace) for other in others]
        return all(view is not None and view.version >= version for view in views)

    await eventually(known)


async def test_replicas_share_the_room_for_tasks_that_wait(replicas: list[Api]) -> None:
    first, second = replicas
    await _set(first, queued_tasks=10)
    await _known(first, [second])
    calls = [replicas[n % 2].call("POST", "/tasks", {"task_type": "echo"}) for n in range(24)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [429] * 14
    refused = next(answer for answer in answers if answer.status_code == 429)
    body = refused.json()
    assert (body["code"], body["quota"], body["limit"]) == ("quota_exceeded", "queued_tasks", 10)
    assert "queued_tasks is 10" in body["error"]
    assert int(refused.headers["retry-after"]) >= 1
    shown = await second.get("/quotas")
    assert (shown["quotas"]["queued_tasks"], shown["used"]["queued_tasks"]) == (10, 10)
    batch = {"tasks": [{"task_type": "echo"}] * 2}
    assert (await second.call("POST", "/tasks/batch", batch)).status_code == 429
    endless = {"tasks": [{"task_type": "echo"}] * 11}
    never = await first.call("POST", "/tasks/batch", endless, headers={"Idempotency-Key": "big"})
    assert (never.status_code, never.json()["code"]) == (403, "quota_exceeded")
    await _set(first, queued_tasks=12)
    assert (await first.call("POST", "/tasks/batch", batch)).status_code == 201
    assert (await first.get("/quotas"))["used"]["queued_tasks"] == 12


async def test_a_repeat_counts_nothing_and_has_its_first_answer(replicas: list[Api]) -> None:
    first, second = replicas
    await _set(first, queued_tasks=2, submits_per_minute=2)
    await _known(first, [second])
    headers = {"Idempotency-Key": "one"}
    made = [await api.call("POST", "/tasks", {"task_type": "echo"}, headers=headers) for api in replicas * 3]
    assert {(answer.status_code, answer.json()["task_id"]) for answer in made} == {(201, made[0].json()["task_id"])}
    batch_key = {"Idempotency-Key": "two"}
    batch = {"tasks": [{"task_type": "echo"}]}
    batches = [await api.call("POST", "/tasks/batch", batch, headers=batch_key) for api in replicas * 2]
    assert {answer.text for answer in batches} == {batches[0].text}
    assert batches[0].status_code == 201
    refused = await second.call("POST", "/tasks", {"task_type": "echo"}, headers={"Idempotency-Key": "three"})
    assert refused.status_code == 429
    other = await second.call("POST", "/tasks", {"task_type": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_replicas_share_the_rate_of_submits(replicas: list[Api]) -> None:
    first, second = replicas
    await _set(first, submits_per_minute=3)
    await _known(first, [second])
    batch = {"tasks": [{"task_type": "echo"}] * 2}
    assert (await first.call("POST", "/tasks/batch", batch)).status_code == 201
    refused = await second.call("POST", "/tasks/batch", batch)
    assert refused.status_code == 429, "there is room for one, and a batch is stored whole"
    assert (refused.json()["quota"], refused.json()["limit"]) == ("submits_per_minute", 3)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await second.call("POST", "/tasks", {"task_type": "echo"})).status_code == 201
    assert (await first.call("POST", "/tasks", {"task_type": "echo"})).status_code == 429
    never = await first.call("POST", "/tasks/batch", {"tasks": [{"task_type": "echo"}] * 4})
    assert (never.status_code, never.json()["quota"]) == (403, "submits_per_minute")
    await _set(first, submits_per_minute=None)
    assert (await first.call("POST", "/tasks", {"task_type": "echo"})).status_code == 201


async def test_replicas_share_the_room_for_agents(replicas: list[Api]) -> None:
    first, second = replicas
    await _set(first, agents=3)
    await _known(first, [second])
    calls = [replicas[n % 2].call("POST", "/agents", {"agent_id": f"a{n}"}) for n in range(8)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [403] * 5
    body = next(answer.json() for answer in answers if answer.status_code == 403)
    details = {name: body[name] for name in ("code", "quota", "limit", "used")}
    assert details == {"code": "quota_exceeded", "quota": "agents", "limit": 3, "used": 3}
    known = next(answer.json()["agent_id"] for answer in answers if answer.status_code == 201)
    assert (await second.call("POST", "/agents", {"agent_id": known})).status_code == 201
    batch = {"agents": [{"agent_id": known}, {"agent_id": "another"}]}
    assert (await second.call("POST", "/agents/batch", batch)).status_code == 403
    assert (await first.call("DELETE", f"/agents/{known}")).is_success
    assert (await second.call("POST", "/agents", {"agent_id": "another"})).status_code == 201


async def test_a_task_that_waits_for_the_quota_says_so(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("a1", max_concurrency=9)
    await _set(api, running_tasks=1)
    head = (await api.rows())[-1].seq

    async def known() -> bool:
        return int((await api.actor(SCHEDULER).status())["cursor"]) >= head

    await eventually(known)
    await tasks.submit()
    lease = await tasks.claim_one("a1")
    waiting = await tasks.submit()
    assert await tasks.claim("a1") is None
    reasons = (await tasks.get(f"/tasks/{waiting}/explain"))["reasons"]
    (reason,) = [reason for reason in reasons if reason["code"] == "quota"]
    assert "running_tasks" in reason["message"]
    assert "aragora-cp quotas set" in reason["unblock"]
    assert (await api.get("/quotas"))["used"] == {"agents": 1, "queued_tasks": 1, "running_tasks": 1}
    await tasks.complete(lease)
    assert (await tasks.claim_one("a1"))["id"] == waiting


async def test_hooks_and_schedules_are_stored_beyond_the_quota(api: Api) -> None:
    await _set(api, queued_tasks=1, submits_per_minute=1)
    assert (await api.call("POST", "/tasks", {"task_type": "echo"})).status_code == 201
    schedule = await api.post("/schedules", {"cron": "30 2 * * *", "task": {"task_type": "echo"}})
    assert (await api.call("POST", f"/schedules/{schedule['schedule_id']}/run")).is_success
    assert (await api.get("/quotas"))["used"]["queued_tasks"] == 2
    assert (await api.call("POST", "/tasks", {"task_type": "echo"})).status_code == 429


async def test_odd_quotas_are_refused_by_a_sentence(api: Api) -> None:
    for body, says in (
        ({}, "agents"),
        ({"agents": 0}, "agents"),
        ({"agents": -1}, "agents"),
        ({"agents": MOST + 1}, "agents"),
        ({"queued_tasks": 1.5}, "queued_tasks"),
        ({"running_tasks": "many"}, "running_tasks"),
        ({"running_tasks": True}, "running_tasks"),
        ({"tasks": 5}, "tasks"),
    ):
        answer = await api.call("PUT", "/quotas", body)
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), f"{body} {answer.text}"
    assert (await api.get("/quotas"))["version"] == 0
    await _set(api, agents=5)
    before = await _set(api, agents=5)
    assert before["version"] == 1, "what changes nothing is no version"
    await _set(api, agents=None)
    assert (await api.get("/quotas"))["quotas"]["agents"] is None


async def _run(api: Api, *words: str) -> str:
    environment = {**clean_environment(), "ARAGORA_API_URL": api.url, "COLUMNS": "250"}
    result = await in_thread(CliRunner().invoke, cli, list(words), env=environment)
    assert result.exit_code == 0, result.output
    return str(result.output)


async def test_the_page_and_the_commands_of_quotas(api: Api) -> None:
    page = (ROOT / "docs" / "quotas.md").read_text()
    (command,) = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    assert "1000" in await _run(api, *shlex.split(command)[1:])
    (body,) = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    found = await _set(api, **body)
    assert found["quotas"] == {"agents": 100, "queued_tasks": 1000, "running_tasks": 20, "submits_per_minute": None}
    assert "tasks that wait" in await _run(api, "quotas", "show")
    assert json.loads(await _run(api, "quotas", "show", "--json"))["quotas"] == found["quotas"]
    answer = json.loads(await _run(api, "quotas", "set", "--agents", "0", "--json"))
    assert answer["quotas"]["agents"] is None
