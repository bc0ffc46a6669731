"""From an identity to a principal: which workspace, and what it may do there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.identity import AccessPolicy, Identity, Method, principal_for
from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, Permission
from cluster.domain.access.principal import Principal
from cluster.domain.access.roles import ROLES, CustomRole
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import ControlPlaneError, Forbidden, InvalidRequest
from tests.support.access import StatedTables

ACTIVE, SUSPENDED, DELETED = WorkspaceState.ACTIVE, WorkspaceState.SUSPENDED, WorkspaceState.DELETED
STATES = {"home": ACTIVE, "v": ACTIVE, "w": ACTIVE, "slow": SUSPENDED, "past": DELETED}
POLICY = AccessPolicy(home="home")
ANN = Identity(id="user:ann@x.example", method=Method.JWT, subjects=("user:ann@x.example", "group:staff"))
KEY = Identity(id="key:k1", method=Method.API_KEY, subjects=("key:k1",), workspaces=("w", "v"), grants=("submitter",))


def _tables(*bound: tuple[str, str, str], roles: tuple[CustomRole, ...] = ()) -> StatedTables:
    return StatedTables(STATES, bound, roles)


def _ann(*bound: tuple[str, str], asked: str | None = None, policy: AccessPolicy = POLICY) -> Principal:
    rows = [(workspace, "user:ann@x.example", role) for workspace, role in bound]
    return principal_for(ANN, asked, _tables(*rows), policy)


# --- which workspace -----------------------------------------------------------------------------------------------------


def test_the_only_workspace_with_a_role_need_not_be_named() -> None:
    assert _ann(("v", "viewer")).workspace == "v"


def test_a_group_gives_its_members_its_role() -> None:
    found = principal_for(ANN, None, _tables(("w", "group:staff", "operator")), POLICY)
    assert (found.id, found.workspace, found.permissions) == (ANN.id, "w", ROLES["operator"] - OF_THE_SYSTEM)


def test_who_has_several_workspaces_names_one() -> None:
    with pytest.raises(InvalidRequest, match="X-Aragora-Workspace: you have a role in v, w") as refused:
        _ann(("v", "viewer"), ("w", "viewer"))
    assert refused.value.code == "workspace_required"
    assert _ann(("v", "viewer"), ("w", "operator"), asked="w").workspace == "w"


def test_a_role_in_a_deleted_workspace_keeps_nobody_out_elsewhere() -> None:
    assert _ann(("past", "operator"), ("v", "viewer")).workspace == "v"
    for default in ("", "viewer"):
        with pytest.raises(Forbidden, match="past"):
            _ann(("past", "operator"), policy=replace(POLICY, default_role=default))


def test_a_key_acts_in_its_first_workspace_unless_it_names_one() -> None:
    assert principal_for(KEY, None, _tables(), POLICY).workspace == "w"
    assert principal_for(KEY, "v", _tables(), POLICY).workspace == "v"
    with pytest.raises(Forbidden):
        principal_for(KEY, "home", _tables(), POLICY)


def test_a_key_for_all_workspaces_acts_in_the_default_one() -> None:
    everywhere = replace(KEY, workspaces=("*",))
    assert principal_for(everywhere, None, _tables(), POLICY).workspace == "home"
    assert principal_for(everywhere, "v", _tables(), POLICY).workspace == "v"


def test_a_binding_gives_a_key_no_workspace_that_it_does_not_carry() -> None:
    tables = _tables(("home", "key:k1", "admin"), ("*", "key:k1", "admin"))
    with pytest.raises(Forbidden):
        principal_for(KEY, "home", tables, POLICY)


def test_unknown_deleted_and_foreign_workspaces_read_alike() -> None:
    told = set()
    for workspace in ("absent", "past", "v"):
        with pytest.raises(Forbidden) as refused:
            _ann(("w", "admin"), asked=workspace)
        told.add((refused.value.code, refused.value.message.replace(f"workspace {workspace};", "…")))
    assert len(told) == 1
    # Also for whoever has a role in all that exist.
    for workspace in ("absent", "past"):
        with pytest.raises(Forbidden) as refused:
            _ann(("*", "admin"), asked=workspace)
        told.add((refused.value.code, refused.value.message.replace(f"workspace {workspace};", "…")))
    assert len(told) == 1


# --- what it may do ------------------------------------------------------------------------------------------------------


def test_without_a_role_nothing_is_allowed() -> None:
    for asked in (None, "home", "w"):
        with pytest.raises(Forbidden):
            _ann(asked=asked)


def test_the_default_role_counts_in_the_default_workspace_alone() -> None:
    policy = AccessPolicy(home="home", default_role="viewer")
    assert _ann(policy=policy).permissions == ROLES["viewer"] - OF_THE_SYSTEM
    with pytest.raises(Forbidden):
        _ann(asked="w", policy=policy)
    with pytest.raises(Forbidden):
        principal_for(replace(KEY, grants=()), "w", _tables(), policy)


def test_in_a_suspended_workspace_what_runs_may_end_and_nothing_else_changes() -> None:
    left = _ann(("slow", "admin")).permissions
    ends = {Permission.AGENTS_CONNECT, Permission.TASKS_CLAIM}
    assert left == {found for found in ALL - OF_THE_SYSTEM if found.endswith(".read")} | {
        Permission.ACCESS_WRITE,
        Permission.AUDIT_VERIFY,
        Permission.PAYLOADS_ERASE,
        *ends,
    }
    worker = replace(KEY, workspaces=("slow",), grants=("agent",))
    assert principal_for(worker, None, _tables(), POLICY).permissions == {Permission.AGENTS_READ, *ends}


def test_an_administrator_by_setting_may_do_everything_everywhere() -> None:
    policy = AccessPolicy(home="home", admins=frozenset({"user:ann@x.example"}))
    for asked in (None, "v", "w"):
        assert _ann(asked=asked, policy=policy).permissions == ALL
    # A name of a group does not make its members administrators.
    group = AccessPolicy(home="home", admins=frozenset({"group:staff"}))
    with pytest.raises(Forbidden):
        _ann(policy=group)


def test_what_concerns_all_workspaces_takes_a_grant_in_all() -> None:
    assert _ann(("w", "admin")).permissions == ALL - OF_THE_SYSTEM
    assert _ann(("*", "admin"), asked="w").permissions == ALL
    own = replace(KEY, grants=("controlplane:system.read", "viewer"))
    assert not OF_THE_SYSTEM & principal_for(own, None, _tables(), POLICY).permissions
    scraper = replace(KEY, workspaces=("*",), grants=("controlplane:system.read",))
    assert principal_for(scraper, None, _tables(), POLICY).permissions == {Permission.SYSTEM_READ}


def test_a_workspace_cannot_give_its_own_role_the_system() -> None:
    role = CustomRole(workspace="w", name="ops", permissions=("controlplane:system.read", "controlplane:queue.read"))
    tables = _tables(("*", "user:ann@x.example", "ops"), roles=(role,))
    assert principal_for(ANN, "w", tables, POLICY).permissions == {Permission.QUEUE_READ}


def test_without_enforcement_everybody_may_do_everything_in_own_workspaces() -> None:
    policy = AccessPolicy(home="home", enforced=False)
    assert _ann(("w", "viewer"), policy=policy).permissions == ALL - OF_THE_SYSTEM
    with pytest.raises(Forbidden):
        _ann(("w", "viewer"), asked="v", policy=policy)


_WORKSPACES = st.sampled_from(["home", "v", "w", "slow", "past", "absent"])
_SUBJECTS = st.sampled_from([*ANN.subjects, "user:bob"])
_BOUND = st.lists(
    st.tuples(st.sampled_from(["home", "v", "w", "slow", "*"]), _SUBJECTS, st.sampled_from(list(ROLES))), max_size=6
)
_CREDENTIAL = st.sampled_from([(), ("w",), ("v", "w"), ("*",)])


@given(_BOUND, st.none() | _WORKSPACES, _CREDENTIAL, st.lists(st.sampled_from(list(ROLES)), max_size=2), st.booleans())
def test_a_principal_never_has_more_than_its_grants(
    bound: list[tuple[str, str, str]], asked: str | None, carried: tuple[str, ...], grants: list[str], default: bool
) -> None:
    """Whatever it asks for. Nor does a grant take anything away."""
    identity = replace(ANN, workspaces=carried, grants=tuple(grants) if carried else ())
    policy = AccessPolicy(home="home", default_role="viewer" if default else "")
    tables = _tables(*bound)
    try:
        found = principal_for(identity, asked, tables, policy)
    except ControlPlaneError:
        return
    assert asked in (None, found.workspace)
    assert STATES[found.workspace] is not DELETED
    assert not carried or {found.workspace, "*"} & set(carried)
    held = [
        role for workspace, subject, role in bound if workspace in (found.workspace, "*") and subject in ANN.subjects
    ]
    union = frozenset().union(*(ROLES[role] for role in [*held, *identity.grants]))
    if not held and not identity.grants:
        assert found.permissions <= ROLES["viewer"]
        assert (found.workspace, default, carried) == ("home", True, ())
        return
    assert found.permissions <= union
    if STATES[found.workspace] is ACTIVE:
        assert found.permissions >= union - OF_THE_SYSTEM
    more = principal_for(
        identity, found.workspace, _tables(*bound, (found.workspace, ANN.subjects[0], "operator")), policy
    )
    assert more.permissions >= found.permissions
