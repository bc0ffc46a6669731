"""Ids that clients choose for deliberations: of different workspaces they never meet."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from cluster.domain.base.ids import ID_PATTERN, check_id
from cluster.domain.deliberation.request_ids import request_id_in

_IDS = st.from_regex(f"^{ID_PATTERN}$", fullmatch=True)
_WORKSPACES = st.sampled_from(["home", "v", "w"])
HOME = "home"


@given(_WORKSPACES, _WORKSPACES, _IDS, _IDS)
@example("home", "v", request_id_in("v", HOME, "x"), "x")
@example("v", "w", "x" * 128, "x" * 128)
def test_two_stored_ids_are_equal_in_one_workspace_only(first: str, second: str, one_id: str, other_id: str) -> None:
    stored = request_id_in(first, HOME, one_id), request_id_in(second, HOME, other_id)
    if first != second:
        assert stored[0] != stored[1]
    for workspace, stored_id in zip((first, second), stored, strict=True):
        assert check_id(stored_id, "request_id") == stored_id
        assert request_id_in(workspace, HOME, stored_id) == stored_id


@given(_IDS, _IDS)
@example("x" * 128, "x" * 127 + "y")
def test_different_ids_of_one_workspace_stay_different(first: str, second: str) -> None:
    assert (request_id_in("v", HOME, first) == request_id_in("v", HOME, second)) is (first == second)


def test_ids_of_the_default_workspace_stay_as_earlier_builds_stored_them() -> None:
    assert request_id_in(HOME, HOME, "review-17") == "review-17"
    assert request_id_in("v", HOME, "review-17").startswith("review-17.w-")
