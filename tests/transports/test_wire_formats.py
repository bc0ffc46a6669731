"""What a model's server answers: whole, empty, cut off, in parts or as an error; and the URLs that are called for an endpoint."""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.failures import refused_by_status
from cluster.agent_transports.server_events import MAX_EVENTS, is_stream, sse_events
from cluster.agent_transports.wire_formats import (
    CARD_PATH,
    FORMATS,
    probe_url,
    url_of,
)
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentFailed, AgentMalformed, AgentRefused, AgentUnavailable, PeerError
from cluster.ports.agent_transport import Ask, judged
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import a2a_server, serving

OPENAI, ANTHROPIC = TransportKind.OPENAI, TransportKind.ANTHROPIC
STREAM = {"stream": True}
CUT = [
    "length",
    "max_tokens",
    "MAX_TOKENS",
    "maxTokens",
    "max_output_tokens",
    "model_length",
    "token_limit",
    "model_context_window_exceeded",
    "pause_turn",
    "content_filter",
    "SAFETY",
    "insufficient_system_resource",
    "abort",
    "cancelled",
    "incomplete",
]
WHOLE = [
    "stop",
    "STOP",
    "end_turn",
    "stop_sequence",
    "eos_token",
    "stop_token",
    "COMPLETE",
    "tool_use",
    "tool_calls",
    "",
]


def _ask(kind: TransportKind = OPENAI, **changes: Any) -> Ask:
    endpoint = changes.pop("endpoint", "http://agent.example/v1")
    return question(endpoint, **({"transport": kind, "schema": {}} | changes))


def _completion(content: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}]}


def _message(content: Any, stop: Any = "end_turn") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": stop}


def _read(kind: TransportKind, value: Any, **changes: Any) -> Reply:
    ask = _ask(kind, **changes)
    with judged():
        return FORMATS[kind].reply(ask, value, len(json.dumps(value)))


def _streamed(content: bytes, kind: TransportKind = OPENAI, **changes: Any) -> Reply:
    stream = FORMATS[kind].stream
    assert stream is not None
    with judged():
        return stream(_ask(kind, options=STREAM, **changes), sse_events(content), len(content))


def _events(*events: Any, end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def _delta(content: Any = None, finish: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def _answers(text: str, finish: str) -> list[Any]:
    """The same answer over every format: calls that read it."""
    return [
        lambda **more: _read(OPENAI, _completion(text, finish), **more),
        lambda **more: _read(OPENAI, _completion([{"type": "text", "text": text}], finish), **more),
        lambda **more: _read(ANTHROPIC, _message([{"type": "text", "text": text}], finish), **more),
        lambda **more: _streamed(_events(_delta(text), _delta(finish=finish)), **more),
    ]


# --- empty and cut ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", CUT)
def test_a_cut_answer_is_malformed_and_names_its_finish_reason(finish: str) -> None:
    for read in _answers("The three risks are: 1) the migra", finish):
        with pytest.raises(AgentMalformed, match=rf"cut off \(finish_reason: {finish}\)"):
            read()
        allowed = read(allow_incomplete=True)
        assert (allowed.text, allowed.finish_reason) == ("The three risks are: 1) the migra", finish)


@pytest.mark.parametrize("finish", WHOLE)
def test_a_whole_answer_keeps_its_finish_reason(finish: str) -> None:
    for read in _answers("Paris", finish):
        reply = read()
        assert (reply.text, reply.finish_reason) == ("Paris", finish)


@given(st.text(" \t\r\n\u00a0\u2028", max_size=4), st.sampled_from([*WHOLE, *CUT]))
def test_an_answer_without_a_word_is_malformed_and_names_its_finish_reason(text: str, finish: str) -> None:
    for read in _answers(text, finish):
        with pytest.raises(AgentMalformed, match="is empty") as empty:
            read()
        assert f"finish_reason: {finish or 'none'}" in empty.value.message
        assert read(allow_incomplete=True).text == text


@pytest.mark.parametrize(
    ("kind", "value", "finish"),
    [
        (OPENAI, _completion(None, "tool_calls", tool_calls=[{"id": "1", "type": "function"}]), "tool_calls"),
        (OPENAI, {"choices": [{"message": {"function_call": {}}, "finish_reason": "function_call"}]}, "function_call"),
        (OPENAI, _completion(None, "stop", reasoning_content="Let me think"), "stop"),
        (OPENAI, _completion("", None), "none"),
        (OPENAI, _completion([], "stop"), "stop"),
        (OPENAI, _completion([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), "stop"),
        (ANTHROPIC, _message([], "end_turn"), "end_turn"),
        (ANTHROPIC, _message(None, "pause_turn"), "pause_turn"),
        (ANTHROPIC, _message([{"type": "thinking", "thinking": "hm"}], "max_tokens"), "max_tokens"),
        (ANTHROPIC, _message([{"type": "tool_use", "input": {"why": "Because it sa"}}], "max_tokens"), "max_tokens"),
    ],
)
def test_what_a_model_does_instead_of_answering_is_no_answer(kind: TransportKind, value: Any, finish: str) -> None:
    with pytest.raises(AgentMalformed, match=f"finish_reason: {finish}"):
        _read(kind, value)


@pytest.mark.parametrize("reason", [5, True, {"why": "length"}, ["length"], "smile \ud83d", "x" * 1000])
def test_an_odd_finish_reason_is_kept_short_or_not_at_all(reason: Any) -> None:
    reply = _read(OPENAI, _completion("Paris", reason))
    assert reply.text == "Paris"
    assert len(reply.finish_reason) <= 100
    assert reply.finish_reason.encode()[:1] in (b"", b"s", b"x")


# --- parts ------------------------------------------------------------------------------------------------------------

TEXT_PARTS = [
    {"type": "text", "text": "Paris"},
    {"type": "output_text", "text": "Paris", "annotations": []},
    {"text": "Paris"},
    {"type": "text", "text": {"value": "Paris", "annotations": []}},
    "Paris",
]
OTHER_PARTS: list[Any] = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "thinking", "thinking": "hm", "text": "hm"},
    {"type": "reasoning", "text": "hm"},
    {"type": "redacted_thinking", "data": "hm"},
    {"type": "reference", "reference_ids": [1]},
    {"type": "image_url", "image_url": {"url": "http://x/"}},
    {"text": "hm", "thought": True},
    {"type": "reasoning_text", "text": '{"answer": "b"}'},
    {"type": "summary_text", "text": "hm"},
    {"type": "thinking_text", "text": "hm"},
    None,
]


@given(st.sampled_from(TEXT_PARTS), st.lists(st.sampled_from(OTHER_PARTS)), st.lists(st.sampled_from(OTHER_PARTS)))
def test_the_texts_of_parts_of_every_shape_are_the_answer(text: Any, before: list[Any], behind: list[Any]) -> None:
    parts = [*before, text, *behind]
    assert _read(OPENAI, _completion(parts)).text == "Paris"
    assert _read(ANTHROPIC, _message(parts)).text == "Paris"
    assert _streamed(_events(_delta(before), _delta([text]), _delta(behind))).text == "Paris"


@pytest.mark.parametrize(
    "content", ["Paris", TEXT_PARTS[0], {"parts": [{"text": "Par"}, {"text": "is"}]}, ["Par", "is"]]
)
def test_content_that_is_one_part_or_a_text_is_the_answer(content: Any) -> None:
    assert _read(OPENAI, _completion(content)).text == "Paris"
    assert _read(ANTHROPIC, _message(content)).text == "Paris"


@pytest.mark.parametrize("kind", [{"type": "reasoning"}, {"thought": True}])
def test_parts_of_a_thought_are_no_answer(kind: dict[str, Any]) -> None:
    with pytest.raises(AgentMalformed, match="empty"):
        _read(OPENAI, _completion({**kind, "parts": [{"text": "hm"}]}))


def test_a_part_that_is_a_refusal_is_one() -> None:
    with pytest.raises(AgentRefused, match="I must not"):
        _read(OPENAI, _completion([{"type": "refusal", "refusal": "I must not."}]))


HALVES = [
    ["\ud83d", "\ude00"],
    ["a\ud83d", "", "\ude00b"],
    ["\ud83d\ude00\ud83d", "\ude00"],
    ["é\ud83d", "\ude00\U0001f600"],
    ["\ud83d", "\ude00\udbff", "\udfff"],
]


@pytest.mark.parametrize("chunks", HALVES, ids=ascii)
def test_a_character_in_two_chunks_is_whole_again(chunks: list[str]) -> None:
    whole = "".join(chunks).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    parts = [{"type": "text", "text": chunk} for chunk in chunks]
    assert _streamed(_events(*map(_delta, chunks), _delta(None, "stop"))).text == whole
    assert _streamed(_events(*(_delta([part]) for part in parts), _delta(None, "stop"))).text == whole
    assert _read(OPENAI, _completion(parts)).text == whole
    assert _read(ANTHROPIC, _message(parts)).text == whole


@pytest.mark.parametrize("chunks", [["a\ud83d", "b"], ["\ude00", "\ud83d"], ["a", "\ude00"]], ids=ascii)
def test_half_a_character_without_its_other_half_is_refused(chunks: list[str]) -> None:
    with pytest.raises(AgentMalformed, match="cannot be stored"):
        _streamed(_events(*map(_delta, chunks), _delta("c", "stop")))


@pytest.mark.parametrize("half", ["\ud83d", "\ud83d\ud83d", " \ude00\n", "\x00"], ids=ascii)
@pytest.mark.parametrize("allowed", [False, True])
def test_what_cannot_be_stored_is_not_called_empty(half: str, allowed: bool) -> None:
    for read in _answers(half, "stop"):
        with pytest.raises(AgentMalformed, match="cannot be stored"):
            read(allow_incomplete=allowed)


NOTHING = [
    *("", " \n", "\u200b", "\ufeff", "\u2060", "\u2800", "\u00ad\u3164", "\u0301"),
    *("<think>all thought</think>", "<think>never closed", "never opened</think>\n", "<thinking>{}</thinking>\u200b"),
    *(
        "<reasoning>{}</reasoning>",
        "<scratchpad>hm",
        "hm</reflection>",
        "<antThinking>hm</antThinking>",
        "◁think▷hm◁/think▷",
    ),
    *("<longcat_think>hm</longcat_think>", "<|START_THINKING|>[hm<|END_THINKING|>"),
    *("[THINK]hm[/THINK]", "<think>a</think> <think>b</think>", '<|channel|>analysis<|message|>{"a": 1}'),
]
SOMETHING = [
    *(
        ".",
        "{}",
        "\U0001f600",
        "e\u0301",
        "<think>a</think>b",
        "a<think>b",
        "I think.",
        "<think>a</think>{}",
        "a</think>[1]",
    ),
    *("<reasoning>a</reasoning>b", "It takes reasoning.", "<|START_THINKING|>a<|END_THINKING|>b"),
    *("<analysis>asked for</analysis>", "Write `</think>`.", "[1]", "\ue000"),
]


@pytest.mark.parametrize("text", NOTHING, ids=ascii)
def test_an_answer_of_which_nothing_can_be_read_is_empty(text: str) -> None:
    for kind, value in ((OPENAI, _completion(text)), (ANTHROPIC, _message(text))):
        with pytest.raises(AgentMalformed, match=r"is empty \(finish_reason: (stop|end_turn)\)"):
            _read(kind, value)
        assert _read(kind, value, allow_incomplete=True).text == text
    with pytest.raises(AgentMalformed, match="is empty"):
        _streamed(_events(_delta(text, "stop")))


@pytest.mark.parametrize("text", SOMETHING, ids=ascii)
def test_an_answer_of_which_something_can_be_read_stays_as_it_is(text: str) -> None:
    assert _read(OPENAI, _completion(text)).text == text
    assert _streamed(_events(_delta(text, "stop"))).text == text


# --- errors in a 200 --------------------------------------------------------------------------------------------------

ERRORS: list[Any] = [
    {"error": {"message": "no quota", "code": 429}},
    {"error": "no quota"},
    {"error": {"error": {"message": "no quota"}}},
    {"error": {"type": "no quota"}},
    {"error": [{"msg": "no quota"}]},
    {"error": True, "message": "no quota"},
    {"object": "error", "message": "no quota", "type": "BadRequestError"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "no quota"}},
    {"status": "error", "message": "no quota"},
    {"choices": [], "error": {"message": "no quota"}},
    {"choices": None, "error": {"message": "no quota"}},
    {"message": "no quota"},
    {"detail": [{"loc": ["body"], "msg": "no quota"}]},
    {"errors": [{"message": "no quota"}]},
    {"code": "Throttling", "message": "no quota"},
    {"base_resp": {"status_code": 1004, "status_msg": "no quota"}},
    [{"error": {"code": 503, "message": "no quota"}}],
]


@pytest.mark.parametrize("value", ERRORS)
@pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC])
def test_an_error_in_a_200_is_a_failure_with_its_words(kind: TransportKind, value: Any) -> None:
    with pytest.raises(AgentFailed, match="no quota"):
        _read(kind, value)


@pytest.mark.parametrize("value", [error for error in ERRORS[:11] if isinstance(error, dict)])
def test_an_error_in_a_stream_is_a_failure_with_its_words(value: Any) -> None:
    with pytest.raises(AgentFailed, match="no quota"):
        _streamed(_events(_delta("Par"), value))
    with pytest.raises(AgentFailed, match="no quota"):
        _streamed(
            _events(_delta("Par")).replace(b"data: [DONE]\n\n", b'event: error\ndata: {"message": "no quota"}\n\n')
        )


@pytest.mark.parametrize("error", [{"message": "no quota"}, "no quota"])
def test_an_error_of_a_choice_is_a_failure_with_its_words(error: Any) -> None:
    choice = {"error": error, "finish_reason": "error"}
    with pytest.raises(AgentFailed, match="no quota"):
        _read(OPENAI, {"choices": [{"message": {"content": "Par"}, **choice}]})
    with pytest.raises(AgentFailed, match="no quota"):
        _streamed(_events(_delta("Par"), {"choices": [{"delta": {}, **choice}]}))
    with pytest.raises(AgentFailed, match="error"):
        _read(OPENAI, _completion("Par", "error"))


@pytest.mark.parametrize("depth", [450, 900])
def test_a_deeply_nested_error_is_a_failure(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = {"a": nested}
    for kind in (OPENAI, ANTHROPIC):
        with pytest.raises(AgentFailed, match="reports an error"):
            _read(kind, {"error": nested})
    with pytest.raises(AgentFailed, match="reports an error"):
        _streamed(_events({"error": nested}))
    body = json.dumps({"error": nested}).encode()
    assert isinstance(refused_by_status("It", 500, {}, body, 0.0), AgentFailed)


@pytest.mark.parametrize(
    "error", [None, {}, "", " \n", "\u200b", False, [], [""], [{}], {"message": None, "code": None}, {"message": " "}]
)
def test_an_error_that_says_nothing_is_none(error: Any) -> None:
    assert _read(OPENAI, _completion("Paris") | {"error": error}).text == "Paris"
    assert _read(ANTHROPIC, _message("Paris") | {"error": error}).text == "Paris"
    assert (
        _streamed(_events(_delta("Paris") | {"error": error}, _delta(finish="stop") | {"error": error})).text == "Paris"
    )


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["", None, 0])
def test_a_stream_cut_before_its_end_has_broken_off(finish: Any) -> None:
    with pytest.raises(AgentUnavailable, match="broke off"):
        _streamed(_events(_delta("Par", finish), end=""))
    assert _streamed(_events(_delta("Paris", finish))).text == "Paris"
    assert _streamed(_events(_delta("Paris", finish), _delta(finish="stop"), end="")).text == "Paris"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (b"data: quota exceeded", "quota exceeded"),
        (b"data: quota\ndata: exceeded", "quota exceeded"),
        (b'data: {"quota": \ndata: exceeded', '{"quota": exceeded'),
        (b'data: "quota exceeded"', "quota exceeded"),
        (b"data: quota \xff", "quota \ufffd"),
        (b"data: " + b"9" * 5000, "999"),
        (b"data:", "it does not say which"),
        (b"id: 1", "it does not say which"),
        (b"data: null", "it does not say which"),
    ],
)
def test_an_error_event_may_have_any_text_or_none(event: bytes, words: str) -> None:
    for content in (b"event: error\n" + event + b"\n\n", _events(_delta("Par"), end="") + b"event: error\n" + event):
        with pytest.raises(AgentFailed, match=re.escape(f"reports an error: {words}")):
            _streamed(content)


@pytest.mark.parametrize("finish", CUT)
def test_a_cut_stream_stays_cut_whatever_its_last_part_says(finish: str) -> None:
    with pytest.raises(AgentMalformed, match=rf"cut off \(finish_reason: {finish}\)"):
        _streamed(_events(_delta("Par", finish), _delta(finish="stop")))
    with pytest.raises(AgentMalformed, match="cut off"):
        _streamed(_events(_delta("Par", "stop"), _delta(finish=finish)))


def _choice(index: Any, **values: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, **values}]}


@given(st.permutations([0, 1, 2, 0, 1, 2]), st.integers(0, 2))
def test_of_several_choices_the_first_is_the_answer(order: list[int], least: int) -> None:
    """Whatever the others say: an error, a refusal, another shape, another reason to finish."""
    parts = [_choice(index + least, delta={"content": "ABC"[index]}) for index in order]
    others = [
        _choice(least + 1, error="no quota"),
        _choice(least + 2, delta={"refusal": "I must not."}, finish_reason="length"),
        _choice(least + 3, delta=5),
    ]
    assert _streamed(_events(*others, *parts, _choice(least, finish_reason="stop"), *others)).text == "AA"


@pytest.mark.parametrize("index", [None, 0, "0", True, 0.0, [1]])
def test_a_choice_without_a_number_is_the_first(index: Any) -> None:
    assert _streamed(_events(_choice(index, delta={"content": "Par"}), _delta("is", "stop"))).text == "Paris"


@pytest.mark.parametrize(
    ("deltas", "messages"),
    [
        ([None], ["Paris"]),
        ([None, {}], [None, "Paris"]),
        ([{"role": "assistant"}, {"content": ""}], ["Par", "is"]),
        ([None, None, None], ["P", "Par", "Paris"]),
        ([None, None], ["Paris", "Paris"]),
        ([None], [[{"type": "thinking", "text": "hm"}, {"type": "text", "text": "Paris"}]]),
        ([{"content": "Par"}, {"content": "is"}], ["Par", "Paris"]),
        ([{"content": "Paris"}, None], [None, "Paris"]),
    ],
)
def test_a_stream_of_messages_has_their_text(deltas: list[Any], messages: list[Any]) -> None:
    parts = [
        _choice(0, delta=delta, message=message and {"content": message}, finish_reason="stop")
        for delta, message in zip_longest(deltas, messages)
    ]
    assert _streamed(_events(*parts)).text == "Paris"


def test_a_refusal_in_the_message_of_a_stream_is_one() -> None:
    with pytest.raises(AgentRefused, match="I must not"):
        _streamed(_events(_choice(0, message={"refusal": "I must not."})))


@given(st.lists(st.integers(0, 200), max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_an_event_may_have_several_lines_of_data(cuts: list[int], end: str, spaced: bool) -> None:
    """JSON may be broken between its tokens; here behind its commas and colons."""
    text = json.dumps(_delta("Paris", "stop")).replace(", ", ",\n").replace(": ", ":\n")
    lines = text.split("\n")
    for cut in sorted(cuts, reverse=True):
        at = cut % len(lines)
        lines[at : at + 2] = ["".join(lines[at : at + 2])]
    event = end.join(("data: " if spaced else "data:") + line for line in lines)
    assert _streamed(f"{event}{end}{end}".encode()).text == "Paris"


@pytest.mark.parametrize("end", [b"\n\n", b"\n"])
def test_a_stream_of_endless_events_is_given_up(end: bytes) -> None:
    taken: list[Any] = []
    with pytest.raises(AgentMalformed, match=f"more than {MAX_EVENTS} events"):
        taken.extend(sse_events((b"data:{}" + end) * (MAX_EVENTS + 1)))
    assert len(taken) <= MAX_EVENTS


def test_a_stream_of_endless_choices_is_given_up() -> None:
    event = b'{"choices":[' + b"{}," * (MAX_EVENTS // 2) + b"{}]}"
    with pytest.raises(AgentMalformed, match=f"more than {MAX_EVENTS} choices"):
        _streamed(b"data:" + event + b"\n\ndata:" + event + b"\n\ndata: [DONE]\n\n")


def test_events_without_an_empty_line_between_them_are_read_too() -> None:
    content = _events(_delta("Par"), _delta("is", "stop")).replace(b"\n\n", b"\n")
    assert _streamed(content).text == "Paris"


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "Text/Event-Stream", "TEXT/EVENT-STREAM;charset=UTF-8", "text/plain", ""]
)
def test_a_stream_is_told_by_its_beginning_or_its_type(kind: str) -> None:
    assert is_stream(kind, _events(_delta("Paris")))
    assert is_stream(kind, b": a comment\n\n")
    assert not is_stream(kind, json.dumps(_completion("Paris")).encode())
    assert is_stream(kind, b"junk: 1\n\n") is kind.lower().startswith("text/event-stream")


# --- URLs -------------------------------------------------------------------------------------------------------------

BASES = ["http://h/v1", "http://h:8000/v1/", "http://h/openai/deployments/m", "http://h"]
QUERIES = ["", "?api-version=2024-02-01", "?a=1&b=%2F"]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", ["", "/chat/completions", "/chat/completions/"])
def test_a_chat_is_asked_at_its_path_whatever_the_endpoint_has(base: str, query: str, path: str) -> None:
    url, _, _ = FORMATS[OPENAI].request(_ask(endpoint=base.rstrip("/") + path + query + "#part"), 1.0, ())
    assert url == base.rstrip("/") + "/chat/completions" + query


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/messages", "/v1/messages/"])
@pytest.mark.parametrize("base", ["http://h", "http://h/anthropic"])
def test_a_message_is_asked_at_its_path_whatever_the_endpoint_has(base: str, query: str, path: str) -> None:
    url, _, _ = FORMATS[ANTHROPIC].request(_ask(ANTHROPIC, endpoint=base + path + query), 1.0, ())
    assert url == base + "/v1/messages" + query


@pytest.mark.parametrize("query", [*QUERIES, "?back=/chat/completions/v1/messages"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("transport", "called", "probed"),
    [
        (OPENAI, ["", "/", "/chat/completions", "/chat/completions/"], "/models"),
        (ANTHROPIC, ["", "/", "/v1/messages"], "/v1/models"),
        (TransportKind.A2A, ["", "/", CARD_PATH], CARD_PATH),
    ],
)
def test_a_probe_goes_beside_the_call_with_the_same_query(
    transport: TransportKind, called: list[str], probed: str, base: str, query: str
) -> None:
    base = base.rstrip("/").removesuffix("/v1") if transport is ANTHROPIC else base.rstrip("/")
    assert {probe_url(transport, base + path + query) for path in called} == {base + probed + query}


def test_an_agent_of_our_contract_is_probed_where_it_is_called() -> None:
    assert probe_url(TransportKind.HTTP, "http://h/work?a=1") == "http://h/work?a=1"


@given(st.text(max_size=40), st.sampled_from(["/chat/completions", "/v1/messages"]))
def test_the_url_of_any_endpoint_has_its_path_once(endpoint: str, path: str) -> None:
    once = url_of(endpoint, path)
    assert url_of(once, path) == once
    assert once.partition("?")[0].endswith(path)


# --- A2A --------------------------------------------------------------------------------------------------------------


async def _over_a2a(result: Any, **changes: Any) -> Reply:
    pytest.importorskip("a2a")
    url: list[str] = []
    async with serving(a2a_server(url, lambda body: result)) as base:
        url.append(base)
        ours = transports(LOOPBACK)
        try:
            return await A2ATransport(ours.client).ask(
                question(base, transport=TransportKind.A2A, schema={}, **changes)
            )
        finally:
            await ours.close()


def _said(*parts: Any) -> dict[str, Any]:
    return {"messageId": "m1", "role": "ROLE_AGENT", "parts": list(parts)}


def _task(state: str, *parts: Any) -> dict[str, Any]:
    status = {"state": f"TASK_STATE_{state}", "message": _said(*parts)} if parts else {"state": f"TASK_STATE_{state}"}
    return {"task": {"id": "t1", "contextId": "c1", "status": status}}


@pytest.mark.parametrize(
    "result",
    [
        {"message": _said()},
        {"message": _said({"text": " \n"})},
        {"message": _said({"url": "http://x/f"})},
        _task("COMPLETED"),
        _task("COMPLETED", {"text": ""}),
    ],
)
async def test_an_a2a_answer_without_a_word_is_malformed(result: Any) -> None:
    with pytest.raises(AgentMalformed, match="is empty"):
        await _over_a2a(result)
    assert not (await _over_a2a(result, allow_incomplete=True)).text.strip()


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("FAILED", AgentFailed),
        ("CANCELED", AgentFailed),
        ("REJECTED", AgentRefused),
        ("INPUT_REQUIRED", AgentRefused),
        ("AUTH_REQUIRED", AgentRefused),
    ],
)
async def test_an_a2a_task_that_does_not_complete_keeps_its_words(state: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"{state}: The quota is over\."):
        await _over_a2a(_task(state, {"text": "The quota is over."}))
    with pytest.raises(error, match=f"{state}\\.$"):
        await _over_a2a(_task(state))


class _Moving:
    """An A2A agent whose card and address change when it is deployed anew; counts what it was asked."""

    def __init__(self) -> None:
        self.path = "/rpc1"
        self.base = ""
        self.moves = True
        self.told = ""
        self.cards = 0
        self.calls = 0
        self.missing: httpx.Response = httpx.Response(404)

    async def __call__(self, request: Any) -> Any:
        if request.url.path.startswith("/.well-known"):
            self.cards += 1
            self.told = self.path if self.moves else self.told
            answer: httpx.Response = await a2a_server([self.base], lambda body: None)(request)
            return httpx.Response(200, content=answer.content.replace(b"/rpc", self.told.encode()))
        if request.url.path != self.path:
            return self.missing
        self.calls += 1
        return await a2a_server([self.base], lambda body: {"message": _said({"text": "yes"})})(request)


NO_METHOD = httpx.Response(
    200, json={"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}
)


@pytest.mark.parametrize("missing", [httpx.Response(404), httpx.Response(405), httpx.Response(410), NO_METHOD])
async def test_an_a2a_agent_that_has_moved_is_found_by_its_card(missing: httpx.Response) -> None:
    pytest.importorskip("a2a")
    agent, now = _Moving(), [0.0]
    async with serving(agent) as base:
        agent.base, agent.missing = base, missing
        ours = transports(LOOPBACK)
        a2a = A2ATransport(ours.client, lambda: now[0])
        ask = question(base, transport=TransportKind.A2A, schema={})
        assert (await a2a.ask(ask)).text == "yes"
        agent.path = "/rpc2"
        assert (await a2a.ask(ask)).text == "yes"
        assert (agent.calls, agent.cards) == (2, 2)
        agent.cards = agent.calls = 0
        agent.path, agent.moves = "/rpc3", False
        with pytest.raises(PeerError):
            await a2a.ask(ask)
        assert (agent.calls, agent.cards) == (0, 1), "its card says what it said, so nothing is asked again"
        await ours.close()


async def test_an_a2a_card_is_read_again_on_registration_and_every_hour() -> None:
    pytest.importorskip("a2a")
    agent, now = _Moving(), [0.0]
    async with serving(agent) as base:
        agent.base = base
        ours = transports(LOOPBACK)
        a2a = A2ATransport(ours.client, lambda: now[0])
        cards = []
        for at, revision in ((0.0, 1.0), (3599.0, 1.0), (3601.0, 1.0), (3602.0, 2.0), (7200.0, 2.0), (7203.0, 2.0)):
            now[0] = at
            await a2a.ask(question(base, transport=TransportKind.A2A, schema={}, revision=revision))
            cards.append(agent.cards)
        assert cards == [1, 1, 2, 3, 3, 4]
        await ours.close()
