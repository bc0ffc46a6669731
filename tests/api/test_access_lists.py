"""Lists of keys, members and workspaces by pages: each entry once, whatever is added meanwhile, and no other workspace's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve_app.http.paging import encode_names
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.stores import StoreUrls

W = "research"


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, ()) as door:
        await door.call("POST", "/workspaces", {"id": W})
        yield door


async def _pages(door: Authenticated, path: str, name: str, headers: dict[str, str] | None = None) -> list[list[Any]]:
    """All pages of two entries."""
    pages, cursor = [], ""
    while True:
        page = await door.call("GET", f"{path}?limit=2{cursor}", headers=headers)
        assert (page["limit"], page["total_exact"]) == (2, True)
        pages.append(page[name])
        if page["next_cursor"] is None:
            assert sum(map(len, pages)) == page["total"]
            return pages
        cursor = f"&cursor={page['next_cursor']}"


async def test_keys_are_read_page_by_page(door: Authenticated) -> None:
    made = [(await door.key("viewer", workspace=workspace)).split("_")[1] for workspace in (W, "default", W, W, "*")]
    pages = await _pages(door, "/keys", "keys")
    assert [key["id"] for page in pages for key in page] == made
    assert [len(page) for page in pages] == [2, 2, 1]
    whole = await door.call("GET", "/keys")
    assert [key["id"] for key in whole["keys"]] == made


async def test_who_manages_one_workspace_gets_its_keys_alone(door: Authenticated) -> None:
    for workspace in (W, "default", W, "*"):
        await door.key("viewer", workspace=workspace)
    keeper = bearer(await door.key("admin", workspace=W))
    pages = await _pages(door, "/keys", "keys", keeper)
    assert [(len(page), {*page[0]["workspaces"]}) for page in pages] == [(2, {W}), (1, {W})]
    (workspaces,) = await _pages(door, "/workspaces", "workspaces", keeper)
    assert [each["id"] for each in workspaces] == [W]
    after = f"/workspaces?cursor={encode_names(W)}"
    assert (await door.call("GET", after, headers=keeper))["workspaces"] == []


async def test_what_is_added_between_pages_moves_no_entry(door: Authenticated) -> None:
    members = [("group:b", "viewer"), ("user:a@example.com", "operator"), ("user:a@example.com", "viewer")]
    for subject, role in members:
        await door.call("PUT", f"/workspaces/{W}/members", {"subject": subject, "role": role})
    first = await door.call("GET", f"/workspaces/{W}/members?limit=2")
    await door.call("PUT", f"/workspaces/{W}/members", {"subject": "group:a", "role": "viewer"})
    second = await door.call("GET", f"/workspaces/{W}/members?limit=2&cursor={first['next_cursor']}")
    assert [(each["subject"], each["role"]) for each in first["members"] + second["members"]] == members
    assert second["next_cursor"] is None
    assert len(await _pages(door, f"/workspaces/{W}/members", "members")) == 3


async def test_workspaces_are_read_page_by_page(door: Authenticated) -> None:
    for name in ("a", "b", "z"):
        await door.call("POST", "/workspaces", {"id": name})
    await door.call("DELETE", "/workspaces/b")
    pages = await _pages(door, "/workspaces", "workspaces")
    assert [each["id"] for page in pages for each in page] == ["a", "default", W, "z"]


@pytest.mark.parametrize("path", ["/keys", "/workspaces", f"/workspaces/{W}/members"])
@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "W10",
        encode_names("a", "b", "c"),
        encode_names("\ud800"),
        encode_names("a", "\ud800"),
        "%00",
        "WzFd",
        "WzEsMl0",
    ],
)
async def test_a_cursor_of_somebody_else_is_refused(door: Authenticated, path: str, cursor: str) -> None:
    answer = await door.api.call("GET", f"{path}?cursor={cursor}", headers=door.admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
