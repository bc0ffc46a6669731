"""The vocabulary of permissions: what each name opens, and what it does not."""

from __future__ import annotations

import pytest

from cluster.domain.access.permissions import ALIASES, ALL, Permission, granted
from cluster.domain.access.principal import Principal, allows
from cluster.domain.base.errors import InvalidRequest
from tests.support.api import CP
from tests.support.routes import http_routes, websocket_routes

#: The released server's own permission of each call that we have too.
WIRE = {
    ("GET", "/agents"): "controlplane:agents.read",
    ("POST", "/agents"): "controlplane:agents",
    ("GET", "/agents/{agent_id}"): "controlplane:agents.read",
    ("DELETE", "/agents/{agent_id}"): "controlplane:agents",
    ("POST", "/agents/{agent_id}/heartbeat"): "controlplane:agents",
    ("GET", "/agents/{agent_id}/metrics"): "control_plane:read",
    ("POST", "/agents/{agent_id}/pause"): "control_plane:write",
    ("POST", "/agents/{agent_id}/resume"): "control_plane:write",
    ("POST", "/tasks"): "controlplane:tasks",
    ("POST", "/tasks/claim"): "controlplane:tasks",
    ("GET", "/tasks/{task_id}"): "controlplane:tasks.read",
    ("GET", "/tasks/history"): "controlplane:tasks.read",
    ("POST", "/tasks/{task_id}/complete"): "controlplane:tasks",
    ("POST", "/tasks/{task_id}/fail"): "controlplane:tasks",
    ("POST", "/tasks/{task_id}/cancel"): "controlplane:tasks",
    ("GET", "/queue"): "controlplane:queue.read",
    ("GET", "/queue/metrics"): "controlplane:queue.read",
    ("POST", "/queue/prioritize"): "control_plane:write",
    ("GET", "/health"): "controlplane:health.read",
    ("GET", "/health/detailed"): "controlplane:health.read",
    ("GET", "/health/{agent_id}"): "controlplane:health.read",
    ("GET", "/breakers"): "controlplane:health.read",
    ("GET", "/stats"): "controlplane:read",
    ("GET", "/metrics"): "controlplane:metrics.read",
    ("POST", "/deliberations"): "controlplane:tasks",
    ("GET", "/deliberations/{request_id}"): "controlplane:tasks",
    ("GET", "/deliberations/{request_id}/status"): "controlplane:tasks",
    ("GET", "/deliberations/{request_id}/transcript"): "controlplane:tasks",
    ("GET", "/stream"): "control_plane:read",
}


def test_a_wire_name_grants_exactly_its_permissions() -> None:
    required = {(route.method, route.path): route.endpoint.permission for route in http_routes()}
    closed = [key for key, name in WIRE.items() if required[key[0], CP + key[1]] not in granted(name)]
    assert closed == []


#: What no route requires: it decides what is shown in the answers of many, or what a body may ask for. Routes about access
#: come with their own table.
NOT_OF_A_ROUTE = {
    *(Permission.PAYLOADS_READ, Permission.CREDENTIALS_USE),
    *(Permission.ACCESS_READ, Permission.ACCESS_WRITE),
    Permission.POLICIES_GLOBAL,  # of the body of a policy
    Permission.POLICIES_OVERRIDE,  # of the body of a task
}


def test_every_permission_is_required_by_some_route() -> None:
    used = {route.endpoint.permission for route in [*http_routes(), *websocket_routes()]}
    assert used | NOT_OF_A_ROUTE == set(Permission)
    for permission in ALL:
        assert permission.startswith("controlplane:")
        assert permission.count(".") == 1


@pytest.mark.parametrize("name", [*sorted(ALL), *ALIASES])
def test_a_permission_name_grants_no_more_than_it_says(name: str) -> None:
    found = granted(name)
    assert found
    assert Permission.PUBLIC not in found
    if name.endswith("read"):
        assert all(permission.endswith(".read") for permission in found)
    if name in set(ALL):
        assert found == {name}


def test_our_older_names_are_still_known() -> None:
    assert granted("control_plane:agents:read") == {Permission.AGENTS_READ}
    assert granted("control_plane:tasks:claim") == {Permission.TASKS_CLAIM}
    assert not set(ALIASES) & set(Permission), "an alias would hide a permission"


@pytest.mark.parametrize("name", ["", "public", "controlplane:", "CONTROLPLANE:READ", "control_plane.cancel", "*"])
def test_an_unknown_name_grants_nothing(name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a permission"):
        granted(name)


def test_a_misspelt_permission_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match=r"did you mean controlplane:tasks\.write"):
        granted("controlplane:task.write")


def test_a_principal_may_do_what_it_holds_and_what_is_public() -> None:
    for held in ALL:
        principal = Principal(id="user:a", workspace="w", permissions=frozenset({held}))
        assert {permission for permission in Permission if allows(principal, permission)} == {held, Permission.PUBLIC}
