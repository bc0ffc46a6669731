"""Properties of all routes: each declares a permission, each change can be repeated, both prefixes serve the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cluster.domain.access.permissions import Permission
from serve_app.application import PREFIXES
from tests.support.api import CP, Api
from tests.support.changes import CHANGES
from tests.support.routes import Route, http_routes, websocket_routes

SAFE = {"GET", "HEAD", "OPTIONS"}


def test_every_route_declares_a_permission() -> None:
    undeclared = [
        str(route)
        for route in [*http_routes(), *websocket_routes()]
        if not isinstance(getattr(route.endpoint, "permission", None), Permission)
    ]
    assert undeclared == []


def test_only_health_public_keys_logins_and_hooks_are_public() -> None:
    public = {route.path for route in http_routes() if route.endpoint.permission is Permission.PUBLIC}
    names = ("login", "callback", "session", "caller", "logout", "device", "device/token")
    # The signature of a webhook says whose it is (tests/api/test_hooks.py).
    under = {"/receipts/keys", "/hooks/{hook_name}", *(f"/auth/{name}" for name in names)}
    assert public == {"/health", "/health/live"} | {prefix + path for prefix in PREFIXES for path in under}


def test_both_prefixes_have_the_same_http_routes() -> None:
    under = [
        {(route.path.removeprefix(prefix), route.method) for route in http_routes() if route.path.startswith(prefix)}
        for prefix in PREFIXES
    ]
    assert under[0] == under[1] != set()


def _changing() -> list[Route]:
    """Those of principals: a login has none yet, and what it ends in is made once by itself."""
    return [
        route
        for route in http_routes()
        if route.path.startswith(f"{CP}/")
        and route.method not in SAFE
        and route.endpoint.permission is not Permission.PUBLIC
    ]


@pytest.mark.parametrize("route", _changing(), ids=str)
def test_every_change_takes_an_idempotency_key(route: Route) -> None:
    assert "idempotency-key" in route.headers


#: What a repeat may well say anew: until when the lease now is, and that it is a lease delivered again; how far a run has come;
#: to how many tasks a policy was tried. And a token is shown once (tests/api/test_access_keys.py).
_MOVES = (
    *("token", "secret", "notice", "lease_expires_at", "redelivered", "last_heartbeat", "last_heartbeat_by_region"),
    *("steps", "changed_at", "tried"),
)


def _settled(answer: Any) -> Any:
    if isinstance(answer, dict) and "ticket" in answer:  # each call makes another one, which is stored nowhere in clear
        return set(answer)
    if isinstance(answer, dict):
        return {key: _settled(value) for key, value in answer.items() if key not in _MOVES}
    return [_settled(value) for value in answer] if isinstance(answer, list) else answer


def test_every_changing_route_has_a_valid_call() -> None:
    assert {(route.method, route.path.removeprefix(CP)) for route in _changing()} == set(CHANGES)


async def test_a_change_repeated_under_one_key_answers_alike(api: Api) -> None:
    """Also over the restart of the scheduler, which remembers nothing but what is stored."""
    asked, different = [], []
    for number, ((method, template), prepare) in enumerate(CHANGES.items()):
        path, body = await prepare(api)
        headers = {"Idempotency-Key": f"key {number}"}
        first = await api.call(method, path, body, headers=headers)
        assert first.is_success, f"{method} {template}: {first.text}"
        asked.append((method, path, body, headers, first))
    for restarted in (False, True):
        if restarted:
            await api.kill_scheduler()
            await api.start_scheduler()
        for method, path, body, headers, first in asked:
            again = await api.call(method, path, body, headers=headers)
            if (first.status_code, _settled(first.json())) != (again.status_code, _settled(again.json())):
                different.append(f"{restarted=} {method} {path}: {first.text} / {again.status_code} {again.text}")
    assert not different, "\n".join(different)


async def test_a_key_with_another_body_is_a_conflict(api: Api) -> None:
    for path, body, other in (
        ("/tasks", {"task_type": "a"}, {"task_type": "b"}),
        ("/tasks/batch", {"tasks": [{"task_type": "a"}]}, {"tasks": [{"task_type": "b"}]}),
        ("/agents", {"agent_id": "a"}, {"agent_id": "a", "model": "m"}),
        ("/agents", {"agent_id": "a"}, {"agent_id": "another"}),
        ("/agents/batch", {"agents": [{"agent_id": "a"}]}, {"agents": [{"agent_id": "a"}, {"agent_id": "another"}]}),
        ("/deliberations", {"content": "a", "async": True}, {"content": "b", "async": True}),
    ):
        headers = {"Idempotency-Key": json.dumps(other)}
        assert (await api.call("POST", path, body, headers=headers)).is_success
        refused = await api.call("POST", path, other, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_conflict"), path


async def test_each_call_that_makes_something_may_be_repeated_after_its_end(api: Api) -> None:
    deletes = {path for method, path in CHANGES if method == "DELETE"}
    seen: list[tuple[str, int]] = []
    for method, collection in CHANGES:
        removes = [path for path in deletes if re.fullmatch(re.escape(collection) + r"/\{\w+\}", path)]
        if method != "POST" or not removes:
            continue
        path, body = await CHANGES["POST", collection](api)
        headers = {"Idempotency-Key": "mine"}
        first = (await api.call("POST", path, body, headers=headers)).json()
        name = removes[0].rpartition("{")[2][:-1]
        made = next((first[field] for field in (name, "id", "name") if field in first), None) or first["key"]["id"]
        assert (await api.call("DELETE", f"{path}/{made}")).is_success, collection
        again = await api.call("POST", path, body, headers=headers)
        assert again.status_code in (201, 409), f"{collection}: {again.text}"
        if again.status_code == 409:
            assert again.json()["code"] == "deleted_since"
            assert made not in (await api.call("GET", path)).text
        seen.append((collection, again.status_code))
    assert {collection for collection, status in seen if status == 409} == {"/schedules", "/policies", "/budgets"}
    assert len(seen) > 8
