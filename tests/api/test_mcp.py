"""The MCP server, by the official client of both generations of the protocol over real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError

from cluster.domain.receipts.verify import parse, verify
from cluster.telemetry.log_files import REQUEST_LOGGER
from serve_app.mcp.tools import MAX_AGENTS, TOOLS
from tests.api.test_deliberations import panel
from tests.api.test_receipts import _trusted
from tests.support.answering import Agents
from tests.support.api import Api, api_settings
from tests.support.mcp_clients import GENERATIONS, at_its_end, called, mcp_client, refused, sent
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

BIG = 2**53 + 1
#: What clients and servers that guess take for something else.
ODD_VALUES = (
    '{"a": 1}',
    "null",
    "[1]",
    "12",
    "true",
    "",
    " ",
    "ключ",
    BIG,
    -BIG,
    10**30,
    1.5,
    None,
    [],
    {},
    [None],
    {"": {"z": None}},
)

both = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, mcp_enabled=True)).running() as running:
        yield running


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    async with Agents().running() as running:
        yield running


@both
async def test_a_deliberation_goes_from_its_question_to_its_receipt(generation: str, api: Api, agents: Agents) -> None:
    await panel(api, agents, a="A", b="A", c="B")
    async with mcp_client(api.url, generation) as client:
        listed = await called(client, "list_agents", capability="debate")
        assert [agent["agent_id"] for agent in listed["agents"]] == ["a", "b", "c"]
        asked = {"content": "Which?", "config": {"options": ["A", "B"]}, "idempotency_key": "k"}
        named = {"deliberation_id": (await called(client, "deliberate", **asked))["deliberation_id"]}
        decided = await at_its_end(client, **named)
        assert (decided["status"], decided["ended"], decided["result"]["answer"]) == ("consensus_reached", True, "A")
        assert await called(client, "deliberate", **asked) == decided
        assert await called(client, "task_status", **named) == {k: v for k, v in decided.items() if k != "result"}
        receipt = await client.call_tool("receipt", named)
        resource = await client.read_resource(f"aragora://receipts/{decided['deliberation_id']}")
        (listed_resource,) = (await client.list_resources()).resources
        record = await client.read_resource(str(listed_resource.uri))
    assert (listed_resource.name, listed_resource.title) == (decided["deliberation_id"], "Which?")
    text = receipt.content[0].text  # type: ignore[union-attr]
    assert text == resource.contents[0].text  # type: ignore[union-attr]
    assert verify(parse(text.encode()), await _trusted(api)).trusted
    assert receipt.structured_content["request_id"] == decided["deliberation_id"]
    assert json.loads(record.contents[0].text)["result"] == decided["result"]  # type: ignore[union-attr]


@both
async def test_a_task_goes_from_submit_to_result(generation: str, api: Api, tasks: TaskApi) -> None:
    await tasks.agent("a1", capabilities=["sum"])
    async with mcp_client(api.url, generation) as client:
        task = await called(
            client, "submit_task", task_type="sum", payload=[BIG], required_capabilities=["sum"], priority="high"
        )
        assert set(task) == {"task_id"}
        waiting = await called(client, "task_status", **task)
        assert (waiting["ended"], waiting["status"], waiting["status_detail"]) == (False, "pending", "queued")
        assert (await called(client, "explain", **task))["task_id"] == task["task_id"]
        lease = await tasks.claim_one("a1")
        assert (lease["payload"], lease["priority"]) == ([BIG], 75)
        result = asyncio.create_task(at_its_end(client, **task))
        await eventually(lambda: bool(api.gateway.hub._ends))
        await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], "result": {"n": BIG}})
        assert await result == {**task, "ended": True, "status": "completed", "result": {"n": BIG}, "error": None}
        assert (await called(client, "task_status", **task))["assigned_agent"] == "a1"


async def test_texts_and_numbers_arrive_as_they_were_sent(api: Api, tasks: TaskApi) -> None:
    for generation in GENERATIONS:
        async with mcp_client(api.url, generation) as client:
            for value in ODD_VALUES:
                task = await called(client, "submit_task", task_type="t", payload=value, metadata={"v": value})
                stored = await tasks.get(f"/tasks/{task['task_id']}")
                assert [stored["payload"], stored["metadata"]] == [value, {"v": value}]
            # What a model writes as null counts as left out.
            await called(client, "submit_task", task_type="t", timeout_seconds=None, after=None, idempotency_key=None)


@both
async def test_a_repeat_under_a_key_does_nothing_twice(generation: str, api: Api) -> None:
    work: dict[str, dict[str, Any]] = {
        "submit_task": {"task_type": "t", "payload": 1},
        "deliberate": {"content": "Which?", "wait": 0},
    }
    other = {"submit_task": {"payload": 2}, "deliberate": {"content": "What?"}}
    async with mcp_client(api.url, generation) as client:
        for tool, arguments in work.items():
            keyed = {**arguments, "idempotency_key": "k-1"}
            first = await called(client, tool, **keyed)
            again = await asyncio.gather(*(called(client, tool, **keyed) for _ in range(3)))
            ids = {found.get("task_id", found.get("deliberation_id")) for found in [first, *again]}
            assert len(ids) == 1
            # How long somebody waits is no part of what is asked for.
            assert (await called(client, tool, **{**keyed, "wait": 0.1}))["status"] in ("pending", "scheduled")
            assert (await refused(client, tool, **{**keyed, **other[tool]}))["code"] == "idempotency_conflict"
    assert (await api.get("/tasks"))["total"] == 1
    assert (await api.get("/deliberations"))["total"] == 1


async def test_what_is_cancelled_ends_and_may_be_cancelled_again(api: Api) -> None:
    for name in ("silent-1", "silent-2"):  # who is asked and never claims, so that nothing ends by itself
        await api.post("/agents", {"agent_id": name, "capabilities": ["deliberation"]})
    for generation in GENERATIONS:
        async with mcp_client(api.url, generation) as client:
            for begun in (
                await called(client, "submit_task", task_type="t"),
                await called(client, "deliberate", content="Which?", wait=0),
            ):
                named = {name: value for name, value in begun.items() if name.endswith("_id")}
                for _ in range(2):
                    assert await called(client, "cancel", **named) == {"cancelled": True}
                assert (await at_its_end(client, **named))["status"] == "cancelled"


ODD_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("deliberate", {}, "content is required."),
    ("deliberate", {"content": ""}, "content must have at least 1 character."),
    ("deliberate", {"content": ["a"]}, "content"),
    ("deliberate", {"content": "x", "wait": -1}, "wait must be a number of seconds from 0 to 25."),
    ("deliberate", {"content": "x", "wait": "long"}, "wait must be a number"),
    ("deliberate", {"content": "x", "wait": True}, "wait must be a number"),
    ("deliberate", {"content": "x", "config": {"rounds": "many"}}, "rounds"),
    ("deliberate", {"content": "x", "idempotency_key": "ключ"}, "idempotency_key must be a text of ASCII"),
    ("deliberate", {"content": "x", "idempotency_key": "a\nb"}, "idempotency_key must be 1 to 255 printable"),
    ("deliberate", {"content": "x", "idempotency_key": 5}, "idempotency_key must be a text"),
    ("deliberate", {"content": "x", "async": True}, "deliberate has no argument async; it has content,"),
    ("submit_task", {"payload": 1}, "task_type is required."),
    ("submit_task", {"task_type": 5}, "task_type"),
    ("submit_task", {"task_type": "t", "priority": "asap"}, "priority"),
    ("submit_task", {"task_type": "t", "payload": "\x00"}, "payload"),
    ("submit_task", {"task_type": "t", "after": ["task_none"]}, "after names a task that does not exist"),
    ("submit_task", {"task_type": "t", "workspace_id": "other"}, "submit_task has no argument workspace_id"),
    ("task_status", {}, "Give task_id or deliberation_id, and not both."),
    ("task_result", {"task_id": "t", "deliberation_id": "d"}, "Give task_id or deliberation_id, and not both."),
    ("task_result", {"task_id": "../agents"}, "task_id must be 1 to 128 characters"),
    ("task_result", {"task_id": "history"}, "task_id must not be 'history'"),
    ("task_result", {"task_id": {"a": 1}}, "task_id must be 1 to 128 characters"),
    ("task_result", {"task_id": "t?wait=25"}, "task_id must be 1 to 128 characters"),
    ("task_status", {"task_id": "none"}, "There is no task none."),
    ("task_status", {"deliberation_id": "none"}, "There is no deliberation none."),
    ("receipt", {"deliberation_id": "none"}, "There is no deliberation none."),
    ("receipt", {}, "deliberation_id is required."),
    ("explain", {"task_id": "none"}, "none"),
    ("explain", {"task_id": None}, "task_id is required."),
    ("cancel", {"task_id": "none"}, "none"),
    ("cancel", {"deliberation_id": "a/b"}, "deliberation_id must be 1 to 128 characters"),
    ("list_agents", {"limit": MAX_AGENTS + 1}, "limit must be a whole number from 1 to 200"),
    ("list_agents", {"limit": "9" * 5000}, "limit must be a whole number"),
    ("list_agents", {"limit": [1]}, "limit must be a whole number"),
    ("list_agents", {"offset": "x"}, "offset"),
    ("list_agents", {"offset": 10**40}, "offset"),
    ("list_agents", {"status": "sleeping"}, "status"),
    ("list_agents", {"capability": {"a": 1}}, "capability must be one value"),
    ("list_agents", {"\x00" * 500: 1}, "list_agents has no argument"),
]


async def test_odd_arguments_are_refused_in_one_sentence_with_a_code(api: Api) -> None:
    for generation in GENERATIONS:
        async with mcp_client(api.url, generation) as client:
            for tool, arguments, said in ODD_ARGUMENTS:
                error = await refused(client, tool, **arguments)
                assert said in error["error"], (tool, arguments, error)
                assert len(error["error"]) < 400
                assert error["trace_id"]
                assert "Traceback" not in str(error)
            with pytest.raises(MCPError, match="There is no tool deliver; use one of deliberate"):
                await client.call_tool("deliver", {})
            for uri in (
                "aragora://receipts/none",
                "aragora://tasks/t1",
                "file:///etc/passwd",
                "aragora://receipts/a%2Fb",
            ):
                with pytest.raises(MCPError) as unreadable:
                    await client.read_resource(uri)
                assert unreadable.value.error.data["code"] in (
                    "deliberation_not_found",
                    "resource_not_found",
                    "invalid_id",
                )
    # Nothing was begun by any of them.
    assert [(await api.get(path))["total"] for path in ("/tasks", "/deliberations")] == [0, 0]


def _call(tool: str = "list_agents", **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def _odd_requests() -> Iterator[tuple[str, dict[str, str], bytes, int]]:
    """(method, headers besides the usual ones, body, status)"""
    good = json.dumps(_call()).encode()
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        yield method, {}, b"", 405
    yield "POST", {"content-type": "text/plain"}, good, 415
    yield "POST", {"accept": "text/html"}, good, 406
    for body in (
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5_000 + b"}",
        b'"\\ud800"',
        b"[]",
        b"[" + good + b"]",
        b"5",
        b"{}",
    ):
        yield "POST", {}, body, 400
    for wrong in ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": [], "method": "ping"}):
        yield "POST", {}, json.dumps(wrong).encode(), 400
    yield "POST", {}, b'{"x": "' + b"y" * 1_100_000 + b'"}', 413


async def test_what_is_no_message_is_refused_without_a_stack_trace(api: Api) -> None:
    for version in ("2025-06-18", "2026-07-28", "2030-01-01", "", "\xff"):
        for method, headers, body, status in _odd_requests():
            raw = [(name.encode(), text.encode("latin-1")) for name, text in sent(version, **headers).items()]
            answer = await api.client.request(method, "/mcp", headers=raw, content=body)
            assert answer.status_code == status, (method, headers, body[:50], answer.text)
            error = answer.json()["error"]
            sentence = error if isinstance(error, str) else error["message"]
            assert sentence.endswith("."), answer.text
            assert len(sentence) < 200, answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-trace-id"] in answer.text
    assert (await api.client.post("/mcp/", json=_call())).status_code == 404


@both
async def test_work_goes_on_when_its_client_hangs_up(
    generation: str, api: Api, agents: Agents, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, REQUEST_LOGGER)
    config = {"options": ["A", "B"], "agents": ["a", "b"]}
    arguments = {"content": "Which?", "config": config, "wait": 25, "idempotency_key": "k"}
    async with mcp_client(api.url, generation) as client:
        asking = asyncio.create_task(called(client, "deliberate", **arguments))
        # It waits for agents that are not registered yet.
        await eventually(lambda: bool(api.gateway.hub._ends))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    # The call ends with its client, not with its time.
    await eventually(lambda: any("/mcp ended with 499" in message for message in caplog.messages))
    await eventually(lambda: not api.gateway.hub._ends)
    await panel(api, agents, a="A", b="A")
    async with mcp_client(api.url, generation) as client:
        begun = await called(client, "deliberate", **arguments)
        decided = await at_its_end(client, deliberation_id=begun["deliberation_id"])
    assert decided["result"]["answer"] == "A"
    assert (await api.get("/deliberations"))["total"] == 1


@both
async def test_any_of_two_replicas_answers_each_call_of_a_client(
    generation: str, api: Api, store_urls: StoreUrls, schema: str
) -> None:
    settings = api_settings(store_urls, schema, mcp_enabled=True, redis_prefix=api.settings.redis_prefix)
    async with Api(settings).running(()) as second, mcp_client(api.url, generation, others=[second.url]) as client:
        for n in range(4):
            task = await called(client, "submit_task", task_type="t", payload=n)
            assert (await called(client, "task_status", **task))["status"] == "pending"
    assert (await api.get("/tasks"))["total"] == 4


@pytest.mark.longer
async def test_a_part_that_is_away_is_an_error_to_try_again(api: Api) -> None:
    async with mcp_client(api.url) as client:
        task = await called(client, "submit_task", task_type="t")
        await api.kill_scheduler()
        error = await refused(client, "explain", **task)
        assert error["code"] == "actor_unavailable"
        assert "try again" in error["error"]


async def test_tools_are_described_for_models(api: Api) -> None:
    async with mcp_client(api.url) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        templates = (await client.list_resource_templates()).resource_templates
        assert (await client.list_resources()).resources == []
        with pytest.raises(MCPError, match="cursor"):
            await client.list_resources(cursor="odd")
    assert set(tools) == set(TOOLS)
    for tool in tools.values():
        texts = [
            tool.description,
            *(
                each["description"]
                for name, each in tool.input_schema["properties"].items()
                if name not in ("limit", "offset")
            ),
        ]
        assert all(text and text[-1] in "." for text in texts), texts
        assert tool.output_schema is not None
        assert tool.annotations is not None
    changing = {name for name, tool in tools.items() if tool.annotations and not tool.annotations.read_only_hint}
    assert changing == {"deliberate", "submit_task", "cancel"}
    assert [template.uri_template for template in templates] == [
        "aragora://deliberations/{deliberation_id}",
        "aragora://receipts/{deliberation_id}",
    ]


async def test_a_page_of_another_name_is_refused_while_authentication_is_off(api: Api) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        answer = await api.client.post("/mcp", headers=sent("2025-06-18", **headers), json=_call())
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_it_is_off_unless_it_is_switched_on(store_urls: StoreUrls, schema: str) -> None:
    async with Api(api_settings(store_urls, schema)).running(()) as api:
        answer: httpx.Response = await api.client.post("/mcp", headers=sent("2025-06-18"), json=_call())
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
