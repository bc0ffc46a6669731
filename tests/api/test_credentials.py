"""Credentials over the API and the command line: never shown, rotated with overlap, and sent by the agents' hosts."""

from __future__ import annotations

import json
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from actors.roles import AGENT_HOST
from cluster.cli.main import app
from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.access.sealing import Sealer
from cluster.postgres.secrets import PostgresSecrets
from cluster.telemetry.log_files import API, begin_logging, end_logging
from tests.support.api import Api, in_thread
from tests.support.called_agents import ended_task
from tests.support.endpoints import completion, serving
from tests.support.principals import TokenTable, bearer, principal

ROOT = Path(__file__).parents[2]
SECRET = "planted-0123-in-a-credential"
NEXT = "planted-4567-in-a-credential"


def _agent(url: str, **fields: Any) -> dict[str, Any]:
    model = {"agent_id": "m", "transport": "openai", "endpoint": url, "model": "m"}
    return model | {"credential": {"name": "c1"}} | fields


async def _asked(api: Api) -> dict[str, Any]:
    body = {"task_type": "chat", "payload": {"prompt": "Tell."}, "target_agent": "m", "max_retries": 0}
    return await ended_task(api, (await api.post("/tasks", body))["task_id"])


async def test_a_credential_is_sent_rotated_and_deleted(api: Api) -> None:
    heard: list[str] = []

    def answer(request: Any) -> httpx.Response:
        heard.append(request.headers.get("authorization", ""))
        return completion("yes") if heard[-1] == f"Bearer {SECRET}" else httpx.Response(401)

    made = await api.post("/credentials", {"name": "c1", "secret": SECRET})
    assert (made["revision"], made["overlap_until"]) == (1, None)
    async with serving(answer) as url:
        agent = await api.post("/agents", _agent(url))
        assert agent["credential"] == {"name": "c1", "send": "bearer"}
        assert (await api.post("/agents", _agent(url, credential=agent["credential"])))["credential"] == {
            "name": "c1",
            "send": "bearer",
        }, "what is shown can be sent again"
        assert (await _asked(api))["status"] == "completed"
        rotated = await api.post("/credentials/c1/rotate", {"secret": NEXT, "overlap_seconds": 600})
        assert (rotated["revision"], rotated["overlap_until"] > rotated["changed_at"]) == (2, True)
        assert (await _asked(api))["status"] == "completed"
        assert [text.removeprefix("Bearer ") for text in heard if text] == [SECRET, NEXT, SECRET]
        assert (await api.call("DELETE", "/credentials/c1")).json() == {"deleted": True}
        failed = await _asked(api)
    assert "There is no credential c1" in failed["error"]
    kinds = [row.kind for row in await api.rows() if row.entity == "c1"]
    assert kinds == ["credential.set", "credential.rotated", "credential.deleted"]
    registered = next(row for row in await api.rows("m") if row.kind == "agent.registered")
    assert registered.data["credential"] == "c1"


async def test_the_secret_is_nowhere_but_sealed(api: Api, tmp_path: Path) -> None:
    begin_logging("api", API, "debug", directory=tmp_path, most_bytes=10_000_000, secrets=api.settings.secrets())
    try:

        def echo(request: Any) -> httpx.Response:
            logging.getLogger("aragora").info("the agent was called")
            return httpx.Response(400, json={"error": {"message": f"bad key {request.headers['authorization']}"}})

        answers = [await api.call("POST", "/credentials", {"name": "c1", "secret": SECRET})]
        async with serving(echo) as url:
            answers.append(await api.call("POST", "/agents", _agent(url)))
            task = await _asked(api)
            assert "bad key" in task["error"]
            answers += [
                await api.call("GET", path)
                for path in (
                    "/credentials",
                    "/credentials/c1",
                    "/agents/m",
                    f"/tasks/{task['id']}",
                    f"/tasks/{task['id']}/explain",
                    f"/story/{task['id']}",
                    "/audit",
                    "/stats",
                )
            ]
        for body in ({"name": "c1", "secret": SECRET, "odd": 1}, {"name": "c 1", "secret": SECRET}, {"secret": SECRET}):
            answers.append(await api.call("POST", "/credentials", body))
            assert answers[-1].status_code == 400
        answers.append(await api.call("POST", "/credentials/c1/rotate", {"secret": SECRET + "\0"}))
    finally:
        end_logging()
    told = [f"{answer.request.url} {answer.text}" for answer in answers if SECRET in answer.text]
    told += _files_with(tmp_path, SECRET)
    tables = await api.stores.pool.rows(
        "select table_name as name from information_schema.tables where table_schema = current_schema()"
    )
    for table in tables:
        rows = await api.stores.pool.rows(f"select t::text as text from {table['name']} t")
        told += [table["name"] for row in rows if SECRET in row["text"] or SECRET.encode().hex() in row["text"]]
    assert len(tables) > 20
    assert told == []


def _files_with(directory: Path, text: str) -> list[str]:
    return [file.name for file in directory.iterdir() if text in file.read_text()]


async def test_repeats_are_answered_alike_and_others_refused(api: Api) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"name": "c1", "secret": SECRET}
    first = await api.call("POST", "/credentials", body, headers=key)
    await api.post("/credentials/c1/rotate", {"secret": NEXT})
    again = await api.call("POST", "/credentials", body, headers=key)
    assert again.json() == first.json()
    assert (await api.get("/credentials/c1"))["revision"] == 2, "a repeat brings no old secret back"
    other = await api.call("POST", "/credentials", body | {"secret": NEXT}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    same = await api.post("/credentials/c1/rotate", {"secret": NEXT})
    assert same["revision"] == 2
    back = await api.call("POST", "/credentials/c1/rotate", {"secret": SECRET})
    assert (back.status_code, back.json()["code"]) == (409, "credential_rotated")


async def test_a_choice_that_does_not_fit_is_refused(api: Api) -> None:
    await api.post("/credentials", {"name": "c1", "secret": SECRET})
    await api.post("/credentials", {"name": "limited", "secret": SECRET, "origins": ["https://api.example.com"]})
    for choice, code in (
        ({"name": "absent"}, "credential_missing"),
        ({"name": "c1", "send": "basic"}, "invalid_credential"),
        ({"name": "c1", "send": "basic", "user": "a:b"}, "invalid_credential"),
        ({"name": "c1", "user": "u"}, "invalid_credential"),
        ({"name": "c1", "header": "Host"}, "invalid_credential"),
        ({"name": "c1", "header": "x y"}, "invalid_credential"),
        ({"name": "c1", "send": "certificate"}, "invalid_credential"),
        ({"name": "c1", "send": "signature", "key_id": '"'}, "invalid_credential"),
        ({"name": "limited"}, "credential_origin"),
    ):
        answer = await api.call("POST", "/agents", _agent("http://127.0.0.1:9/v1", credential=choice))
        assert (answer.status_code, answer.json()["code"]) == (400, code), choice
    pull = await api.call("POST", "/agents", {"agent_id": "p", "credential": {"name": "c1"}})
    assert (pull.status_code, pull.json()["code"]) == (400, "invalid_credential")


async def test_who_may_not_use_a_credential_leads_it_nowhere(api: Api) -> None:
    await api.post("/credentials", {"name": "c1", "secret": SECRET})
    await api.post("/agents", _agent("http://127.0.0.1:9/v1"))
    limited = principal("limited", "default", ALL - {Permission.CREDENTIALS_USE, Permission.CREDENTIALS_WRITE})
    api.app.state.resolver = TokenTable({"limited": limited})
    by = bearer("limited")
    for path, body in (
        ("/agents", _agent("http://127.0.0.1:8/v1")),
        ("/agents/batch", {"agents": [_agent("http://127.0.0.1:8/v1")]}),
        ("/credentials", {"name": "c2", "secret": SECRET}),
    ):
        assert (await api.call("POST", path, body, headers=by)).status_code == 403, path
    known = (await api.call("GET", "/agents/m", headers=by)).json()
    assert (known["endpoint"], known["credential"]["name"]) == ("http://127.0.0.1:9/v1", "c1")
    plain = _agent("http://127.0.0.1:8/v1", credential=None)
    assert (await api.call("POST", "/agents", plain, headers=by)).json()["credential"] is None


async def test_an_origin_is_a_scheme_a_host_and_a_port(api: Api) -> None:
    body = {"name": "c1", "secret": SECRET}
    good = ["HTTPS://API.example.com", "https://api.example.com:443/", "http://[::1]:8080"]
    made = await api.post("/credentials", body | {"origins": good})
    assert made["origins"] == ["https://api.example.com:443", "http://[::1]:8080"]
    for odd in (
        "api.example.com",
        "ftp://x",
        "https://x/v1",
        "https://u:p@x",
        "https://x?",
        "https://x#",
        "https://x:65536",
        "https://x:0",
        "https://",
        "",
    ):
        answer = await api.call("POST", "/credentials", body | {"origins": [odd]})
        assert (answer.status_code, odd) == (400, odd)


async def test_a_new_sealing_key_opens_credentials_after_rotate(api: Api) -> None:
    await api.post("/credentials", {"name": "c1", "secret": SECRET})
    old, new = api.settings.sealing_keys()[0], b"n" * 32
    assert await PostgresSecrets(api.stores.pool, Sealer([new, old])).reseal() >= 1
    locked = await api.call("GET", "/credentials/c1")
    assert (locked.status_code, locked.json()["code"]) == (409, "unsealable")
    assert "ARAGORA_SECRETS_KEY" in locked.json()["error"]
    found = await api.stores.credentials([new]).get("default", "c1")
    assert found is not None
    assert found.secrets == (SECRET,)


async def test_the_command_line_reads_secrets_from_input_or_files(api: Api, tmp_path: Path) -> None:
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "200"}

    async def run(*words: str, given: str | None = None) -> str:
        result = await in_thread(CliRunner().invoke, app, list(words), env=environment, input=given)
        assert result.exit_code == 0, result.output
        assert SECRET not in result.output
        return str(result.output)

    assert "revision 1" in await run("credentials", "set", "c1", "--origin", "http://127.0.0.1", given=SECRET + "\n")
    (tmp_path / "next").write_text(NEXT + "\n")
    assert "revision 2" in await run("credentials", "rotate", "c1", "--file", str(tmp_path / "next"), "--overlap", "60")
    found = await api.stores.credentials(api.settings.sealing_keys()).get("default", "c1")
    assert found is not None
    assert found.secrets == (NEXT, SECRET)
    assert "c1" in await run("credentials", "list")
    register = ("agents", "register", "m", "--endpoint", "http://127.0.0.1", "--credential", "c1", "--header", "x-key")
    assert json.loads(await run(*register))["credential"] == {"name": "c1", "send": "header", "header": "x-key"}
    await run("credentials", "delete", "c1")
    assert (await api.get("/credentials"))["total"] == 0
    empty = await in_thread(CliRunner().invoke, app, ["credentials", "set", "c1"], env=environment, input="")
    assert empty.exit_code == 2


async def test_an_agents_host_that_starts_anew_sends_it_too(api: Api) -> None:
    heard: list[str] = []

    def answer(request: Any) -> httpx.Response:
        heard.append(request.headers.get("authorization", ""))
        return completion("yes")

    await api.post("/credentials", {"name": "c1", "secret": SECRET})
    async with serving(answer) as url:
        await api.post("/agents", _agent(url))
        await api.kill(AGENT_HOST)
        await api.start(AGENT_HOST)
        assert (await _asked(api))["status"] == "completed"
    assert f"Bearer {SECRET}" in heard


async def test_the_examples_of_the_page_run(api: Api) -> None:
    page = (ROOT / "docs" / "credentials.md").read_text()
    (commands,) = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "200"}
    for line in commands.strip().splitlines():
        piped, _, command = line.rpartition(" | ")
        given = shlex.split(piped)[-1] if "printf" in piped else SECRET
        result = await in_thread(CliRunner().invoke, app, shlex.split(command)[1:], env=environment, input=given)
        assert result.exit_code == 0, result.output
    assert "openai-eu" in result.output
    (body,) = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    assert (await api.post("/agents", body))["credential"] == body["credential"]
