"""The matrix: every call, stream and change with every built-in role, on objects of its own workspace and of another one.

What is expected is in docs/permissions.md.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import websockets
from aragora_sdk.exceptions import AuthorizationError
from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.roles import ROLES
from cluster.domain.base.log import SYSTEM, LogRow
from tests.api.test_worker import ended
from tests.api.test_worker_process import begun, started
from tests.support.api import CP, Api, in_thread
from tests.support.changes import CHANGES
from tests.support.permission_tables import calls, roles, with_role
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.routes import Route, http_routes, websocket_routes

OWN, FOREIGN = "w", "v"


def _name(route: Route) -> str:
    root = "" if route.path.startswith(f"{CP}/") else "ROOT "
    return f"{root}{route.method} {route.path.removeprefix(CP)}"


def _routes() -> list[Route]:
    return [route for route in [*http_routes(), *websocket_routes()] if not route.path.startswith("/api/v1/")]


def _may(role: str, call: str) -> bool:
    """What the tables say about a role in one workspace."""
    permission = calls()[call]
    return permission == "public" or permission in roles()[role] - {str(found) for found in OF_THE_SYSTEM}


def test_the_table_of_calls_is_what_routes_declare() -> None:
    declared = {_name(route): route.endpoint.permission.value for route in _routes()}
    listed = calls()
    missing = [f"| `{call}` | `{permission}` |" for call, permission in declared.items() if call not in listed]
    assert not missing, "review these calls, then add them to docs/permissions.md:\n" + "\n".join(missing)
    assert listed == declared


def test_the_table_of_roles_is_what_the_code_grants() -> None:
    assert roles() == {role: {permission.value for permission in held} for role, held in ROLES.items()}
    assert set().union(*roles().values()) == {found.value for found in Permission} - {"public"}


@pytest.fixture
async def tokens(api: Api) -> TokenTable:
    """A token for every role in every workspace; the test's own client makes what they are tried on."""
    await api.post("/workspaces", {"id": OWN})
    table = {f"{role}@{workspace}": with_role(role, workspace) for role in ROLES for workspace in (OWN, FOREIGN)}
    found = TokenTable({"maker": replace(principal("maker", OWN), everywhere=ALL), **table})
    api.app.state.resolver = found
    api.client.headers.update(bearer("maker"))
    return found


async def _rows(api: Api, workspace: str) -> list[LogRow]:
    """Without those that the system writes at any time: deliberations go on, and leases end while the machine is busy."""
    return [row for row in await api.rows() if row.workspace == workspace and not row.principal.startswith(SYSTEM)]


# --- changes -------------------------------------------------------------------------------------------------------------

#: Calls whose bodies name objects: for each of another workspace the answer says that it is not there.
_TOLD_IN_BODY = {
    "POST /tasks/complete": {"ok": False, "code": "task_not_found"},
    "POST /tasks/fail": {"ok": False, "code": "task_not_found"},
}
#: Bodies of these name objects too, and the whole call is answered 404.
_TOLD_BY_STATUS = ("POST /erasures", "POST /tasks/claim", "POST /queue/prioritize", "POST /notifications/rules")


def _is_about_access(call: str) -> bool:
    """Whoever may make such a call needs also what the change gives, and manages no other workspace: tests/api/test_access.py."""
    return calls()[call].startswith("controlplane:access.")


async def test_each_role_changes_what_the_table_says(api: Api, tokens: TokenTable) -> None:
    wrong: list[str] = []
    for (method, template), prepare in CHANGES.items():
        call = f"{method} {template}"
        path, body = await prepare(api)
        before = await _rows(api, OWN)
        for role in ROLES:
            for workspace in (OWN, FOREIGN):
                if not _may(role, call):
                    answer = await api.call(method, path, body, headers=bearer(f"{role}@{workspace}"))
                    wrong += [f"{call} {role} {workspace}: {answer.status_code}"] * (answer.status_code != 403)
            if _may(role, call) and not _is_about_access(call):
                answer = await api.call(method, path, body, headers=bearer(f"{role}@{FOREIGN}"))
                wrong += [f"{call} {role} {FOREIGN}: {found}" for found in _foreign_faults(call, template, answer)]
        if await _rows(api, OWN) != before:
            wrong.append(f"{call} changed something for somebody who may not")
        allowed = [role for role in ROLES if _may(role, call) and not _is_about_access(call)]
        for number, role in enumerate(allowed):
            if number > 0:
                path, body = await prepare(api)
            answer = await api.call(method, path, body, headers=bearer(f"{role}@{OWN}"))
            wrong += [f"{call} {role} {OWN}: {answer.text}"] * (not answer.is_success)
    assert not wrong, "\n".join(wrong)


def _foreign_faults(call: str, template: str, answer: Any) -> Iterator[str]:
    if "{" in template or call in _TOLD_BY_STATUS:
        if answer.status_code != 404:
            yield answer.text
    elif not answer.is_success:
        yield answer.text
    elif call in _TOLD_IN_BODY:
        yield from (
            str(found) for found in answer.json()["results"] if not _TOLD_IN_BODY[call].items() <= found.items()
        )


# --- reads ---------------------------------------------------------------------------------------------------------------


async def _objects(api: Api) -> dict[str, str]:
    """One object of each kind in the workspace of the maker, by the name of its id."""
    made: dict[str, str] = {"snapshot_id": "absent"}
    for template, name in (
        ("/dead-letter/{task_id}/replay", "task_id"),
        ("/deliberations/{request_id}/outcome", "request_id"),
        ("/agents/{agent_id}/pause", "agent_id"),
        ("/schedules/{schedule_id}/pause", "schedule_id"),
        ("/credentials/{credential_name}/rotate", "credential_name"),
        ("/policies/{policy_id}/rollback", "policy_id"),
        ("/notifications/{notification_id}/replay", "notification_id"),
        ("/workflows/{name}/runs", "name"),
        ("/hooks/{hook_name}/pause", "hook_name"),
        ("/workflow-runs/{run_id}/cancel", "run_id"),
    ):
        path, _ = await CHANGES["POST", template](api)
        made[name] = path.split("/")[2]
    path, _ = await CHANGES["PUT", "/budgets/{budget_id}"](api)
    made["budget_id"] = path.split("/")[2]
    path, _ = await CHANGES["PATCH", "/policies/violations/{violation_id}"](api)
    made["violation_id"] = path.split("/")[3]
    entry = (await api.rows(made["task_id"]))[0]
    return {**made, "subject_id": made["task_id"], "workspace_id": OWN, "log_id": str(entry.seq)}


async def test_each_role_reads_what_the_table_says(api: Api, tokens: TokenTable) -> None:
    made = await _objects(api)
    before = await _changes(api)
    wrong: list[str] = []
    for route in _routes():
        if route.method != "GET":
            continue
        call, path = _name(route), route.path.format(**made)
        for role in ROLES:
            for workspace in (OWN, FOREIGN):
                answer = await api.client.get(path, headers=bearer(f"{role}@{workspace}"))
                if not _may(role, call):
                    fits = answer.status_code == 403
                elif "workspace_id" in route.path and workspace == FOREIGN:
                    fits = answer.status_code == 403  # it manages its own, and is not told whether there are others
                elif "{" in route.path and (workspace == FOREIGN or "snapshot_id" in path or "absent" in path):
                    fits = answer.status_code == 404
                else:
                    told = [made[name] for name in ("task_id", "agent_id", "request_id") if made[name] in answer.text]
                    # Nobody can log in here: tests/api/test_login.py.
                    is_off = answer.status_code == 404 and answer.json()["code"] == "login_off"
                    fits = is_off or (answer.status_code == 200 and not (told and workspace == FOREIGN))
                wrong += [f"{call} {role} {workspace}: {answer.status_code}"] * (not fits)
    assert not wrong, "\n".join(wrong)
    assert await _changes(api) == before, "a read changed something"


async def _changes(api: Api) -> list[tuple[int, str]]:
    """Without what the control plane does by itself: it fits weights, and publishes its signing key when it first needs it."""
    own = ("weights.fitted", "receipts.key_published")
    return [(row.seq, row.kind) for row in await api.rows() if row.kind not in own]


async def test_only_a_role_in_all_workspaces_reads_what_concerns_them_all(api: Api, tokens: TokenTable) -> None:
    for role in ROLES:
        assert (await api.client.get("/metrics", headers=bearer(f"{role}@{OWN}"))).status_code == 403
    assert (await api.client.get("/metrics")).status_code == 200


# --- streams -------------------------------------------------------------------------------------------------------------


async def _handshake(api: Api, path: str, token: str) -> int:
    try:
        async with websockets.connect(api.url.replace("http", "ws") + path, additional_headers=bearer(token)):
            return 101
    except websockets.InvalidStatus as refused:
        return refused.response.status_code


async def test_each_role_opens_the_sockets_that_the_table_says(api: Api, tokens: TokenTable) -> None:
    wrong: list[str] = []
    for route in _routes():
        for role in ROLES if route.method == "WS" else ():
            for workspace in (OWN, FOREIGN):
                status = await _handshake(api, route.path, f"{role}@{workspace}")
                if status != (101 if _may(role, _name(route)) else 403):
                    wrong.append(f"{route} {role} {workspace}: {status}")
    assert not wrong, "\n".join(wrong)


# --- what each role is for -----------------------------------------------------------------------------------------------


class _Recording(TokenTable):
    """Keeps what the agent has called."""

    def __init__(self, table: dict[str, Principal]) -> None:
        super().__init__(table)
        self.called: set[tuple[str, str]] = set()

    async def resolve(self, connection: HTTPConnection) -> Principal:
        found = await super().resolve(connection)
        if found.id.startswith("key:agent"):
            self.called.add((connection.scope["method"], connection.scope["path"]))
        return found


async def test_the_worker_kit_needs_exactly_the_agents_role(
    api: Api, tokens: TokenTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process, from its registration to its deregistration."""
    monkeypatch.setenv("ARAGORA_API_KEY", f"agent@{OWN}")
    recording = _Recording(tokens.table)
    api.app.state.resolver = recording

    async def heard() -> bool:
        return any(path.endswith("/heartbeat") for _, path in recording.called)

    async with started(api, tmp_path) as process:
        task_id = await begun(api, tmp_path, "plain")
        await eventually(heard)
        (tmp_path / "go").touch()
        assert (await ended(api, task_id))["result"] == "plain"
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
    assert (await api.call("GET", "/agents/w9")).status_code == 404, "it deregisters itself"
    needed = {
        route.endpoint.permission
        for route in http_routes()
        for method, path in recording.called
        if method == route.method and _fits(route.path, path)
    }
    assert needed == ROLES["agent"]


def _fits(template: str, path: str) -> bool:
    parts, names = path.split("/"), template.split("/")
    return len(parts) == len(names) and all(
        name == part or (name.startswith("{") and part == "w9") for name, part in zip(names, parts, strict=True)
    )


async def test_a_submitter_can_use_the_released_client(api: Api, tokens: TokenTable) -> None:
    await api.post("/agents", {"agent_id": "w1"})
    plane = api.sdk(api_key=f"submitter@{OWN}", max_retries=1).control_plane
    task_id = (await in_thread(plane.create_task, task_type="echo", payload={"n": 1}))["task_id"]
    assert (await in_thread(plane.get_task, task_id))["payload"] == {"n": 1}
    assert (await in_thread(plane.get_queue))["total"] == 1
    assert (await in_thread(plane.cancel_task, task_id))["cancelled"]
    assert (await in_thread(plane.get_task_history))["total"] == 1
    asked = await in_thread(plane.create_deliberation, **{"content": "Tea?", "async": True})
    record = await in_thread(plane.get_deliberation, asked["request_id"])
    assert record["question"] == "Tea?"
    await in_thread(plane.get_deliberation_status, asked["request_id"])
    await in_thread(plane.get_deliberation_transcript, asked["request_id"])
    await in_thread(plane.list_agents)
    await in_thread(plane.get_health)
    for denied, given in (
        (plane.register_agent, {"agent_id": "mine"}),
        (plane.claim_task, {"agent_id": "w1"}),
        (plane.pause_agent, {"agent_id": "w1"}),
        (plane.deregister_agent, {"agent_id": "w1"}),
    ):
        with pytest.raises(AuthorizationError):
            await in_thread(denied, **given)


@pytest.mark.parametrize("more", [{"endpoint": "http://127.0.0.1:9/v1"}, {"import_path": "os:Path"}])
async def test_an_agents_role_registers_only_agents_that_pull(
    api: Api, tokens: TokenTable, more: dict[str, str]
) -> None:
    for path, body in (
        ("/agents", {"agent_id": "a", **more}),
        ("/agents/batch", {"agents": [{"agent_id": "a", **more}]}),
    ):
        answer = await api.call("POST", path, body, headers=bearer(f"agent@{OWN}"))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert Permission.AGENTS_WRITE in answer.json()["error"]
    assert [row.kind for row in await api.rows() if not row.kind.startswith("access.")] == []
