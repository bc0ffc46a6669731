"""Roles: what a list of grants allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.permissions import ALIASES, ALL, OF_THE_SYSTEM, Permission, granted
from cluster.domain.access.roles import ROLES, CustomRole, permissions_of
from cluster.domain.base.errors import InvalidRequest

_NAMES = st.sampled_from([*ALL, *ALIASES])
_CUSTOM = {
    "reviewer": CustomRole(
        workspace="w", name="reviewer", permissions=("controlplane:tasks.read", "controlplane:tasks")
    )
}
_GRANTS = st.lists(st.one_of(st.sampled_from([*ROLES, *_CUSTOM]), _NAMES))


def test_no_grant_allows_nothing() -> None:
    assert permissions_of((), _CUSTOM) == frozenset()


@given(_GRANTS, _GRANTS)
def test_two_lists_of_grants_together_allow_what_both_allow(first: list[str], second: list[str]) -> None:
    together = permissions_of([*first, *second], _CUSTOM)
    assert together == permissions_of(first, _CUSTOM) | permissions_of(second, _CUSTOM)
    assert together <= ALL


@given(st.lists(_NAMES))
def test_a_custom_role_allows_what_it_names_but_nothing_of_the_system(names: list[str]) -> None:
    role = CustomRole(workspace="w", name="own", permissions=tuple(names))
    named = frozenset().union(*map(granted, names))
    assert permissions_of(["own"], {"own": role}) == named - OF_THE_SYSTEM


def test_a_custom_role_does_not_hide_a_built_in_one() -> None:
    custom = {"viewer": CustomRole(workspace="w", name="viewer", permissions=("controlplane:queue.write",))}
    assert permissions_of(["viewer"], custom) == ROLES["viewer"]


@pytest.mark.parametrize("grant", ["owner", "", "*", "controlplane:nothing.read", "control_plane.cancel"])
def test_an_unknown_grant_is_an_error_and_opens_nothing(grant: str) -> None:
    with pytest.raises(InvalidRequest):
        permissions_of(["viewer", grant], _CUSTOM)


def test_a_role_of_another_workspace_is_unknown_here() -> None:
    with pytest.raises(InvalidRequest, match="reviewer is no role of this workspace"):
        permissions_of(["reviewer"], {})


def test_roles_that_only_read_change_nothing() -> None:
    for role in ("viewer", "auditor"):
        reads = {permission for permission in ROLES[role] if permission.endswith(".read")} | {Permission.AUDIT_VERIFY}
        assert ROLES[role] <= reads
    assert Permission.PAYLOADS_READ not in ROLES["viewer"] | ROLES["auditor"] | ROLES["agent"]


def test_only_the_administrator_changes_access() -> None:
    assert [role for role, held in ROLES.items() if Permission.ACCESS_WRITE in held] == ["admin"]
