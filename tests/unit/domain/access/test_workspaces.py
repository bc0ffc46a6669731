"""Workspaces: what each state admits, of every role."""

from __future__ import annotations

import re

import pytest

from cluster.domain.access.identity import AccessPolicy, Identity, Method, principal_for
from cluster.domain.access.permissions import OF_THE_SYSTEM
from cluster.domain.access.roles import ROLES
from cluster.domain.access.workspaces import ALL_WORKSPACES, WorkspaceState
from cluster.domain.base.errors import Forbidden
from cluster.domain.base.ids import ID_PATTERN
from tests.support.access import StatedTables

_CHANGING = (".write", ".claim", ".connect")


@pytest.mark.parametrize("role", ROLES)
def test_each_state_admits_what_its_comment_says(role: str) -> None:
    identity = Identity(id="key:k", method=Method.API_KEY, subjects=("key:k",), workspaces=("w",), grants=(role,))

    def held(state: WorkspaceState) -> frozenset[str]:
        return principal_for(identity, None, StatedTables({"w": state}), AccessPolicy(home="w")).permissions

    active, suspended = held(WorkspaceState.ACTIVE), held(WorkspaceState.SUSPENDED)
    assert active == ROLES[role] - OF_THE_SYSTEM
    assert suspended <= active
    left = {"controlplane:access.write", "controlplane:agents.connect", "controlplane:tasks.claim"}
    assert {found for found in suspended if found.endswith(_CHANGING)} <= left
    assert {found for found in active if found.endswith(".read")} <= suspended
    with pytest.raises(Forbidden):
        held(WorkspaceState.DELETED)


def test_all_workspaces_is_no_workspace_that_could_be_made() -> None:
    assert re.fullmatch(ID_PATTERN, ALL_WORKSPACES) is None
