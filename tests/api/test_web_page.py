"""The web page as it is served: to whom, with which headers, at which addresses, and what it is told about its caller."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator

import pytest

from cluster.domain.access.permissions import ALL, Permission
from scripts.web_page import SOURCE
from serve_app.ui.bundle import BUNDLE
from serve_app.ui.pages import ADDRESSES, POLICY
from tests.api.test_security_headers import bare
from tests.support.api import CP, Api
from tests.support.authenticated import Authenticated, authenticated
from tests.support.bearer_tables import own_token
from tests.support.principals import bearer
from tests.support.stores import StoreUrls

#: What Chromium sends when a person opens an address.
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
PATHS = [address.replace("{id}", "task_01%20x") for address in ADDRESSES]


@pytest.mark.parametrize("path", [*PATHS, "/queue?status=failed&where=id~x"])
async def test_a_browser_gets_the_page_at_each_address(path: str) -> None:
    async with bare() as client:
        answer = await client.get(path, headers=BROWSER)
        head = await client.head(path, headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-cache", "nosniff")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert {"Accept", "Accept-Encoding"} <= set(answer.headers["vary"].split(", "))
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream", None])
@pytest.mark.parametrize("path", PATHS)
async def test_a_program_gets_no_page_instead_of_an_answer(path: str, accept: str | None) -> None:
    async with bare() as client:
        client.headers.pop("accept")
        answer = await client.get(path, headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/tasks", "/tasks/a/b", CP, f"{CP}/queues", f"{CP}/nothing/x", "/api", "/assets/", "/assets/x.js"],
)
async def test_what_neither_has_stays_a_404_in_json(path: str) -> None:
    async with bare() as client:
        answer = await client.get(path, headers=BROWSER)
    assert (answer.status_code, set(answer.json())) == (404, {"error", "code", "trace_id"})


@pytest.mark.parametrize("name", ["..%2findex.html", "%2e%2e%2findex.html", "..%2f..%2fpages.py", "index.html"])
async def test_no_other_file_is_served(name: str) -> None:
    async with bare() as client:
        assert (await client.get(f"/assets/{name}")).status_code == 404


async def test_its_files_are_kept_for_ever_and_packed_if_asked() -> None:
    async with bare() as client:
        shown = (await client.get("/", headers=BROWSER)).text
        names = re.findall(r'(?:src|href)="(/[^"]*)"', shown)
        assert len(names) == 3
        for name in names:
            packed, plain = [
                await client.get(name, headers={"Accept-Encoding": each}) for each in ("gzip, br", "identity")
            ]
            assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert (packed.headers["content-encoding"], packed.headers["x-content-type-options"]) == ("gzip", "nosniff")
            assert "content-encoding" not in plain.headers
            assert packed.content == plain.content == (BUNDLE / name.removeprefix("/")).read_bytes()
            assert re.search(r"-[\w-]{8}\.\w+$", name), "its name has no digest"


def test_nothing_in_it_is_inline_or_elsewhere() -> None:
    shown = (BUNDLE / "index.html").read_text()
    assert re.findall(r"<script[^>]*>(.+?)</script>", shown) == []
    assert not re.search(r"<style|style=|\son\w+=|https?:|//[a-z]", shown)


def test_the_addresses_are_those_of_the_source() -> None:
    routes = re.findall(r'<Route path="([^"]+)"', (SOURCE / "src" / "App.tsx").read_text())
    assert sorted(routes) == sorted(address.replace("{id}", ":id") for address in ADDRESSES)


def test_its_files_fit_into_a_quarter_of_a_megabyte() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in BUNDLE.rglob("*") if path.is_file()}
    assert 30_000 < sum(sizes.values()) <= 250_000, sizes


# --- what it is told about its caller -------------------------------------------------------------------------------------


async def test_without_authentication_the_caller_may_everything(api: Api) -> None:
    found = await api.get("/auth/caller")
    assert (found["principal"], found["workspace"], found["workspaces"]) == ("user:local-admin", "default", ["default"])
    assert set(found["permissions"]) == {str(each) for each in ALL}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as found:
        yield found


async def test_a_key_is_told_its_own_permissions_and_workspaces(door: Authenticated) -> None:
    for workspace in ("b", "c", "former"):
        await door.call("POST", "/workspaces", {"id": workspace})
    key = bearer(await door.key("viewer", workspaces=["b", "default", "former"]))
    await door.call("DELETE", "/workspaces/former")
    found = await door.call("GET", "/auth/caller", headers=key)
    assert (found["workspace"], found["roles"], found["workspaces"]) == ("b", ["viewer"], ["b", "default"])
    assert Permission.TASKS_READ in found["permissions"]
    assert Permission.TASKS_WRITE not in found["permissions"]
    named = {**key, "X-Aragora-Workspace": "default"}
    assert (await door.call("GET", "/auth/caller", headers=named))["workspace"] == "default"
    refused = await door.api.call("GET", "/auth/caller", headers={**key, "X-Aragora-Workspace": "c"})
    assert refused.status_code == 403
    everywhere = await door.call("GET", "/auth/caller")
    assert everywhere["workspaces"] == ["b", "c", "default"]
    assert (await door.api.call("GET", "/auth/caller")).status_code == 401
    await door.call("PATCH", "/workspaces/b", {"state": "suspended"})
    suspended = await door.call("GET", "/auth/caller", headers=key)
    assert (suspended["suspended"], suspended["workspaces"]) == (False, ["b", "default"])


async def test_who_has_several_workspaces_is_told_them_before_naming_one(door: Authenticated) -> None:
    person = bearer(own_token(door.clock, "ann@example.com", jti="of Ann"))
    for workspace in ("b", "c"):
        await door.call("POST", "/workspaces", {"id": workspace})
        await door.call(
            "PUT", f"/workspaces/{workspace}/members", {"subject": "user:ann@example.com", "role": "operator"}
        )
    found = await door.call("GET", "/auth/caller", headers=person)
    assert (found["principal"], found["workspace"], found["permissions"]) == ("user:ann@example.com", None, [])
    assert found["workspaces"] == ["b", "c", "default"]  # there it has the role of whoever has no other
