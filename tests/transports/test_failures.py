"""Calls that bring no answer: whose fault that is, what the server said, when it wants to be asked again, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.agent_transports.chat import REFUSED_S
from cluster.agent_transports.failures import (
    body_words,
    is_unknown,
    refused_by_status,
    refused_parameter,
    retry_after,
    wait_of,
)
from cluster.domain.agents.agent import TransportKind
from cluster.domain.base.errors import (
    AgentFailed,
    AgentLimited,
    AgentRefused,
    AgentUnavailable,
    PeerError,
)
from cluster.domain.base.json_values import check_text
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import completion, serving
from tests.support.odd import odd_texts, plain_texts, plain_values

NOW = 1_700_000_000.0
SCHEMA = {"type": "object", "properties": {"spam": {"type": "boolean"}}}
KINDS = {TransportKind.OPENAI: completion("yes"), TransportKind.HTTP: httpx.Response(200, json={"text": "yes"})}


def _as(status: int) -> type[PeerError]:
    if status == 429:
        return AgentLimited
    if status in (408, 502, 503, 504):
        return AgentUnavailable
    return AgentRefused if status < 400 or status in (401, 403, 404) else AgentFailed


STATUSES = [
    300,
    302,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    413,
    418,
    422,
    429,
    451,
    500,
    501,
    502,
    503,
    504,
    505,
    529,
    599,
]


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_is_one_call_and_says_whose_fault_it_is(status: int) -> None:
    for kind in KINDS:
        asked: list[Any] = []

        def answer(request: Any, asked: list[Any] = asked) -> httpx.Response:
            asked.append(request.url.path)
            return httpx.Response(status, headers={"retry-after": "90"}, json={"error": {"message": "The cat is ill."}})

        async with serving(answer) as url:
            ours = transports(LOOPBACK)
            with pytest.raises(_as(status)) as failed:
                await ours.ask(question(url, transport=kind, schema=SCHEMA, options={"stream": True}))
            await ours.close()
        assert type(failed.value) is _as(status)
        assert len(asked) == 1
        assert str(status) in failed.value.message
        assert failed.value.message.endswith(": The cat is ill.")
        if not isinstance(failed.value, AgentRefused):
            assert failed.value.retry_after_s == 90.0  # type: ignore[attr-defined]


async def test_only_an_agent_that_is_unavailable_is_asked_again() -> None:
    asked: list[int] = []
    for status, calls in ((503, 3), (429, 3), (500, 1), (400, 1), (403, 1)):
        asked.clear()

        def answer(request: Any, status: int = status) -> httpx.Response:
            asked.append(status)
            return httpx.Response(status, headers={"retry-after": "0"})

        async with serving(answer) as url:
            ours = transports(LOOPBACK)
            with pytest.raises(_as(status)):
                await ours.ask(question(url, transport=TransportKind.HTTP, tries=3))
            await ours.close()
        assert len(asked) == calls


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": "no quota"}', "no quota"),
        (b'{"error": {"message": "no\\n quota"}}', "no quota"),
        (b'{"message": "no quota"}', "no quota"),
        (b'{"detail": [{"loc": ["body", "x"], "msg": "no quota"}]}', "no quota"),
        (b"<html><body><h1>no quota</h1></body></html>", "no quota"),
        (b"no quota", "no quota"),
        (b'"no quota"', "no quota"),
        (b"", ""),
        (b"{}", ""),
        (b"[[[[[[[[[[[[1]]]]]]]]]]]]", ""),
    ],
)
def test_the_words_of_an_error_are_found_in_any_body(content: bytes, words: str) -> None:
    assert body_words(content) == words


@given(
    st.one_of(
        st.binary(max_size=200),
        plain_values.map(lambda value: json.dumps(value).encode()),
        st.builds(lambda text: json.dumps({"error": {"message": text}}).encode(), odd_texts | plain_texts),
        st.integers(1, 5000).map(lambda depth: b'{"error":' * depth),
        st.just(b"9" * 5000),
    ),
    st.sampled_from(STATUSES),
)
@example(b'{"error": {"message": "smile \\ud83d"}}', 500)
def test_any_body_makes_an_error_that_can_be_stored(content: bytes, status: int) -> None:
    error = refused_by_status("http://agent", status, {}, content, NOW)
    check_text(error.message, "message")
    assert len(error.message) < 400
    assert error.message.endswith(".")
    refused_parameter(status, content, ("response_format", "max_tokens"))


async def test_an_error_in_a_200_says_when_to_come_back() -> None:
    answer = httpx.Response(200, headers={"retry-after-ms": "1500"}, json={"error": {"message": "busy", "code": 429}})
    async with serving(lambda request: answer) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentFailed, match="busy") as failed:
            await ours.ask(question(url, transport=TransportKind.OPENAI))
        await ours.close()
    assert failed.value.retry_after_s == 1.5


# --- how long to wait -------------------------------------------------------------------------------------------------


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": _date(90)}, 90.0),
        ({"retry-after": _date(-90)}, 0.0),
        ({"retry-after": "30s"}, 30.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, 366 * 86_400.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "9", "x-ratelimit-reset-requests": "90s"}, 9.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "1m30.5s"}, 90.5),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-requests": "1d2h"}, 93_600.0),
        ({"x-ratelimit-reset": "60"}, 60.0),
        ({"x-ratelimit-reset": str(int(NOW) + 60)}, 60.0),
        ({"x-ratelimit-reset": str((int(NOW) + 60) * 1000)}, 60.0),
        ({"x-rate-limit-reset": "60"}, 60.0),
        ({"ratelimit-reset": "60"}, 60.0),
        ({"anthropic-ratelimit-requests-reset": "2023-11-14T22:14:20Z"}, 60.0),
        ({"x-ratelimit-reset-requests": "2023-11-14T22:13:10+00:00"}, 0.0),
        ({"x-ratelimit-reset-requests": "8s", "x-ratelimit-reset-tokens": "3s"}, 8.0),
        (
            {
                "x-ratelimit-reset-requests": "8s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "3s",
                "x-ratelimit-remaining-tokens": "0",
            },
            3.0,
        ),
        ({"x-ratelimit-reset-requests": "8s", "x-ratelimit-remaining-requests": "5"}, 8.0),
        ({"x-ratelimit-limit-requests": "60", "x-reset": "9"}, None),
        ({"x-ratelimit-unreset": "9"}, None),
        ({"ratelimit-" + "reset-" * 20: "9"}, 9.0),
        ({"ratelimit-" + "reset-" * 9000: "9"}, None),
        ({"retry-after": "9" * 1001}, None),
        ({"ratelimit-reset": "9" * 1001}, None),
    ],
)
def test_a_server_says_in_many_ways_when_it_can_be_asked_again(
    headers: Mapping[str, str], wait_s: float | None
) -> None:
    waited = wait_of(headers, NOW)
    assert waited == (None if wait_s is None else pytest.approx(wait_s, abs=1e-6))


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "ratelimit-reset"]),
        st.text("0123456789.,:+-TZdhmsWe ", max_size=30) | odd_texts | plain_texts,
    )
)
@example({"x-ratelimit-reset": "9999-12-31T23:59:59-23:59"})
@example({"x-ratelimit-reset": "0001-01-01T00:00:00+23:59"})
def test_any_headers_make_a_bounded_wait_or_none(headers: Mapping[str, str]) -> None:
    seconds = wait_of(headers, NOW)
    assert seconds is None or 0 <= seconds <= 366 * 86_400


@given(st.integers(0, 5), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int, milli: int) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s{milli}ms"
    expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milli).total_seconds()
    assert retry_after(text, NOW) == pytest.approx(expected, abs=1e-6)


# --- refused parameters -----------------------------------------------------------------------------------------------


class Picky:
    """A server that refuses parameters, each in its own words, and counts what it was asked."""

    def __init__(self, *refused: str, says: Any = None, status: int = 400) -> None:
        self.refused = list(refused)
        self.says = says or (lambda name: {"error": {"message": f"Unsupported parameter: '{name}'.", "param": name}})
        self.status = status
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, request: Any) -> httpx.Response:
        body = json.loads(await request.body())
        self.asked.append(body)
        for name in self.refused:
            if name in body:
                return httpx.Response(self.status, json=self.says(name))
        content = {"content": [{"type": "text", "text": "yes"}]} if request.url.path.endswith("messages") else None
        return completion("yes") if content is None else httpx.Response(200, json=content)


SAYINGS = [
    lambda name: {"error": {"message": f"Unsupported parameter: '{name}' is not supported.", "param": name}},
    lambda name: {"error": {"message": f"Unrecognized request argument supplied: {name}", "param": None}},
    lambda name: {
        "detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]
    },
    lambda name: {"object": "error", "message": f"unknown field {name}", "code": 400},
    lambda name: {"error": f"{name} is not allowed"},
    lambda name: {
        "error": {"message": f"Unsupported parameter: '{name}' is not supported. Use 'max_completion_tokens' instead."}
    },
]


@pytest.mark.parametrize("says", SAYINGS)
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", ["max_tokens", "stream_options", "stream", "response_format"])
async def test_a_refused_parameter_is_left_out_at_once_and_from_then_on(name: str, status: int, says: Any) -> None:
    server = Picky(name, says=says, status=status)
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        ask = question(url, transport=TransportKind.OPENAI, schema=SCHEMA, options={"stream": True})
        for _ in range(2):
            assert (await ours.ask(ask)).text == "yes"
        await ours.close()
    assert [name in body for body in server.asked] == [True, False, False]
    gone = {"stream", "stream_options"} if name == "stream" else {name}
    others = {"max_tokens", "stream_options", "stream", "response_format"} - gone
    assert all(others <= body.keys() for body in server.asked)
    if name == "max_tokens":
        assert server.asked[-1]["max_completion_tokens"] == 64


async def test_a_server_that_knows_no_bound_is_asked_without_one() -> None:
    server = Picky("max_tokens", "max_completion_tokens", "response_format")
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        ask = question(url, transport=TransportKind.OPENAI, schema=SCHEMA)
        assert (await ours.ask(ask)).text == (await ours.ask(ask)).text == "yes"
        await ours.close()
    assert len(server.asked) == 5
    assert server.asked[-1].keys() == {"model", "messages"}


async def test_a_stream_that_an_anthropic_server_refuses_is_left_out() -> None:
    server = Picky("stream", says=lambda name: {"type": "error", "error": {"message": f"{name}: not supported"}})
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        ask = question(url, transport=TransportKind.ANTHROPIC, schema=SCHEMA, options={"stream": True})
        assert [(await ours.ask(ask)).text for _ in range(2)] == ["yes", "yes"]
        await ours.close()
    assert ["stream" in body for body in server.asked] == [True, False, False]


@pytest.mark.parametrize("name", ["tools", "tool_choice"])
async def test_a_tool_that_is_refused_is_left_out(name: str) -> None:
    server = Picky(name, says=lambda name: {"type": "error", "error": {"message": f"{name}: not supported"}})
    async with serving(server) as url:
        ours = transports(LOOPBACK)
        assert (await ours.ask(question(url, transport=TransportKind.ANTHROPIC, schema=SCHEMA))).text == "yes"
        await ours.close()
    assert ["tool_choice" in body for body in server.asked] == [True, False]
    assert ("tools" in server.asked[1]) is (name == "tool_choice")


async def test_a_refused_parameter_is_remembered_for_an_hour_per_endpoint_and_model() -> None:
    server, now = Picky("max_tokens"), [0.0]
    async with serving(server) as url:
        ours = transports(LOOPBACK, clock=lambda: now[0])

        async def calls(endpoint: str = "/a", model: str = "m") -> int:
            server.asked.clear()
            await ours.ask(question(url + endpoint, transport=TransportKind.OPENAI, model=model))
            return len(server.asked)

        assert [await calls(), await calls(), await calls("/b"), await calls(model="n")] == [2, 1, 2, 2]
        now[0] = REFUSED_S - 1
        assert await calls() == 1
        now[0] = REFUSED_S + 1
        server.refused = []
        assert await calls() == 1
        assert "max_tokens" in server.asked[0]
        await ours.close()


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "max_tokens is too large: 9. This model supports at most 4.", "param": "max_tokens"}},
        {"error": {"message": "This model's maximum context length is 4 tokens; your max_tokens is 64."}},
        {"error": {"message": "Your prompt was flagged.", "param": "messages"}},
        {"error": {"message": "The cat is ill."}},
        {"error": {"message": "Invalid image.", "code": "invalid_image"}},
    ],
)
async def test_a_request_that_is_wrong_otherwise_is_not_asked_again(body: Any) -> None:
    asked: list[Any] = []

    def answer(request: Any) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(400, json=body)

    async with serving(answer) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentFailed):
            await ours.ask(question(url, transport=TransportKind.OPENAI, schema=SCHEMA, options={"stream": True}))
        await ours.close()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "content", "refused"),
    [
        (400, b"", "response_format"),
        (501, b"", "response_format"),
        (404, b"", None),
        (404, b'{"error": {"message": "No endpoints found that support structured outputs."}}', "response_format"),
        (400, b'{"error": {"message": "grammar could not be compiled"}}', "response_format"),
        (400, b'{"error": {"message": "Unknown parameter."}}', "response_format"),
        (500, b'{"error": {"message": "response_format"}}', None),
        (400, b'{"error": {"param": "response_format.json_schema", "message": "Invalid"}}', "response_format"),
    ],
)
def test_structured_output_is_given_up_for_many_words(status: int, content: bytes, refused: str | None) -> None:
    assert refused_parameter(status, content, ("response_format", "max_tokens")) == refused


def _openai_error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        _openai_error(
            "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be supplied",
            param="response_format",
            code="invalid_json_schema",
        ),
        _openai_error(
            "Invalid schema for response_format 'answer': In context=('properties', 'a'), 'format' is not permitted."
        ),
        _openai_error(
            "Invalid schema for response_format 'answer': schema must be a JSON Schema of 'type: \"object\"'."
        ),
        _openai_error(
            "Invalid schema for function 'answer': 'uri' is not supported as a format.",
            param="tools[0].function.parameters",
        ),
        _openai_error(
            "Missing required parameter: 'response_format.json_schema.name'.", param="response_format.json_schema.name"
        ),
        _openai_error("Expected object with at most 100 properties.", param="response_format"),
        _openai_error("The provided JSON schema contains features not supported by xgrammar."),
        _openai_error('Grammar error: Unimplemented keys: ["not"]'),
        _openai_error("JSON schema conversion failed: Unrecognized schema: 5"),
        _openai_error("Invalid JSON Schema: keyword 'minimum' is not supported", param="response_format"),
        _openai_error(
            "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
        ),
        _openai_error("tools.0.custom.input_schema.type: Field required"),
        _openai_error("tools.0.custom.name: String should match pattern"),
        json.dumps(
            {
                "detail": [
                    {
                        "loc": ["body", "response_format", "json_schema", "schema", "x"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            }
        ).encode(),
        json.dumps(
            {"detail": [{"loc": ["body", "response_format", "json_schema", "name"], "msg": "Field required"}]}
        ).encode(),
        b"",
        b"bad request",
    ],
)
def test_a_complaint_about_a_schema_is_not_one_about_the_parameter(content: bytes) -> None:
    assert not is_unknown(content)


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'response_format' is not supported with this model.",
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "This model does not support structured outputs",
        "No endpoints found that support structured outputs: not supported.",
        "Unknown parameter: 'response_format'.",
        "Unrecognized request argument supplied: response_format",
        "response_format: Extra inputs are not permitted",
        "got an unexpected keyword argument 'response_format'",
        "This response_format type is unavailable now",
        "json_schema is not supported",
        "JSON schema not supported",
        "tools: Extra inputs are not permitted",
        "registry.ollama.ai/library/gemma:2b does not support tools",
        "tool_choice: not supported",
        "Function calling is not enabled for this model",
        "Unsupported value: 'stream' does not support true with this model. Supported values are: false.",
    ],
)
def test_a_server_that_does_not_know_a_parameter_says_so(words: str) -> None:
    assert is_unknown(_openai_error(words))


STRICT = SCHEMA | {"additionalProperties": False}


def _schema_of(body: Any) -> Any:
    if "response_format" in body:
        return body["response_format"]["json_schema"]["schema"]
    return body["tools"][0]["input_schema"] if "tools" in body else None


@pytest.mark.parametrize("kind", [TransportKind.OPENAI, TransportKind.ANTHROPIC])
async def test_a_schema_that_a_server_refuses_concerns_its_own_question(kind: TransportKind) -> None:
    asked: list[Any] = []
    where = "response_format 'answer'" if kind is TransportKind.OPENAI else "tools.0.custom.input_schema"

    async def answer(request: Any) -> httpx.Response:
        body = json.loads(await request.body())
        asked.append(_schema_of(body))
        if asked[-1] is not None and "additionalProperties" not in asked[-1]:
            words = f"Invalid schema for {where}: In context=(), 'additionalProperties' is required to be false."
            return httpx.Response(400, json={"error": {"message": words, "type": "invalid_request_error"}})
        if body["messages"][-1]["content"] == "Fail.":
            return httpx.Response(400, json={"error": {"message": "The cat is ill."}})
        content = {"content": [{"type": "text", "text": "yes"}]}
        return completion("yes") if kind is TransportKind.OPENAI else httpx.Response(200, json=content)

    async with serving(answer) as url:
        ours = transports(LOOPBACK)
        strict, loose = (question(url, transport=kind, schema=schema) for schema in (STRICT, SCHEMA))
        complaints = [(await ours.ask(ask)).complaint for ask in (strict, loose, strict)]
        with pytest.raises(AgentFailed, match=r"The cat is ill\..*Invalid schema for"):
            await ours.ask(replace(loose, messages=[{"role": "user", "content": "Fail."}]))
        await ours.close()
    assert asked == [STRICT, SCHEMA, None, STRICT, SCHEMA, None]
    assert [("Invalid schema" in complaint) for complaint in complaints] == [False, True, False]
