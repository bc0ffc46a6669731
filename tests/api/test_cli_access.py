"""``aragora-cp keys``, ``workspaces`` and ``members`` against a running API and its database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cluster.domain.access.api_key import is_valid, parse_token
from cluster.domain.access.roles import ROLES
from tests.api.test_cli import _one_sentence, _run
from tests.support.api import Api, api_settings
from tests.support.openid import login_ground
from tests.support.principals import TokenTable, bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

#: A process of its own for every command.
pytestmark = pytest.mark.slow


async def test_access_is_managed_from_the_command_line(api: Api) -> None:
    url = api.url
    assert (await _run(url, "workspaces", "create", "w1", "--name", "The first")).out == "Created w1.\n"
    key, added = await asyncio.gather(
        _run(
            *(url, "keys", "create", "Of the build", "--grants", "submitter,agent", "--workspaces", "w1"),
            *("--agent", "adder", "--agent", "adder-2"),
        ),
        _run(url, "members", "add", "w1", "user:Ann@x.org", "viewer"),
    )
    parsed = parse_token(key.out.strip())
    assert parsed is not None, key
    assert added.out == "user:ann@x.org is viewer in w1.\n"
    listed, members, rotated, suspended = await asyncio.gather(
        _run(url, "keys", "list"),
        _run(url, "members", "list", "w1", "--json"),
        _run(url, "keys", "rotate", parsed[0], "--overlap", "0"),
        _run(url, "workspaces", "suspend", "w1"),
    )
    assert [word in listed.out for word in (parsed[0], "Of the build", "submitter,agent", "adder,adder-2")] == [
        True
    ] * 4
    assert parsed[1] not in listed.out + listed.err
    assert [member["role"] for member in members.json["members"]] == ["viewer"]
    stored = api.gateway.access.key(parsed[0])
    assert stored is not None
    again = parse_token(rotated.out.strip())
    assert again is not None
    assert is_valid(stored, again[1], api.gateway.clock.now())
    assert suspended.out == "Suspended w1.\n"
    removed, revoked, resumed = await asyncio.gather(
        _run(url, "members", "remove", "w1", "user:ann@x.org", "viewer"),
        _run(url, "keys", "revoke", parsed[0]),
        _run(url, "workspaces", "resume", "w1"),
    )
    assert (removed.out, revoked.out, resumed.out) == ("Removed.\n", f"Revoked {parsed[0]}.\n", "Resumed w1.\n")
    deleted, table = await _run(url, "workspaces", "delete", "w1"), await _run(url, "workspaces", "list")
    assert (deleted.out, "w1" in table.out, "default" in table.out) == ("Deleted w1.\n", False, True)


async def test_the_first_key_is_made_on_the_host_and_counts_at_once(store_urls: StoreUrls, schema: str) -> None:
    """As docs/access.md has it, on a system where nobody is let in by the API: the next command uses the key."""
    settings = api_settings(store_urls, schema).model_copy(update={"auth_enabled": True})
    host = {"ARAGORA_DATABASE_URL": store_urls.database, "ARAGORA_DATABASE_SCHEMA": schema}
    host["ARAGORA_REGION"] = settings.region
    command = ("keys", "create", "--bootstrap")
    async with Api(settings).running() as api:
        first = await _run(api.url, *command, **host)
        key_id, secret = parse_token(first.out.strip()) or ("", "")
        listed = await _run(api.url, "keys", "list", ARAGORA_API_KEY=first.out.strip())
        assert (listed.code, key_id in listed.out) == (0, True), (first, listed)
        stored = api.gateway.access.key(key_id)
        assert stored is not None
        assert is_valid(stored, secret, api.gateway.clock.now())
        assert (stored.workspaces, [ROLES[grant] for grant in stored.grants]) == (("*",), [ROLES["admin"]])
        admin = {"ARAGORA_API_KEY": first.out.strip()}
        await _run(api.url, "workspaces", "create", "w1", **admin)
        submitted = await _run(api.url, "tasks", "submit", "in-w1", ARAGORA_CLIENT_WORKSPACE="w1", **admin)
        there, here, odd = await asyncio.gather(
            _run(api.url, "tasks", "list", ARAGORA_CLIENT_WORKSPACE="w1", **admin),
            _run(api.url, "tasks", "list", **admin),
            _run(api.url, "tasks", "list", ARAGORA_CLIENT_WORKSPACE="w 1", **admin),
        )
        task_id = submitted.out.strip()
        assert (submitted.code, task_id in there.out, task_id in here.out) == (0, True, False), (submitted, there, here)
        _one_sentence(odd, 1, "ARAGORA_CLIENT_WORKSPACE")
        second, both, nothing, nameless, nowhere = await asyncio.gather(
            _run(api.url, *command, **host),
            _run(api.url, *command, "--grants", "viewer", **host),
            _run(api.url, "keys", "create", "Mine"),
            _run(api.url, "keys", "create", "--grants", "viewer"),
            _run(api.url, *command),
        )
    _one_sentence(second, 1, "There is an administrator already")
    assert (both.code, nothing.code, nameless.code) == (2, 2, 2)
    _one_sentence(nowhere, 1, "ARAGORA_DATABASE_URL")


async def test_a_first_key_of_another_database_than_the_apis_is_told(api: Api) -> None:
    api.app.state.resolver = TokenTable({})
    assert api.settings.database_url is not None
    host = {
        "ARAGORA_DATABASE_URL": api.settings.database_url.get_secret_value(),
        "ARAGORA_DATABASE_SCHEMA": api.settings.database_schema,
        "ARAGORA_REGION": api.settings.region,
    }
    first = await _run(api.url, "keys", "create", "Mine", "--bootstrap", **host)
    assert (first.code, parse_token(first.out.strip()) is not None) == (0, True)
    assert "does not take the key yet" in first.err


async def test_a_person_logs_in_and_out_from_the_command_line(store_urls: StoreUrls, tmp_path: Path) -> None:
    kept = tmp_path / "config" / "credentials.json"
    file = {"ARAGORA_CREDENTIALS_FILE": str(kept)}
    async with login_ground(store_urls) as ground:
        url = ground.api.url
        assert (await _run(url, "tasks", "list", **file)).code == 1
        ground.provider.answers["/token"] = 400, json.dumps({"error": "authorization_pending"}).encode()
        confirmed = asyncio.create_task(_run(url, "login", **file))
        await eventually(lambda: len(ground.provider.asked) >= 2, what="it has asked before anybody confirmed")
        ground.provider.answers.clear()
        done = await confirmed
        assert (done.code, "Logged in as user:ann@example.com." in done.out) == (0, True), done
        assert f"Open {ground.provider.url}/confirm in a browser and type ABCD." in done.out
        assert kept.stat().st_mode & 0o777 == 0o600
        token = json.loads(kept.read_text())[url]
        assert token not in done.out + done.err
        listed, elsewhere, keyed = await asyncio.gather(
            _run(url, "tasks", "list", **file),
            _run(url.replace("127.0.0.1", "localhost"), "tasks", "list", **file),
            _run(url, "tasks", "list", ARAGORA_API_KEY="ara_aaaaaaaaaa_x", **file),
        )
        assert (listed.code, elsewhere.code, keyed.code) == (0, 1, 1), (listed, elsewhere, keyed)
        out, again = await _run(url, "logout", **file), await _run(url, "logout", **file)
        assert (out.out, again.out) == ("Logged out.\n", "Nobody is logged in.\n")
        assert (await ground.api.call("GET", "/tasks", headers=bearer(token))).status_code == 401
        assert (await _run(url, "login", **file)).code == 0
        await ground.api.call("POST", "/auth/logout", headers=bearer(json.loads(kept.read_text())[url]))
        assert (await _run(url, "logout", **file)).out == "The session had ended already.\n"
        for error, words in (("access_denied", "denied"), ("expired_token", "in time")):
            ground.provider.answers["/token"] = 400, json.dumps({"error": error}).encode()
            refused = await _run(url, "login", **file)
            assert (refused.code, refused.err.count("\n"), words in refused.err) == (1, 1, True), refused
        assert json.loads(kept.read_text()) == {}
        kept.chmod(0o644)
        _one_sentence(await _run(url, "tasks", "list", **file), 5, "chmod 600")


async def test_logging_in_where_nobody_can_is_a_sentence(api: Api, tmp_path: Path) -> None:
    done = await _run(api.url, "login", ARAGORA_CREDENTIALS_FILE=str(tmp_path / "c"))
    _one_sentence(done, 1, "ARAGORA_OAUTH_ENABLED")
