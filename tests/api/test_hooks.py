"""Hooks over the API and the command line: a webhook starts one thing, whoever sends it, and only if it was signed."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.hooks.hook import new_key
from cluster.telemetry.log_files import API, begin_logging, end_logging
from serve_app.auth import shared_limits
from tests.support.api import CP, Api, api_settings, in_thread
from tests.support.authenticated import Authenticated, authenticated
from tests.support.cli import command
from tests.support.hooks import ECHO, send, signed_headers
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.workflows import Agents, settle, workflow_keeper

SIGNAL = {"run_id": {"from": "body", "path": "/run"}, "name": "approved"}
PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
FLOW = {"name": "flow", "steps": [{"id": "a", "task": {"task_type": "echo", "input": {"x": {"from": "input"}}}}]}
OWN_KEY = new_key(b"s" * 32)
SIGNATURE = "invalid_signature"


async def made(api: Api, name: str = "hook", **fields: Any) -> dict[str, Any]:
    starts = {} if {"workflow", "signal"} & fields.keys() else ECHO
    hook: dict[str, Any] = await api.post("/hooks", {"name": name, **starts, **fields})
    return hook


def answered(answer: httpx.Response, *, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def kinds(api: Api) -> Counter[str]:
    return Counter(row.kind for row in await api.rows())


async def test_a_webhook_starts_one_task_however_often_it_is_sent(api: Api) -> None:
    task = {"task_type": "review", "metadata": {"team": "a"}, "priority": "high", "max_retries": 1}
    hook = await made(api, task=task)
    body = {"pull_request": 17, "by": "ann"}
    first = await send(api, hook, body)
    assert first.status_code == 201
    task_id = first.json()["task_id"]
    assert first.json() == {"task_id": task_id, "run_id": None}
    stored = await api.get(f"/tasks/{task_id}")
    assert (stored["payload"], stored["task_type"], stored["priority"]) == (body, "review", 75)
    assert stored["metadata"] == {"team": "a", "hook": "hook", "webhook_id": "msg_1"}
    answers = await asyncio.gather(*(send(api, hook, {"other": "body"}) for _ in range(10)))
    assert {answer.json()["task_id"] for answer in answers} == {task_id}
    assert (await send(api, hook, body, "msg_2")).json()["task_id"] != task_id
    rows = [row for row in await api.rows() if row.kind == "task.submitted"]
    assert len(rows) == 2
    assert {row.principal for row in rows} == {"hook:hook"}


async def test_many_replicas_and_a_forgotten_key_start_no_second_task(api: Api) -> None:
    hook = await made(api)
    async with Api(api.settings).running(()) as other:
        answers = await asyncio.gather(*(send(replica, hook, 1) for replica in (api, other) * 5))
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    await api.stores.pool.execute("delete from idempotency")
    again = await send(api, hook, 1)
    assert again.json() == answers[0].json()
    assert (await kinds(api))["task.submitted"] == 1


async def test_a_webhook_starts_a_run_with_a_part_of_its_body(api: Api) -> None:
    await api.post("/workflows", FLOW)
    given = {"tag": {"from": "body", "path": "/release/tag"}}
    hook = await made(api, workflow="flow", metadata={"team": "a"}, input=given)
    answers = [await send(api, hook, {"release": {"tag": "v2"}}) for _ in range(3)]
    (run_id,) = {answer.json()["run_id"] for answer in answers}
    await settle(workflow_keeper(api.stores, Agents(api.stores, "default")))
    run = await api.get(f"/workflow-runs/{run_id}")
    assert run["metadata"] == {"team": "a", "hook": "hook", "webhook_id": "msg_1"}
    (task,) = (await api.get("/tasks", params={"where": f"metadata.workflow_run={run_id}"}))["tasks"]
    assert task["payload"] == {"x": {"tag": "v2"}}
    submitted = next(row for row in await api.rows() if row.kind == "task.submitted")
    assert submitted.principal == "hook:hook"
    await api.stores.pool.execute("delete from idempotency")
    assert (await send(api, hook, {"release": {"tag": "v2"}})).json()["run_id"] == run_id
    answered(await send(api, hook, {"release": {}}, "msg_2"), status=400, code="input_unresolved")
    assert (await kinds(api))["workflow.run_started"] == 1


async def test_a_run_is_of_the_newest_version_or_of_the_given_one(api: Api) -> None:
    await api.post("/workflows", FLOW)
    newest, first = await made(api, workflow="flow"), await made(api, "first", workflow="flow", version=1)
    await api.post("/workflows", FLOW | {"description": "another one"})
    for hook, version in ((newest, 2), (first, 1)):
        run_id = (await send(api, hook)).json()["run_id"]
        assert (await api.get(f"/workflow-runs/{run_id}"))["version"] == version


async def test_what_is_not_signed_for_the_hook_starts_nothing(api: Api) -> None:
    hook, other = await made(api), await made(api, "other")
    body = b"{}"
    good = signed_headers(hook["secret"], body)
    calls = [
        (hook["path"], {}, body),
        (hook["path"], signed_headers(other["secret"], body), body),
        (hook["path"], good, b"[]"),
        (hook["path"], good, b"\xff"),
        (hook["path"], good | {"webhook-id": "msg_2"}, body),
        (hook["path"], good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, body),
        (hook["path"], good | {"webhook-signature": f"v1,{'A' * 44}"}, body),
        (hook["path"].replace("default", "elsewhere"), good, body),
        (other["path"], good, body),
        (f"{CP}/hooks/nobody", good, body),
    ]
    told = set()
    for path, headers, text in calls:
        answer = await api.client.post(path, content=text, headers=headers)
        answered(answer, status=401, code=SIGNATURE)
        told.add(answer.json()["error"])
    assert len(told) == 2, "it is not told whether there is a hook of the name"
    old = await send(api, hook, at=0)
    answered(old, status=401, code="stale_webhook")
    answered(await send(api, hook, at=4_000_000_000), status=401, code="stale_webhook")
    assert (await kinds(api))["task.submitted"] == 0
    assert (await send(api, hook)).status_code == 201


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b'{"a": 1e999}', b"[" * 5000, b'"\\ud800"'], ids=repr)
async def test_a_signed_body_that_is_no_json_is_refused(api: Api, text: bytes) -> None:
    hook = await made(api)
    answer = await api.client.post(hook["path"], content=text, headers=signed_headers(hook["secret"], text))
    assert (answer.status_code, answer.json().keys() >= {"error", "code", "trace_id"}) == (400, True)
    large = b'"' + b"x" * api.settings.max_body_bytes + b'"'
    answered(
        await api.client.post(hook["path"], content=large, headers=signed_headers(hook["secret"], large)),
        status=413,
        code="body_too_large",
    )
    assert (await kinds(api))["task.submitted"] == 0


@pytest.fixture
async def door(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Authenticated]:
    """Authentication is on. A busy machine is not taken for a Redis that is away."""
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    async with authenticated(store_urls, ()) as found:
        yield found


async def test_a_rotated_secret_counts_until_its_end(door: Authenticated) -> None:
    hook = await door.call("POST", "/hooks", {"name": "hook", **ECHO})
    rotated = await door.call("POST", "/hooks/hook/rotate", {"overlap_seconds": 600})
    ends = [secret["ends_at"] for secret in rotated["secrets"]]
    assert (ends[0], ends[1] - rotated["changed_at"]) == (None, pytest.approx(600))

    async def status(secret: str, webhook_id: str) -> int:
        now = door.clock.now()
        return (await send(door.api, hook, webhook_id=webhook_id, secret=secret, at=now)).status_code

    assert [await status(hook["secret"], "a"), await status(rotated["secret"], "b")] == [201, 201]
    door.clock.ahead_s = 600.0
    assert [await status(hook["secret"], "c"), await status(rotated["secret"], "d")] == [401, 201]
    now = await door.call("GET", "/hooks/hook")
    assert now["secrets"] == [{"ends_at": None}]
    own = await door.call("POST", "/hooks/hook/rotate", {"overlap_seconds": 0, "secret": OWN_KEY})
    assert own["secret"] is None
    assert [await status(rotated["secret"], "e"), await status(OWN_KEY, "f")] == [401, 201]


async def test_what_does_not_count_is_a_denial_and_a_failed_login(door: Authenticated) -> None:
    hook = await door.call("POST", "/hooks", {"name": "hook", **ECHO})
    for _ in range(3):
        answered(await send(door.api, hook, secret=OWN_KEY), status=401, code=SIGNATURE)

    async def told() -> bool:
        """The replica may have written a part by itself."""
        await door.api.app.state.denials.write()
        await door.api.app.state.throttle.write()
        rows = await door.api.rows()
        denied = [row.data["count"] for row in rows if row.kind == "auth.denied" and row.data["code"] == SIGNATURE]
        failed = [row.data["failures"] for row in rows if row.kind == "auth.failed"]
        return (sum(denied), sum(failed)) == (3, 3)

    await eventually(told)
    routes = {row.data["route"] for row in await door.api.rows() if row.kind == "auth.denied"}
    assert routes == {"/hooks/{hook_name}"}
    seen = {(await send(door.api, hook, secret=OWN_KEY)).status_code for _ in range(30)}
    assert seen == {401, 429}, "whoever guesses is told to wait"


async def test_a_webhook_of_a_known_sender_is_taken_beside_one_who_guesses(door: Authenticated) -> None:
    hook = await door.call("POST", "/hooks", {"name": "hook", **ECHO})
    assert (await send(door.api, hook)).status_code == 201
    for _ in range(30):
        await send(door.api, {**hook, "path": f"{CP}/hooks/guessed"}, secret=OWN_KEY)
    answered(await send(door.api, {**hook, "path": f"{CP}/hooks/guessed"}), status=429, code="too_many_failures")
    assert (await send(door.api, hook, webhook_id="msg_2")).status_code == 201


async def test_nothing_starts_in_a_workspace_that_is_suspended_or_deleted(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": "w"})
    headers = bearer(await door.key("admin", workspace="w"))
    hook = await door.call("POST", "/hooks", {"name": "hook", **ECHO}, headers)
    assert (await send(door.api, hook)).status_code == 201
    await door.call("PATCH", "/workspaces/w", {"state": "suspended"})
    answered(await send(door.api, hook, webhook_id="b"), status=403, code="workspace_suspended")
    await door.call("PATCH", "/workspaces/w", {"state": "active"})
    assert (await send(door.api, hook, webhook_id="c")).status_code == 201
    await door.call("DELETE", "/workspaces/w")
    answered(await send(door.api, hook, webhook_id="d"), status=401, code=SIGNATURE)
    started = [row.workspace for row in await door.api.rows() if row.kind == "task.submitted"]
    assert started == ["w", "w"]


async def test_a_hook_takes_no_more_than_its_rate(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    hook = await made(api, rate_per_minute=1)
    for _ in range(3):
        assert (await send(api, hook, secret=OWN_KEY)).status_code == 401, "it uses up nothing"
    assert (await send(api, hook)).status_code == 201
    refused = await send(api, hook, webhook_id="msg_2")
    answered(refused, status=429, code="rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert (await send(api, await made(api, "other"))).status_code == 201


async def test_a_paused_hook_refuses_and_a_deleted_one_is_unknown(api: Api) -> None:
    hook = await made(api)
    paused = await api.post("/hooks/hook/pause")
    assert (paused["paused"], paused["revision"]) == (True, 2)
    assert (await api.post("/hooks/hook/pause"))["revision"] == 2
    answered(await send(api, hook), status=409, code="hook_paused")
    assert (await api.post("/hooks/hook/resume"))["paused"] is False
    first = (await send(api, hook)).json()
    assert (await api.call("DELETE", "/hooks/hook")).json() == {"deleted": True}
    answered(await send(api, hook, webhook_id="b"), status=401, code=SIGNATURE)
    assert await api.stores.pool.value("select count(*) from secrets where name like 'hook/%'") == 0
    again = await made(api, secret=hook["secret"])
    assert again["secret"] is None
    assert (await send(api, hook)).json() != first, "it is another hook"


async def test_a_policy_and_an_absent_workflow_refuse_what_would_start(api: Api) -> None:
    await api.post("/workflows", FLOW)
    hook, run = await made(api, task={"task_type": "nightly"}), await made(api, "run", workflow="flow")
    await api.post("/policies", {"name": "none", "task_types": ["nightly"], "deny_when": "true"})
    await api.gateway.catch_up()
    answered(await send(api, hook), status=403, code="policy_denied")
    (violation,) = (await api.get("/policies/violations"))["violations"]
    assert violation["submitted_by"] == "hook:hook"
    assert (await api.call("DELETE", "/workflows/flow")).is_success
    answered(await send(api, run), status=404, code="workflow_not_found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "invalid_hook"),
        ({**ECHO, "workflow": "flow"}, "invalid_hook"),
        ({**ECHO, "version": 1}, "invalid_hook"),
        ({**ECHO, "metadata": {}}, "invalid_hook"),
        ({**ECHO, "input": {"from": "input"}}, "invalid_hook"),
        ({**ECHO, "signal": SIGNAL}, "invalid_hook"),
        ({"signal": SIGNAL, "metadata": {}}, "invalid_hook"),
        ({"signal": {**SIGNAL, "run_id": {"from": "input"}}}, "invalid_hook"),
        ({"signal": {"run_id": "wfrun_1"}}, "invalid_request"),
        ({"signal": {**SIGNAL, "name": "a/b"}}, "invalid_request"),
        ({**ECHO, "secret": "short"}, "invalid_webhook_key"),
        ({**ECHO, "rate_per_minute": 0}, "invalid_request"),
        ({**ECHO, "odd": 1}, "unknown_field"),
        ({"task": {"task_type": "echo", "payload": 1}}, "unknown_field"),
        ({"task": {"task_type": "echo", "after": []}}, "unknown_field"),
        ({"workflow": "absent"}, "workflow_not_found"),
        ({**ECHO, "name": "a/b"}, "invalid_id"),
        ({**ECHO, "name": "taken", "rate_per_minute": 5}, "hook_exists"),
        ({**ECHO, "input": "x" * 300_000}, "limit_exceeded"),
        ({"workflow": "flow", "metadata": {"x": "x" * 20_000}}, "limit_exceeded"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_hook_that_cannot_be_is_refused(api: Api, fields: dict[str, Any], code: str) -> None:
    await api.post("/workflows", FLOW)
    await made(api, "taken")
    refused = await api.call("POST", "/hooks", {"name": "new", **fields})
    assert refused.json()["code"] == code, refused.text
    assert refused.status_code in (400, 404, 409)
    assert (await api.get("/hooks"))["total"] == 1


async def test_repeats_of_changes_are_answered_alike_and_show_no_secret(api: Api) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"name": "hook", **ECHO}
    answers = await asyncio.gather(*(api.post("/hooks", body, headers=key) for _ in range(5)))
    assert len([answer["secret"] for answer in answers if answer["secret"] is not None]) == 1
    assert len({answer["created_at"] for answer in answers}) == 1
    answered(
        await api.call("POST", "/hooks", {**body, "rate_per_minute": 5}, headers=key),
        status=409,
        code="idempotency_conflict",
    )
    rotations = [await api.post("/hooks/hook/rotate", {}, headers=key) for _ in range(2)]
    assert [rotation["secret"] is None for rotation in rotations] == [False, True]
    assert (await api.get("/hooks/hook"))["revision"] == 2
    for again in (body, {**body, "secret": rotations[0]["secret"]}):
        assert (await api.post("/hooks", again))["secret"] is None, "it may be that the answer was lost"
    answered(await api.call("POST", "/hooks", {**body, "secret": OWN_KEY}), status=409, code="hook_exists")
    assert (await api.get("/hooks/hook"))["revision"] == 2


async def test_a_hook_is_replaced_by_what_is_shown_of_it(api: Api) -> None:
    task = {"task_type": "t", "retry": {"attempts": 2}, "metadata": {"a": 1}, "tenant": "x", "sticky_key": "s"}
    hook = await made(api, task=task, input=None)
    shown = await api.get("/hooks/hook")
    same = {name: shown[name] for name in ("task", "input", "rate_per_minute")}
    again = await api.call("PUT", "/hooks/hook", same)
    assert again.is_success, again.text
    assert {name: again.json()[name] for name in same} == same
    assert (await send(api, hook)).status_code == 201, "its secret stays"
    other = await api.call("PUT", "/hooks/hook", {"task": {"task_type": "other"}, "input": {"from": "id"}})
    assert other.json()["task_type"] == "other"
    task_id = (await send(api, hook, webhook_id="msg_2")).json()["task_id"]
    assert (await api.get(f"/tasks/{task_id}"))["payload"] == "msg_2"


async def test_hooks_of_other_workspaces_are_not_there(api: Api) -> None:
    table = {f"{name}@{name}": principal("ann", name) for name in ("v", "w")}
    reader = principal("reader", "w", ALL - {Permission.HOOKS_WRITE, Permission.PAYLOADS_READ})
    api.app.state.resolver = TokenTable({**table, "reader": reader})
    for name in ("v", "w"):
        made_there = await api.call("POST", "/hooks", {"name": "same", **ECHO}, headers=bearer(f"{name}@{name}"))
        assert (await send(api, made_there.json())).status_code == 201
    assert (await api.call("POST", "/hooks", {"name": "x", **ECHO}, headers=bearer("reader"))).status_code == 403
    shown = (await api.call("GET", "/hooks/same", headers=bearer("reader"))).json()
    assert "task" not in shown
    assert "input" not in shown
    assert {row.workspace for row in await api.rows() if row.kind == "task.submitted"} == {"v", "w"}
    await api.call("DELETE", "/hooks/same", headers=bearer("v@v"))
    assert (await api.call("GET", "/hooks", headers=bearer("v@v"))).json()["total"] == 0
    assert (await api.call("GET", "/hooks", headers=bearer("w@w"))).json()["total"] == 1


async def test_the_secret_is_nowhere_but_sealed(api: Api, tmp_path: Path) -> None:
    begin_logging("api", API, "debug", directory=tmp_path, most_bytes=10_000_000, secrets=api.settings.secrets())
    try:
        hook = await api.post("/hooks", {"name": "hook", **ECHO}, headers={"Idempotency-Key": "k"})
        rotated = await api.post("/hooks/hook/rotate", {"secret": OWN_KEY}, headers={"Idempotency-Key": "k"})
        task_id = (await send(api, hook)).json()["task_id"]
        answers = [await api.call("GET", path) for path in ("/hooks", "/hooks/hook", "/audit", f"/story/{task_id}")]
        answers += [
            await api.call("POST", "/hooks", {"name": "hook", **ECHO, "secret": OWN_KEY, "odd": 1}),
            await api.call("POST", "/hooks", {"name": "hook", **ECHO, "secret": OWN_KEY}),
            await api.call("POST", "/hooks/hook/rotate", {"secret": OWN_KEY}),
            await send(api, hook, secret=new_key(b"x" * 32)),
        ]
        logging.getLogger("aragora").info("the hook was called")
    finally:
        end_logging()
    keys = [key.removeprefix("whsec_") for key in (hook["secret"], OWN_KEY)]
    texts = [json.dumps(rotated), *(answer.text for answer in answers)]
    texts += _texts_in(tmp_path)
    tables = await api.stores.pool.rows(
        "select table_name as name from information_schema.tables where table_schema = current_schema()"
    )
    assert len(tables) > 20
    for table in tables:
        rows = await api.stores.pool.rows(f"select t::text as text from {table['name']} t")
        texts += [row["text"] for row in rows]
    assert [text for text in texts if any(key in text or key.encode().hex() in text for key in keys)] == []


def _texts_in(directory: Path) -> list[str]:
    return [file.read_text() for file in directory.iterdir()]


async def test_secrets_that_stayed_in_another_region_count_nowhere(api: Api) -> None:
    hook = await made(api)
    (kept,) = await api.stores.pool.rows("select name, sealed from secrets where name like 'hook/%'")
    await api.stores.pool.execute("delete from secrets where name like 'hook/%'")
    answered(await send(api, hook), status=401, code=SIGNATURE)
    assert (await api.get("/hooks/hook"))["secrets"] == []
    rotated = await api.post("/hooks/hook/rotate", {"secret": OWN_KEY, "overlap_seconds": 0})
    assert (len(rotated["secrets"]), (await send(api, hook, secret=OWN_KEY)).status_code) == (1, 201)
    await api.stores.pool.execute("insert into secrets (name, sealed) values ($1, $2)", kept["name"], kept["sealed"])
    answered(await send(api, hook, webhook_id="msg_2"), status=401, code=SIGNATURE)


async def test_without_a_key_for_secrets_there_are_no_hooks(store_urls: StoreUrls, schema: str) -> None:
    async with Api(api_settings(store_urls, schema, secrets_key=None)).running(()) as api:
        refused = await api.call("POST", "/hooks", {"name": "hook", **ECHO})
        answered(refused, status=409, code="no_secrets_key")
        assert (await api.get("/hooks"))["hooks"] == []


async def test_erasing_a_subject_deletes_the_hooks_that_name_it(api: Api) -> None:
    await api.post("/workflows", FLOW)
    await made(api, "a", task={"task_type": "t", "metadata": {"subject": "ann"}})
    await made(api, "b", workflow="flow", metadata={"subject": "ann"})
    await made(api, "c")
    dry = await api.post("/erasures", {"subject": "ann", "dry_run": True})
    assert dry["erased"]["hooks"] == 2
    assert (await api.post("/erasures", {"subject": "ann"}))["erased"]["hooks"] == 2
    assert [hook["name"] for hook in (await api.get("/hooks"))["hooks"]] == ["c"]


# --- signals ----------------------------------------------------------------------------------------------------------


async def waiting_run(api: Api) -> str:
    steps = [{"id": "go", "signal": {"name": "approved"}}, {"id": "more", "signal": {"name": "more"}}]
    await api.post("/workflows", {"name": "waits", "steps": steps})
    return str((await api.post("/workflows/waits/runs", {}))["run_id"])


async def test_a_webhook_signals_a_run_once(api: Api) -> None:
    run_id = await waiting_run(api)
    hook = await made(api, signal=SIGNAL, input={"from": "body", "path": "/by"})
    assert (hook["signal"], hook["task"], hook["workflow"]) == (SIGNAL, None, None)
    answers = [await send(api, hook, {"run": run_id, "by": by}) for by in ("ann", "bob", "ann")]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (201, {"task_id": None, "run_id": run_id})
    ] * 3
    assert await api.stores.workflows.signals("default", run_id) == {"approved": "ann"}
    answered(await send(api, hook, {"run": run_id, "by": "bob"}, "msg_2"), status=409, code="already_signalled")
    assert (await send(api, hook, {"run": run_id, "by": "ann"}, "msg_3")).status_code == 201
    (row,) = [row for row in await api.rows(run_id) if row.kind == "workflow.run_signalled"]
    assert row.principal == "hook:hook"


async def test_a_webhook_does_not_learn_whether_run_or_step_is_absent(api: Api) -> None:
    run_id = await waiting_run(api)
    named = {"run_id": {"from": "body", "path": "/run"}, "name": {"from": "body", "path": "/name"}}
    hook = await made(api, signal=named)
    bodies = (
        {"run": "wfrun_absent", "name": "approved"},
        {"run": run_id, "name": "absent"},
        {"run": run_id, "name": "a/b"},
        {"run": "a b", "name": "approved"},
    )
    answers = [await send(api, hook, body, f"msg_{n}") for n, body in enumerate(bodies)]
    told = {(answer.status_code, answer.json()["code"], answer.json()["error"]) for answer in answers}
    assert len(told) == 1
    assert {(status, code) for status, code, _ in told} == {(404, "signal_not_found")}
    for n, body in enumerate(({"run": run_id}, {"run": 7, "name": "approved"})):
        answered(await send(api, hook, body, f"odd_{n}"), status=400, code="input_unresolved")
    large = {"run": run_id, "name": "approved", "x": "x" * 70_000}
    answered(await send(api, hook, large, "large"), status=400, code="limit_exceeded")
    assert await api.stores.workflows.signals("default", run_id) == {}
    assert (await send(api, hook, {"run": run_id, "name": "approved"}, "msg_0")).status_code == 201, (
        "a refusal is no answer"
    )


async def test_the_example_that_signals_runs(api: Api) -> None:
    run_id = await waiting_run(api)
    (line,) = re.findall(r"```sh signal\n(.*?)\n```", PAGE, re.DOTALL)
    secret = (await command(api, *shlex.split(line)[1:])).strip()
    hook = await api.get("/hooks/approvals") | {"secret": secret}
    assert "signal" in await command(api, "hooks", "list")
    (body,) = re.findall(r"```json signal\n(.*?)\n```", PAGE, re.DOTALL)
    assert (await send(api, hook, json.loads(body.replace("RUN", run_id)))).status_code == 201
    assert await api.stores.workflows.signals("default", run_id) == {"approved": {"name": "ann"}}


# --- the page and the command line -----------------------------------------------------------------------------------


async def test_the_commands_of_the_page_run(api: Api) -> None:
    await api.post("/workflows", {**FLOW, "name": "release"})
    first, then = re.findall(r"```sh run\n(.*?)```", PAGE, re.DOTALL)
    printed = [await command(api, *shlex.split(line)[1:]) for line in first.splitlines()]
    assert all(re.fullmatch(r"whsec_[A-Za-z0-9+/=]{44}\n", text) for text in printed[:2])
    assert "reviews" in printed[2]
    assert "workflow release" in printed[2]
    changed = [await command(api, *shlex.split(line)[1:]) for line in then.splitlines()]
    assert changed[0].startswith("whsec_")
    assert [hook["name"] for hook in (await api.get("/hooks"))["hooks"]] == ["releases"]


async def test_the_command_line_shows_and_changes_hooks(api: Api, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{OWN_KEY}\n")
    task = json.dumps(ECHO["task"])
    words = ("--task", task, "--rate", "5", "--secret-file", str(tmp_path / "secret"))
    assert await command(api, "hooks", "create", "own", *words) == ""
    shown = json.loads(await command(api, "hooks", "show", "own"))
    assert (shown["rate_per_minute"], shown["paused"]) == (5, False)
    changed = json.loads(await command(api, "hooks", "update", "own", "--task", task, "--input", '{"from": "id"}'))
    assert (changed["input"], changed["rate_per_minute"]) == ({"from": "id"}, 600)
    hook = json.loads(await command(api, "hooks", "rotate", "own", "--json"))
    assert (await send(api, hook)).status_code == 201
    await command(api, "hooks", "create", "own", "--task", "{", code=2)
    await command(api, "hooks", "create", "own", "--task", task, code=1)
    (tmp_path / "secret").write_bytes(b"\xff")
    await command(api, "hooks", "rotate", "own", "--secret-file", str(tmp_path / "secret"), code=2)


@pytest.mark.skipif(not shutil.which("openssl") or not shutil.which("curl"), reason="openssl and curl are not here")
async def test_a_webhook_by_hand_as_on_the_page_is_taken(api: Api) -> None:
    (script,) = re.findall(r"```sh send\n(.*?)```", PAGE, re.DOTALL)
    hook = await made(api)
    given = f"set -euo pipefail\nSECRET='{hook['secret']}'\nURL='{api.url}{hook['path']}'\n{script}"
    done = await in_thread(subprocess.run, ["bash", "-c", given], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    task = await api.get(f"/tasks/{json.loads(done.stdout)['task_id']}")
    assert task["payload"] == {"pull_request": 17, "by": "ann"}


async def test_a_webhook_from_python_as_on_the_page_is_taken(api: Api) -> None:
    (script,) = re.findall(r"```python send\n(.*?)```", PAGE, re.DOTALL)
    hook, printed = await made(api), list[str]()
    await in_thread(exec, script, {"SECRET": hook["secret"], "URL": api.url + hook["path"], "print": printed.append})
    assert (await api.get(f"/tasks/{printed[0]}"))["payload"] == {"pull_request": 17, "by": "ann"}
