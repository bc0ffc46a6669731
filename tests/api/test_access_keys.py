"""API keys over HTTP: a token is shown once and stored nowhere, whatever is repeated, rotated or revoked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.domain.access.api_key import is_valid, parse_token
from cluster.domain.access.permissions import ALL
from cluster.domain.access.principal import Principal
from tests.support.api import Api
from tests.support.principals import TokenTable, bearer

KEY = {"name": "Of the build", "grants": ["submitter"]}


@pytest.fixture
async def keys(api: Api) -> Api:
    for name in ("a", "b"):
        await api.post("/workspaces", {"id": name})
    api.app.state.resolver = TokenTable(
        {"root": Principal(id="user:root", workspace="default", permissions=ALL, everywhere=ALL)}
        | {name: Principal(id=f"user:{name}", workspace=name[0], permissions=ALL) for name in ("a", "b", "a-second")}
    )
    return api


async def _call(api: Api, who: str, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
    headers = bearer(who) | ({} if key is None else {"Idempotency-Key": key})
    response = await api.call(method, path, body, headers=headers)
    return response.json() | {"status": response.status_code}


def _counts(api: Api, token: str) -> bool:
    parsed = parse_token(token)
    assert parsed is not None, token
    stored = api.gateway.access.key(parsed[0])
    return stored is not None and is_valid(stored, parsed[1], api.gateway.clock.now())


async def _whole_database(api: Api) -> str:
    """Every row of every table, as text."""
    tables = await api.stores.pool.rows(
        "select table_name from information_schema.tables where table_schema = $1", api.settings.database_schema
    )
    rows = [await api.stores.pool.rows(f"select t::text from {each['table_name']} t") for each in tables]
    return "\n".join(row["t"] for found in rows for row in found)


async def test_a_token_is_shown_once_and_its_secret_is_stored_nowhere(keys: Api) -> None:
    made = await _call(keys, "a", "POST", "/keys", KEY, key="1")
    assert (made["status"], made["state"], made["workspaces"], made["grants"]) == (201, "valid", ["a"], ["submitter"])
    assert _counts(keys, made["token"])
    again = await _call(keys, "a", "POST", "/keys", KEY, key="1")
    assert (again["status"], again["id"], again["token"]) == (201, made["id"], None)
    assert "rotate the key" in again["notice"]
    rotated = await _call(keys, "a", "POST", f"/keys/{made['id']}/rotate", key="2")
    repeated = await _call(keys, "a", "POST", f"/keys/{made['id']}/rotate", key="2")
    assert (repeated["status"], repeated["token"], repeated["overlap_until"]) == (200, None, rotated["overlap_until"])
    listed = await _call(keys, "a", "GET", "/keys")
    assert [each["id"] for each in listed["keys"]] == [made["id"]]
    everything = await _whole_database(keys) + str(listed) + repr(keys.gateway.access.key(made["id"]))
    for token in (made["token"], rotated["token"]):
        assert token.rpartition("_")[2] not in everything
    stored = keys.gateway.access.key(made["id"])
    assert stored is not None
    assert stored.digests[0].hex() in await _whole_database(keys), "the search finds what is there"
    rows = str(await keys.rows())
    assert [digest for digest in stored.digests if digest.hex() in rows] == []


async def test_a_rotated_secret_counts_as_long_as_the_overlap(keys: Api) -> None:
    first = (await _call(keys, "a", "POST", "/keys", KEY))["token"]
    path = f"/keys/{first.split('_')[1]}/rotate"
    second = (await _call(keys, "a", "POST", path, {"overlap_seconds": 60}))["token"]
    assert [_counts(keys, token) for token in (first, second)] == [True, True]
    third = (await _call(keys, "a", "POST", path, {"overlap_seconds": 0}))["token"]
    assert [_counts(keys, token) for token in (first, second, third)] == [False, False, True]


async def test_a_revoked_key_counts_no_more_and_cannot_be_rotated(keys: Api) -> None:
    made = await _call(keys, "a", "POST", "/keys", KEY)
    revoked = await _call(keys, "a", "DELETE", f"/keys/{made['id']}")
    assert (revoked["status"], revoked["state"], _counts(keys, made["token"])) == (200, "revoked", False)
    assert await _call(keys, "a", "DELETE", f"/keys/{made['id']}") == revoked
    refused = await _call(keys, "a", "POST", f"/keys/{made['id']}/rotate")
    assert (refused["status"], refused["code"]) == (409, "key_revoked")
    expired = await _call(keys, "a", "POST", "/keys", KEY | {"expires_in_seconds": 0.001})
    refused = await _call(keys, "a", "POST", f"/keys/{expired['id']}/rotate")
    assert (refused["status"], refused["code"]) == (409, "key_expired")


async def test_calls_at_once_under_one_idempotency_key_make_one_key(keys: Api) -> None:
    made = await asyncio.gather(*(_call(keys, "a", "POST", "/keys", KEY, key="1") for _ in range(6)))
    assert {each["status"] for each in made} == {201}
    assert len({each["id"] for each in made}) == 1
    (token,) = [each["token"] for each in made if each["token"] is not None]
    assert _counts(keys, token)
    other_body = await _call(keys, "a", "POST", "/keys", KEY | {"grants": ["viewer"]}, key="1")
    assert (other_body["status"], other_body["code"]) == (409, "idempotency_conflict")
    second = await _call(keys, "a-second", "POST", "/keys", KEY, key="1")
    assert second["id"] != made[0]["id"], "another caller of the workspace has keys of its own"
    assert second["token"] is not None
    assert (await _call(keys, "a", "GET", "/keys"))["total"] == 2


async def test_a_key_that_was_made_is_known_after_its_answer_was_forgotten(keys: Api) -> None:
    made = await _call(keys, "a", "POST", "/keys", KEY, key="1")
    await keys.stores.pool.execute("delete from idempotency")
    again = await _call(keys, "a", "POST", "/keys", KEY, key="1")
    assert (again["id"], again["token"]) == (made["id"], None)
    await keys.stores.pool.execute("delete from idempotency")
    other = await _call(keys, "a", "POST", "/keys", KEY | {"grants": ["viewer"]}, key="1")
    assert (other["status"], other["code"]) == (409, "idempotency_conflict")


async def test_a_key_of_two_workspaces_shows_to_each_its_own(keys: Api) -> None:
    made = await _call(keys, "root", "POST", "/keys", KEY | {"workspaces": ["a", "b"]})
    assert made["workspaces"] == ["a", "b"]
    assert [each["workspaces"] for each in (await _call(keys, "b", "GET", "/keys"))["keys"]] == [["b"]]
    refused = await _call(keys, "b", "DELETE", f"/keys/{made['id']}")
    assert (refused["status"], refused["code"]) == (403, "forbidden"), "it acts in a workspace of others too"
    everywhere = await _call(keys, "root", "POST", "/keys", KEY | {"workspaces": ["*"]})
    assert (await _call(keys, "b", "DELETE", f"/keys/{everywhere['id']}"))["status"] == 404
    listed = await _call(keys, "root", "GET", "/keys")
    assert [each["id"] for each in listed["keys"]] == [made["id"], everywhere["id"]]


async def test_a_key_says_that_its_workspace_is_suspended_or_deleted(keys: Api) -> None:
    of_a = await _call(keys, "a", "POST", "/keys", KEY)
    of_both = await _call(keys, "root", "POST", "/keys", KEY | {"workspaces": ["a", "b"]})
    of_all = await _call(keys, "root", "POST", "/keys", KEY | {"workspaces": ["*"]})
    assert [each["state_detail"] for each in (of_a, of_both, of_all)] == [None, None, None]

    async def listed() -> dict[str, tuple[str, str]]:
        found = (await _call(keys, "root", "GET", "/keys"))["keys"]
        return {each["id"]: (each["state"], each["state_detail"] or "") for each in found}

    await _call(keys, "root", "PATCH", "/workspaces/a", {"state": "suspended"})
    for key in (of_a, of_both):
        state, detail = (await listed())[key["id"]]
        assert (state, detail.startswith("The workspace a is suspended")) == ("valid", True)
    assert (await _call(keys, "root", "POST", f"/keys/{of_a['id']}/rotate"))["status"] == 200, "access may change"
    ended = await _call(keys, "a", "POST", "/keys", KEY)
    await _call(keys, "root", "DELETE", f"/keys/{ended['id']}")
    assert (await listed())[ended["id"]] == ("revoked", ""), "it cannot even read"
    await _call(keys, "root", "PATCH", "/workspaces/a", {"state": "active"})
    assert (await listed())[of_a["id"]] == ("valid", "")

    await _call(keys, "root", "DELETE", "/workspaces/a")
    state, detail = (await listed())[of_a["id"]]
    assert (state, detail.startswith("The workspace a was deleted")) == ("workspace_deleted", True)
    assert (await listed())[of_both["id"]][0] == "valid", "it acts in b"
    assert (await listed())[of_all["id"]] == ("valid", "")
    refused = await _call(keys, "root", "POST", f"/keys/{of_a['id']}/rotate")
    assert (refused["status"], refused["code"]) == (409, "workspace_deleted")
    revoked = await _call(keys, "root", "DELETE", f"/keys/{of_a['id']}")
    assert (revoked["status"], revoked["state"]) == (200, "revoked")
