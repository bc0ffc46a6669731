"""Who may give what to whom, and which names subjects, roles and workspaces may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.api_key import SECRET_BYTES, digest_of, is_valid, parse_token, rotated, secret_of, token_of
from cluster.domain.access.granting import (
    check_may_grant,
    check_within,
    checked_role,
    checked_subject,
    checked_workspace,
    is_visible,
)
from cluster.domain.access.openid import PersonRules, person_of
from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM, Permission
from cluster.domain.access.principal import Principal, permissions_in
from cluster.domain.access.roles import ROLES, permissions_of
from cluster.domain.base.errors import Forbidden, InvalidRequest
from tests.support.access import a_key

some_permissions = st.frozensets(st.sampled_from(sorted(ALL)))


@given(own=some_permissions, everywhere=some_permissions, role=st.sampled_from(sorted(ROLES)))
def test_a_grant_is_within_what_its_giver_may_do_there(
    own: frozenset[Permission], everywhere: frozenset[Permission], role: str
) -> None:
    giver = Principal(id="user:x", workspace="w", permissions=own, everywhere=everywhere)
    for workspace, held in (("w", own | everywhere), ("v", everywhere), ("*", everywhere)):
        assert permissions_in(giver, workspace) == held
        try:
            check_may_grant(giver, [workspace], [role], {})
        except Forbidden:
            assert not _counting(role, workspace) <= held
        else:
            assert _counting(role, workspace) <= held
            assert _counting(role, workspace) <= permissions_of([role], {}) | {Permission.ACCESS_WRITE}


def _counting(role: str, workspace: str) -> frozenset[Permission]:
    """What a giver needs: in one workspace nobody has, or is given, what concerns all of them."""
    needed = ROLES[role] | {Permission.ACCESS_WRITE}
    return needed if workspace == "*" else needed - OF_THE_SYSTEM


@pytest.mark.parametrize("role", sorted(ROLES))
def test_the_administrator_of_one_workspace_grants_each_role_there(role: str) -> None:
    giver = Principal(id="user:x", workspace="w", permissions=ROLES["admin"] - OF_THE_SYSTEM)
    check_may_grant(giver, ["w"], [role], {})


def test_a_grant_in_several_workspaces_needs_the_right_in_each() -> None:
    giver = Principal(id="user:x", workspace="w", permissions=ALL)
    check_may_grant(giver, ["w"], ["viewer"], {})
    with pytest.raises(Forbidden, match="in the workspace v"):
        check_may_grant(giver, ["w", "v"], ["viewer"], {})
    with pytest.raises(Forbidden, match="in all workspaces"):
        check_within(giver, "*", [])


def test_a_key_is_visible_where_access_may_be_read() -> None:
    reader = Principal(id="user:x", workspace="w", permissions=frozenset({Permission.ACCESS_READ}))
    assert is_visible(reader, a_key(workspaces=("v", "w")))
    assert not is_visible(reader, a_key(workspaces=("v",)))
    assert not is_visible(reader, a_key(workspaces=("*",)))


def test_names_are_checked_and_addresses_lose_their_capitals() -> None:
    assert checked_subject("user:Ann@X.org") == "user:ann@x.org"
    assert checked_subject("group:/Admins") == "group:/Admins"
    assert checked_workspace("*", or_all=True) == "*"
    for check, names in (
        (checked_subject, ("ann", "user:", "role:x", "user:a b", "user:\u202ea", "group:" + "x" * 300)),
        (checked_role, ("", "Admin", "a.b", "a:b", "admin", "-x", "x" * 65)),
        (checked_workspace, ("*", "", "system", "a/b")),
    ):
        for name in names:
            with pytest.raises(InvalidRequest):
                check(name)


@pytest.mark.parametrize("sub", ["AbC-9", "auth0|Ann", "00uÄb"])
def test_whoever_logs_in_without_an_address_can_be_a_member(sub: str) -> None:
    name = person_of({"sub": sub}, PersonRules(groups_claim="groups"), "https://id.example/realm").principal
    assert checked_subject(name) == name


@given(entropy=st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES))
def test_a_token_is_read_as_it_was_made(entropy: bytes) -> None:
    assert parse_token(token_of("key0000001", secret_of(entropy))) == ("key0000001", secret_of(entropy))


def test_after_a_rotation_the_secret_before_counts_for_a_time() -> None:
    key = a_key(digests=(digest_of("1"),))
    key = rotated(rotated(key, "2", overlap_until=10.0), "3", overlap_until=20.0)
    assert [is_valid(key, secret, 15.0) for secret in "123"] == [False, True, True]
    assert [is_valid(key, secret, 20.0) for secret in "123"] == [False, False, True]
