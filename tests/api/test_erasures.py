"""Erasure over HTTP and by the command: what was written is gone from the stores, and what the audit and receipts prove stays."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from actors.roles import SEALER
from cluster.cli.main import app as cli
from cluster.domain.receipts.verify import verify
from cluster.postgres.migrate import migrate
from serve_app import erasing
from serve_app.streams.hub import StreamFilter
from tests.actors.test_sealer import seal_all
from tests.support.api import Api, api_settings, in_thread
from tests.support.models import models, register, vote
from tests.support.probes import eventually
from tests.support.samples import system_event
from tests.support.stores import StoreUrls, fresh_name, own_stores
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi
from tests.support.workflows import settle, workflow_keeper

PLANTED = "Zyxwvut-planted"
ERASED_TABLES = (
    "tasks, task_progress, task_chunks, task_questions, schedules, hooks, workflows, workflow_runs, deliberations, "
    "deliberation_events, policies, policy_versions, policy_violations, budgets, notification_channels, notification_rules, "
    "notifications, pushes, secrets, outcomes, idempotency, agent_probes, log"
)
_OPTIONS = [f"{PLANTED} Postgres", f"{PLANTED} Redis"]


def _says(model: str, _: str) -> str:
    return vote(_OPTIONS[model == "b"], f"{PLANTED}: {model} has thought about it")


async def _ended(tasks: TaskApi, **fields: Any) -> str:
    """A completed task with planted words everywhere."""
    task_id = await tasks.submit(payload={"text": PLANTED}, target_agent="worker", **fields)
    lease = await tasks.claim_one("worker")
    assert lease["id"] == task_id
    progress = {"message": f"{PLANTED} so far", "checkpoint": {"text": f"{PLANTED} to go on"}}
    await tasks.post(f"/tasks/{task_id}/extend", {"lease_token": lease["lease_token"], **progress})
    chunks = {"lease_token": lease["lease_token"], "first": 1, "chunks": [f"{PLANTED} chunk"]}
    await tasks.post(f"/tasks/{task_id}/chunks", chunks)
    report = {"lease_token": lease["lease_token"], "result": {"text": f"{PLANTED} result"}}
    await tasks.post(f"/tasks/{task_id}/complete", report)
    return task_id


async def _dead(tasks: TaskApi, **fields: Any) -> str:
    task_id = await tasks.submit(payload={"text": PLANTED}, target_agent="worker", max_retries=0, **fields)
    await tasks.fail(await tasks.claim_one("worker"), error=f"{PLANTED} error")
    return task_id


async def _answered(tasks: TaskApi) -> None:
    question = {
        "question": f"{PLANTED}?",
        "answer_schema": {"title": PLANTED},
        "time_limit_seconds": 9,
        "default": PLANTED,
    }
    for verdict in ({"verdict": "answer", "answer": PLANTED}, {"verdict": "reject", "reason": PLANTED}):
        task_id = await tasks.submit("approval", metadata={"subject": PLANTED}, input_required=question)
        await tasks.post(f"/tasks/{task_id}/answer", verdict)


async def _deliberation(api: Api, **context: Any) -> str:
    question = {
        "content": f"{PLANTED} which store?",
        "context": {"note": PLANTED, **context},
        "config": {"options": _OPTIONS, "agents": ["a", "b", "c"]},
    }
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        result = await api.post("/deliberations", question)
    assert result["terminal"] == "DECIDED"
    return str(result["request_id"])


async def _policies(api: Api) -> None:
    """A policy and one that was deleted, each with two versions, and a violation that somebody has settled."""
    wordy = {"name": PLANTED, "description": PLANTED, "metadata": {"note": PLANTED}}
    body = {**wordy, "task_types": ["nightly"], "agent_blocklist": ["a1"], "deny_when": f'payload.text == "{PLANTED}"'}
    for _ in range(2):
        made = await api.post("/policies", body)
        assert (await api.call("PUT", f"/policies/{made['id']}", {"description": f"{PLANTED} too"})).is_success
    refused = await api.call(
        "POST", "/tasks", {"task_type": "nightly", "target_agent": "a1", "payload": {"text": PLANTED}}
    )
    assert refused.status_code == 403
    (violation, *_) = (await api.get("/policies/violations"))["violations"]
    notes = {"status": "resolved", "resolution_notes": PLANTED}
    assert (await api.call("PATCH", f"/policies/violations/{violation['id']}", notes)).is_success
    assert (await api.call("DELETE", f"/policies/{made['id']}")).is_success


async def _notifications(api: Api) -> None:
    """A channel with its credential and its rule, and a test that waits: nobody sends here."""
    secret = base64.b64encode(PLANTED.encode().ljust(32)).decode()
    await api.post("/credentials", {"name": "key", "secret": secret})
    channel = {"kind": "webhook", "url": f"http://127.0.0.1/{PLANTED}", "credential": "key"}
    await api.post("/notifications/channels", {"name": "hook", **channel})
    rule = {"events": ["*"], "channels": ["hook"]}
    await api.post("/notifications/rules", {"name": "all", **rule})
    await api.post("/notifications/channels/hook/test", {})


async def _everything(api: Api) -> tuple[str, str, str]:
    """A completed task, a dead one, a deliberation with an outcome, a schedule, a hook, a workflow with a run that failed,
    policies, violations, a budget, notifications and a credential."""
    tasks = TaskApi(api)
    await tasks.agent("worker")
    done = await _ended(tasks, metadata={"name": PLANTED, "subject": PLANTED})
    dead = await _dead(tasks)
    replay = {"ids": [dead], "dry_run": True, "payload": {"text": PLANTED}}
    await api.post("/dead-letter/replay", replay, headers={"Idempotency-Key": "again"})
    await _answered(tasks)
    request_id = await _deliberation(api)
    await api.post(f"/deliberations/{request_id}/outcome", {"correct": _OPTIONS[0]})
    imported = {"id": "q1", "votes": {"x": PLANTED, "y": "b"}, "correct": PLANTED}
    await api.post("/outcomes/batch", {"outcomes": [imported]})
    template = {"task_type": "echo", "payload": {"text": PLANTED}}
    await api.post("/schedules", {"name": PLANTED, "every_seconds": 3600, "task": template})
    await api.post("/hooks", {"name": "hook", "task": {"task_type": PLANTED}, "input": {"text": PLANTED}})
    steps = [
        {"id": "a", "task": {"task_type": "echo", "input": {"text": PLANTED, "x": {"from": "input", "path": "/a"}}}}
    ]
    await api.post("/workflows", {"name": "flow", "description": PLANTED, "steps": steps})
    run = {"input": {"text": PLANTED}, "metadata": {"name": PLANTED}}
    await api.post("/workflows/flow/runs", run, headers={"Idempotency-Key": "run"})
    await settle(workflow_keeper(api.stores))
    await _policies(api)
    await api.post(
        "/budgets", {"name": PLANTED, "scope": "workspace", "period": "day", "limit_usd": "5", "estimate_usd": "1"}
    )
    await _notifications(api)
    await api.stores.log.append([replace(system_event("e"), workspace="default", private={"problem": PLANTED})])
    return done, dead, request_id


async def _receipt(api: Api, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await api.get(f"/deliberations/{request_id}/receipt")
    return found


async def _trusted(api: Api) -> list[bytes]:
    return [bytes.fromhex(key["public_key"]) for key in (await api.get("/receipts/keys"))["keys"]]


def _found_in(directory: Path) -> list[str]:
    files = (file for file in directory.rglob("*") if file.is_file())
    return [str(file.relative_to(directory)) for file in files if PLANTED.encode() in file.read_bytes()]


async def _redis_holds(url: str) -> bool:
    async with Redis.from_url(url) as redis:
        dumps = [await redis.dump(key) for key in await redis.keys("*")]
        await redis.save()
    return any(PLANTED.encode() in (dump or b"") for dump in dumps)


async def test_no_file_of_the_stores_holds_what_was_erased() -> None:
    with own_stores() as (postgres, redis):
        urls, schema = StoreUrls(postgres.url, redis.url), fresh_name()
        await migrate(urls.database, schema)
        async with Api(api_settings(urls, schema)).running() as api:
            await _everything(api)
            database = await asyncpg.connect(urls.database)
            await database.execute("analyze")  # statistics would hold samples of what is written
            await database.execute("checkpoint")
            assert _found_in(postgres.data / "base"), "it would be found"
            await api.post("/erasures", {"workspace": "default"})
            await database.execute(f'set search_path to "{schema}"')
            for table in ERASED_TABLES.split(", "):
                await database.execute(f"vacuum full {table}")
            await database.execute("checkpoint")
            await database.close()
            assert _found_in(postgres.data / "base") == []
            assert not await _redis_holds(urls.redis)
            assert _found_in(redis.data) == []
            assert PLANTED not in (postgres.log.read_text() if postgres.log.exists() else "")


async def test_a_dump_holds_nothing_and_all_still_verifies(api: Api, store_urls: StoreUrls, schema: str) -> None:
    keeper = await api.start(SEALER)
    await keeper.stop()
    done, dead, request_id = await _everything(api)
    before = await _receipt(api, request_id)
    answer = await api.post("/erasures", {"workspace": "default"})
    assert answer["complete"]
    assert {name for name, count in answer["erased"].items() if count} == set(answer["erased"])
    assert answer["erased"]["tasks"] >= 2
    assert answer["not_reached"]
    database = await asyncpg.connect(store_urls.database)
    for (table,) in await database.fetch("select tablename from pg_tables where schemaname = $1", schema):
        rows = await database.fetchval(f'select string_agg(t::text, chr(10)) from "{schema}"."{table}" t')
        assert PLANTED not in (rows or ""), table
    await database.close()
    await seal_all(keeper.first)
    assert (await api.get("/audit/verify"))["valid"], "the chain covers hashes of words and no words"
    after = await _receipt(api, request_id)
    assert after["head"] == before["head"]
    assert after["signature"] == before["signature"]
    report = verify(after, await _trusted(api))
    assert report.trusted
    assert report.redacted == tuple(range(len(before["events"]) + 1)), "0 is the contract"
    for path in (f"/tasks/{done}", f"/tasks/{dead}", f"/deliberations/{request_id}"):
        assert (await api.get(path))["redacted"] is True
    transcript = await api.get(f"/deliberations/{request_id}/transcript")
    assert transcript["redacted"] is True
    assert (await api.get("/dead-letter"))["tasks"] == [], "nobody can replay it"
    for path in ("/notifications", "/policies", "/credentials", "/budgets"):
        assert (await api.get(path))["total"] == 0
    stats = await api.get("/policies/violations/stats")
    assert (stats["total"], stats["resolved"]) == (4, 1), "what was counted stays"
    again = (await api.post("/erasures", {"workspace": "default"}))["erased"]
    assert again == dict.fromkeys(again, 0)


async def test_the_trail_says_who_erased_and_no_word(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    task_id = await _ended(tasks, metadata={"subject": PLANTED})
    answer = await api.post("/erasures", {"subject": PLANTED})
    assert answer["erased"]["tasks"] == 1
    rows = [row for row in await api.rows() if row.kind.startswith("erasure.") or row.kind == "task.erased"]
    assert [(row.kind, row.entity) for row in rows] == [
        ("erasure.requested", answer["erasure_id"]),
        ("task.erased", task_id),
        ("erasure.completed", answer["erasure_id"]),
    ]
    assert {row.principal for row in rows} == {"user:local-admin"}
    assert PLANTED not in "".join(row.data_json for row in rows), "a subject is often a person's name"
    assert all(row.private_json is None for row in await api.rows(task_id))
    assert all(row.verifies() for row in await api.rows())


async def test_what_is_refused_leaves_no_row(api: Api) -> None:
    tasks = TaskApi(api)
    waits = await tasks.submit()
    for task_id, status in (("task_of_another_workspace", 404), (waits, 409)):
        assert (await api.call("POST", "/erasures", {"task_id": task_id})).status_code == status
    assert [row.kind for row in await api.rows() if row.kind.startswith("erasure.")] == []


async def test_a_subject_is_erased_and_nobody_else(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    ann, bob = [await _ended(tasks, metadata={"subject": name}) for name in ("ann", "bob")]
    asked = await _deliberation(api, subject="ann")
    dry = await api.post("/erasures", {"subject": "ann", "dry_run": True})
    assert (dry["erased"]["tasks"], dry["erased"]["deliberations"]) == (1, 1)
    assert "redacted" not in await api.get(f"/tasks/{ann}"), "a dry run changes nothing"
    assert (await api.post("/erasures", {"subject": "ann"}))["erased"] == dry["erased"]
    assert (await api.get(f"/tasks/{ann}"))["redacted"] is True
    assert (await api.get(f"/deliberations/{asked}"))["redacted"] is True
    kept = await api.get(f"/tasks/{bob}")
    assert (kept["payload"], kept["result"]) == ({"text": PLANTED}, {"text": f"{PLANTED} result"})
    assert "redacted" not in kept


async def test_children_are_about_whom_their_parent_is_about(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    parent = await tasks.submit(target_agent="worker", metadata={"subject": "ann"})
    lease = await tasks.claim_one("worker")
    words = {"task_type": "t", "payload": {"text": PLANTED}, "target_agent": "worker"}
    own = {**words, "metadata": {"subject": "bob", "note": PLANTED}}
    body = {"lease_token": lease["lease_token"], "tasks": [words, own]}
    child, of_bob = (await api.post(f"/tasks/{parent}/children", body))["task_ids"]
    (grandchild,) = (await api.post("/tasks/batch", {"tasks": [{**words, "parent_task_id": child}]}))["task_ids"]
    single = (await api.post("/tasks", {**words, "parent_task_id": child}))["task_id"]
    await tasks.complete(lease)
    for _ in (child, of_bob, grandchild, single):
        await tasks.complete(await tasks.claim_one("worker"))
    assert (await api.post("/erasures", {"subject": "ann"}))["erased"]["tasks"] == 4
    for task_id in (parent, child, grandchild, single):
        assert (await api.get(f"/tasks/{task_id}"))["redacted"] is True
    assert (await api.get(f"/tasks/{of_bob}"))["payload"] == {"text": PLANTED}


async def test_a_task_is_erased_with_what_it_was_replayed_as(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    first = await _dead(tasks)
    second = (await api.post(f"/dead-letter/{first}/replay"))["replayed_as"]
    refused = await tasks.post("/erasures", {"task_id": first}, expect=409)
    assert (refused["code"], second in refused["error"]) == ("open_work", True)
    assert (await api.get(f"/tasks/{first}"))["payload"] == {"text": PLANTED}, "nothing was erased"
    await tasks.complete(await tasks.claim_one("worker"))
    assert (await api.post("/erasures", {"task_id": second}))["erased"]["tasks"] == 2
    for task_id in (first, second):
        task = await api.get(f"/tasks/{task_id}")
        assert (task["payload"], task["redacted"]) == (None, True)


async def _words_of(api: Api, store_urls: StoreUrls, schema: str) -> list[str]:
    """The tables that hold a planted word."""
    database = await asyncpg.connect(store_urls.database)
    found = []
    for (table,) in await database.fetch("select tablename from pg_tables where schemaname = $1", schema):
        rows = await database.fetchval(f'select string_agg(t::text, chr(10)) from "{schema}"."{table}" t')
        found += [table] * (PLANTED in (rows or ""))
    await database.close()
    return sorted(found)


async def test_a_task_is_erased_with_all_below_it(api: Api, store_urls: StoreUrls, schema: str) -> None:
    tasks = TaskApi(api)
    for name in ("worker", "helper"):
        await tasks.agent(name)
    words = {"payload": {"text": PLANTED}, "metadata": {"note": PLANTED}, "target_agent": "helper"}
    parent = await tasks.submit(**{**words, "target_agent": "worker"})
    lease = await tasks.claim_one("worker")
    held = {"lease_token": lease["lease_token"]}
    body = {**held, "tasks": [{"task_type": "t", **words, "max_retries": 0}]}
    (child,) = (await api.post(f"/tasks/{parent}/children", body))["task_ids"]
    failing = await tasks.claim_one("helper")
    assert failing["id"] == child
    below = await tasks.submit(parent_task_id=child, **words)
    await tasks.fail(failing, error=f"{PLANTED} error")
    again = (await api.post(f"/dead-letter/{child}/replay", {"payload": {"text": f"{PLANTED} again"}}))["replayed_as"]
    question = {"question": f"{PLANTED}?", "answer_schema": {"title": PLANTED}}
    asked = await tasks.submit("approval", input_required=question, parent_task_id=parent, metadata={"note": PLANTED})
    await api.post(f"/tasks/{parent}/extend", {**held, "message": PLANTED, "checkpoint": {"text": PLANTED}})
    await api.post(f"/tasks/{parent}/chunks", {**held, "first": 1, "chunks": [PLANTED]})
    await api.post(f"/tasks/{parent}/complete", {**held, "result": {"text": PLANTED}})
    refused = await tasks.post("/erasures", {"task_id": parent}, expect=409)
    assert (refused["code"], asked in refused["error"]) == ("open_work", True)
    await tasks.post(f"/tasks/{asked}/answer", {"verdict": "answer", "answer": PLANTED})
    await tasks.complete(await tasks.claim_one("helper"))
    await eventually(lambda: tasks.is_detail(below, "cancelled"))
    assert {"tasks", "task_chunks", "task_progress", "task_questions", "log"} <= set(
        await _words_of(api, store_urls, schema)
    )
    dry = await api.post("/erasures", {"task_id": parent, "dry_run": True})
    assert dry["erased"]["tasks"] == 5
    assert (await api.post("/erasures", {"task_id": parent}))["erased"] == dry["erased"]
    for task_id in (parent, child, below, asked, again):
        assert (await api.get(f"/tasks/{task_id}"))["redacted"] is True
    assert await _words_of(api, store_urls, schema) == []
    assert all(row.verifies() for row in await api.rows())


async def test_a_large_family_is_erased_in_short_commits(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    monkeypatch.setattr(erasing, "CALL_S", 0.0)
    tasks = TaskApi(api)
    parent = await tasks.submit()
    children = [{"task_type": "t", "parent_task_id": parent, "payload": PLANTED}] * 4
    family = [parent, *(await api.post("/tasks/batch", {"tasks": children}))["task_ids"]]
    for task_id in family:
        await api.post(f"/tasks/{task_id}/cancel")
    answer = await api.post("/erasures", {"task_id": parent})
    calls = [answer]
    while not answer["complete"]:
        answer = await api.post("/erasures", {"task_id": parent, "cursor": answer["next_cursor"]})
        calls.append(answer)
    assert [call["erased"]["tasks"] for call in calls][:3] == [2, 4, 5]
    assert answer["erased"]["tasks"] == len(family)


async def test_the_questions_to_pull_agents_go_with_their_deliberation(api: Api) -> None:
    tasks = TaskApi(api)
    for name in ("p", "q"):
        await tasks.agent(name, capabilities=["deliberation"])
    question = {"content": PLANTED, "async": True, "config": {"agents": ["p", "q"], "rounds": 0}}
    request_id = (await api.post("/deliberations", question))["request_id"]
    leases = [await tasks.claim_one(name) for name in ("p", "q")]
    refused = await tasks.post("/erasures", {"task_id": request_id}, expect=409)
    assert refused["code"] == "open_work"
    await api.post(f"/deliberations/{request_id}/cancel")

    async def all_ended() -> bool:
        ended = (await api.get(f"/deliberations/{request_id}"))["terminal"] is not None
        statuses = [(await api.get(f"/tasks/{lease['id']}"))["status"] for lease in leases]
        return ended and "running" not in statuses

    for lease in leases:
        await eventually(lambda lease=lease: _stops(tasks, lease))
    await eventually(all_ended)
    answer = await api.post("/erasures", {"task_id": request_id})
    assert (answer["erased"]["tasks"], answer["erased"]["deliberations"]) == (2, 1)
    for lease in leases:
        assert (await api.get(f"/tasks/{lease['id']}"))["payload"] is None


async def _stops(tasks: TaskApi, lease: Any) -> bool:
    path, token = f"/tasks/{lease['id']}/stopped", {"lease_token": lease["lease_token"]}
    return bool((await tasks.api.call("POST", path, token)).is_success)


async def test_an_erasure_goes_on_from_its_cursor_and_from_the_beginning(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    monkeypatch.setattr(erasing, "CALL_S", 0.0)
    tasks = TaskApi(api)
    await tasks.agent("worker")
    ids = [await _ended(tasks) for _ in range(5)]
    broken_off = await api.post("/erasures", {"workspace": "default"})
    assert (broken_off["complete"], broken_off["erased"]["tasks"]) == (False, 2)
    answer = await api.post("/erasures", {"workspace": "default"})
    calls = 1
    while not answer["complete"]:
        answer = await api.post("/erasures", {"workspace": "default", "cursor": answer["next_cursor"]})
        calls += 1
    assert answer["erased"]["tasks"] == 3, "the first two were erased before"
    assert calls > 3
    assert all([(await api.get(f"/tasks/{task_id}"))["redacted"] for task_id in ids])


@pytest.mark.parametrize("killed", ["command", "replica"])
async def test_an_erasure_that_was_killed_is_ended_by_a_repeat(
    api: Api, store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """SIGKILL, while a commit in the midst of it waits for a row that somebody else has locked."""
    monkeypatch.setattr(erasing, "BATCH", 4)
    tasks = TaskApi(api)
    ids = [await tasks.submit(payload={"text": PLANTED}) for _ in range(14)]
    for task_id in ids:
        await tasks.post(f"/tasks/{task_id}/cancel")
    erase = ["erase", "--workspace", "default", "--yes"]
    stores = [store_urls.database, schema, api.stores.epoch.region]
    command = {
        "command": ["-c", "from cluster.cli.main import main; main()", *erase],
        "replica": ["-m", "tests.support.erasing_process", *stores, "default", "4"],
    }[killed]
    environment = clean_environment(ARAGORA_API_URL=api.url)
    count = "select count(*) from tasks where erased_at is not null"
    database = await asyncpg.connect(store_urls.database, server_settings={"search_path": schema})
    async with database.transaction():
        await database.execute("select from tasks where id = $1 for update", ids[9])
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment)

        async def is_amidst() -> bool:
            return bool(await api.stores.pool.value(count) == 8)

        try:
            await eventually(is_amidst)
        finally:
            process.kill()
            await process.wait()
    await database.close()
    done = await in_thread(CliRunner().invoke, cli, erase, env=environment)
    assert done.exit_code == 0, done.output
    assert all([(await api.get(f"/tasks/{task_id}"))["redacted"] for task_id in ids])
    rows = await api.rows()
    assert sorted(row.entity for row in rows if row.kind == "task.erased") == sorted(ids), "each by one of them, once"
    assert PLANTED not in str(await api.stores.pool.rows("select payload, result, error, metadata from tasks"))
    assert all(row.verifies() for row in rows)


async def test_streams_do_not_show_on_what_they_keep_in_memory(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    start = await api.gateway.hub.now()
    of = StreamFilter(workspace="default", words=True)
    async with aclosing(api.gateway.hub.rows(start, of)) as rows:
        task_id = await _dead(tasks)
        await _until(rows, "task.dead_lettered")
        await api.post("/erasures", {"task_id": task_id})
        await _until(rows, "task.erased")
        async with aclosing(api.gateway.hub.rows(start, of)) as again:
            seen = [row async for row in _through(again, "task.erased")]
    assert [row.kind for row in seen if row.private] == []


async def _through(rows: AsyncIterator[Any], kind: str) -> AsyncIterator[Any]:
    async for row in rows:
        yield row
        if row.kind == kind:
            return


async def _until(rows: AsyncIterator[Any], kind: str) -> None:
    async for row in rows:
        if row.kind == kind:
            return


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_scope"),
        ({"workspace": "default", "subject": "x"}, 400, "invalid_scope"),
        ({"workspace": "nowhere"}, 404, "workspace_not_found"),
        ({"task_id": "task_none"}, 404, "task_not_found"),
        ({"subject": "x", "cursor": "W10"}, 400, "invalid_cursor"),
        ({"subject": "x", "cursor": "*"}, 400, "invalid_cursor"),
        ({"subject": "x", "cursr": "*"}, 400, "unknown_field"),
    ],
)
async def test_what_cannot_be_erased_is_refused(api: Api, body: dict[str, Any], status: int, code: str) -> None:
    answer = await api.call("POST", "/erasures", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def _as_cursor(parts: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, "\x00"),
        (0, "Ann Smith"),
        (1, math.inf),
        (2, erasing.STAGES_MAX + 1),
        (3, math.nan),
        (4, "\x00"),
        (4, "\ud800"),
        (5, -1),
    ],
    ids=str,
)
async def test_a_cursor_that_somebody_has_changed_is_refused(api: Api, position: int, value: object) -> None:
    parts: list[object] = ["erasure_1", 9e9, 4, 0.0, "", *astuple(erasing.Erased())]
    assert erasing.progress_of(_as_cursor(parts)), "it would be taken"
    parts[position] = value
    cursor = _as_cursor(parts)
    answer = await api.call("POST", "/erasures", {"workspace": "default", "cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_the_command_needs_a_yes_and_names_what_is_left(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("worker")
    task_id = await _ended(tasks)
    runner, environment = CliRunner(), clean_environment(ARAGORA_API_URL=api.url)
    refused = await in_thread(runner.invoke, cli, ["erase", "--task", task_id], input="y\n", env=environment)
    assert (refused.exit_code, "--yes" in refused.output) == (2, True)  # nobody is asked in a pipe
    assert "redacted" not in await api.get(f"/tasks/{task_id}")
    done = await in_thread(runner.invoke, cli, ["erase", "--task", task_id, "--yes"], env=environment)
    assert (done.exit_code, "Erased: 1 tasks" in done.output, "Backups" in done.output) == (0, True, True), done.output
    wrong = await in_thread(runner.invoke, cli, ["erase", "--yes"], env=environment)
    assert wrong.exit_code == 2
