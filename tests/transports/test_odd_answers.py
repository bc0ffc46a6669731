"""Whatever an endpoint answers is an answer that can be kept, or a fault with a sentence: over every transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.failures import retry_after
from cluster.agent_transports.python import PythonTransport
from cluster.agent_transports.python_agent import Answer, Question
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.base.errors import AgentFailed, AgentMalformed, AgentRefused, AgentUnavailable, PeerError
from cluster.domain.base.json_values import MAX_BYTES, MAX_DIGITS, check_text, read_json
from cluster.domain.deliberation.ledger import MAX_TOKENS
from cluster.ports.agent_transport import Ask
from tests.support.asking import LOOPBACK, question, transports
from tests.support.endpoints import a2a_server, serving
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, plain_texts, plain_values

TASK = {"id": "t1", "task_type": "echo", "payload": {}, "metadata": {}, "attempt": 1}
STREAM = {"stream": True}


class Talk:
    """One server that answers what it is told, and ours, for as many questions as a property asks."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self.runner = runner
        self.url = url
        self.content = b""
        self.kind = "application/json"
        self.calls = 0
        self.http = transports(LOOPBACK)
        self.a2a = A2ATransport(self.http.client)

    def answer(self, request: Any) -> httpx.Response:
        self.calls += 1
        return httpx.Response(200, content=self.content, headers={"content-type": self.kind})

    def asks(self, kind: TransportKind, content: bytes, **changes: Any) -> Reply:
        self.content, self.calls = content, 0
        self.kind = "text/event-stream" if changes.get("options") == STREAM else "application/json"
        ask = question(self.url, transport=kind, **changes)
        asker = self.a2a if kind is TransportKind.A2A else self.http
        reply = self.runner.run(asker.ask(ask))
        _check(reply, ask)
        return reply


def _check(reply: Reply, ask: Ask) -> None:
    check_text(reply.text, "text")
    if ask.task is not None:
        read_json(reply.text, "text")
    assert 0 <= reply.input_tokens <= MAX_TOKENS
    assert 0 <= reply.output_tokens <= MAX_BYTES
    assert reply.tokens == reply.input_tokens + reply.output_tokens


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        made: list[Talk] = []
        url: list[str] = []
        card = a2a_server(url, lambda body: None)

        async def answer(request: Any) -> Any:
            if request.url.path.startswith("/.well-known"):
                return await card(request)
            body = json.loads(await request.body())
            if body.get("jsonrpc"):
                made[0].content = made[0].content.replace(b'"ID"', json.dumps(body["id"]).encode())
            return made[0].answer(request)

        url.append(runner.run(stack.enter_async_context(serving(answer))))
        made.append(Talk(runner, url[0]))
        yield made[0]
        runner.run(made[0].http.close())
        runner.run(stack.aclose())


# --- where something odd can be in an answer --------------------------------------------------------------------------

Case = tuple[TransportKind, str, Mapping[str, Any]]
HTTP, OPENAI, ANTHROPIC, A2A = TransportKind.HTTP, TransportKind.OPENAI, TransportKind.ANTHROPIC, TransportKind.A2A


def _completion(message: str = '{"content": "yes"}', more: str = "") -> str:
    return f'{{"choices": [{{"message": {message}, "finish_reason": "stop"}}]{more}}}'


def _events(*events: str) -> str:
    return "".join(f"data: {event}\n\n" for event in (*events, "[DONE]"))


def _rpc(result: str) -> str:
    return f'{{"jsonrpc": "2.0", "id": "ID", "result": {result}}}'


def _message(part: str) -> str:
    return _rpc(f'{{"message": {{"messageId": "m1", "role": "ROLE_AGENT", "parts": [{part}]}}}}')


#: What is taken from an answer: something odd here makes it malformed.
TAKEN: list[Case] = [
    (HTTP, "%s", {"task": TASK}),
    (HTTP, '{"result": %s}', {"task": TASK}),
    (HTTP, '{"error": %s}', {"task": TASK}),
    (HTTP, '{"text": %s}', {}),
    (HTTP, '{"answer": "a", "rationale": %s}', {}),
    (HTTP, "%s", {}),
    (OPENAI, _completion('{"content": %s}'), {}),
    (OPENAI, _completion("%s"), {}),
    (OPENAI, '{"choices": %s}', {}),
    (OPENAI, _events('{"choices": [{"delta": {"content": %s}}]}'), {"options": STREAM}),
    (ANTHROPIC, '{"content": [{"type": "text", "text": %s}]}', {}),
    (ANTHROPIC, '{"content": [{"type": "tool_use", "name": "answer", "input": {"a": %s}}]}', {}),
    (ANTHROPIC, '{"content": %s}', {}),
    (A2A, _message('{"text": %s}'), {}),
    (A2A, _message('{"data": {"a": %s}}'), {}),
    (A2A, _rpc("%s"), {}),
]
#: What an answer can do without: something odd here is not looked at, as long as the rest can be read.
OPTIONAL: list[Case] = [
    (HTTP, '{"text": "yes", "input_tokens": %s, "output_tokens": %s}', {}),
    (OPENAI, _completion(more=', "usage": %s'), {}),
    (OPENAI, _completion(more=', "usage": {"prompt_tokens": %s, "completion_tokens": %s}'), {}),
    (OPENAI, _completion(more=', "usage": {"completion_tokens": 9, "completion_tokens_details": %s}'), {}),
    (OPENAI, _completion(more=', "id": %s'), {}),
    (
        OPENAI,
        _events('{"choices": [{"delta": {"content": "yes"}}]}', '{"choices": null, "usage": %s}'),
        {"options": STREAM},
    ),
    (ANTHROPIC, '{"content": [{"type": "text", "text": "yes"}], "usage": %s}', {}),
    (
        ANTHROPIC,
        '{"content": [{"type": "text", "text": "yes"}], "usage": {"input_tokens": %s, "cache_read_input_tokens": %s}}',
        {},
    ),
]
#: Where a part of an answer is, of which only some is taken.
PARTS: list[Case] = [
    *TAKEN[6:],
    *OPTIONAL,
    (OPENAI, _completion('{"content": [{"type": "text", "text": "yes"}, %s]}'), {}),
    (OPENAI, _events('{"choices": [{"delta": %s}]}'), {"options": STREAM}),
    (OPENAI, _events('{"choices": [%s]}'), {"options": STREAM}),
    (OPENAI, _events('{"choices": %s}'), {"options": STREAM}),
    (OPENAI, _events("%s"), {"options": STREAM}),
    (ANTHROPIC, '{"content": [{"type": "text", "text": "yes"}, %s]}', {}),
]


def _put(case: Case, text: str) -> bytes:
    return case[1].replace("%s", text).encode()


@settings(max_examples=300)
@given(st.sampled_from(TAKEN), odd_json)
@example(TAKEN[1], "NaN")
@example(TAKEN[6], '"smile \\ud83d"')
def test_a_text_that_cannot_be_stored_is_a_malformed_answer(talk: Talk, case: Case, text: str) -> None:
    kind, _, changes = case
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(kind, _put(case, text), **changes)
    _check_sentence(malformed.value)
    assert talk.calls == 1, "it is not asked again: the endpoint is there, and would answer alike"


def _check_sentence(error: PeerError) -> None:
    check_text(error.message, "message")
    assert len(error.message) < 400, "what was answered is not repeated"
    assert error.message.endswith(".")


@settings(max_examples=200)
@given(st.sampled_from(OPTIONAL), odd_json | plain_values.map(json.dumps))
@example(OPTIONAL[1], '"many"')
@example(OPTIONAL[0], "1e999")
def test_an_odd_optional_field_is_ignored_or_makes_the_answer_malformed(talk: Talk, case: Case, text: str) -> None:
    kind, _, changes = case
    try:
        read_json(text, "it")
    except Exception:  # noqa: BLE001 - any error means that it cannot be read
        readable = False
    else:
        readable = True
    with contextlib.nullcontext() if readable else contextlib.suppress(AgentMalformed):
        assert talk.asks(kind, _put(case, text), **changes).text == "yes"


@settings(max_examples=400)
@given(st.sampled_from(PARTS), plain_values.map(json.dumps) | odd_json)
@example(PARTS[-5], '{"content": ["yes"]}')
@example(PARTS[-4], "null")
@example(PARTS[-3], "5")
@example(PARTS[-1], '{"type": "text", "text": 5}')
def test_a_value_of_another_shape_does_not_crash(talk: Talk, case: Case, text: str) -> None:
    kind, _, changes = case
    try:
        talk.asks(kind, _put(case, text.replace("\n", " ")), **changes)
    except (AgentFailed, AgentMalformed, AgentRefused) as error:
        fault = error
    else:
        return
    _check_sentence(fault)


@settings(max_examples=100)
@given(st.sampled_from([case for case in TAKEN if case[2].get("options") != STREAM]), no_json)
def test_a_body_that_is_no_json_is_a_malformed_answer(talk: Talk, case: Case, content: bytes) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(case[0], content, **case[2])
    _check_sentence(malformed.value)


#: Other JSON than the RPC's, at the place of the whole answer.
other_bodies = st.one_of(
    st.sampled_from(["1", "[]", "{}", "null", '{"choices": []}', '{"error": "no"}', '{"error": {"code": "x"}}']),
    plain_values.map(json.dumps).filter(lambda text: "error" not in text and "result" not in text),
)


@settings(max_examples=60)
@given(other_bodies)
@example("[]")
@example('{"choices": []}')
@example('{"error": {"code": true}}')
def test_an_answer_of_another_shape_is_malformed_over_a2a_too(talk: Talk, body: str) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(A2A, body.encode())
    _check_sentence(malformed.value)
    assert talk.calls == 1


@settings(max_examples=30)
@given(st.integers(309, MAX_DIGITS), st.sampled_from(["", "-"]))
def test_a_number_that_the_sdk_cannot_hold_is_malformed(talk: Talk, digits: int, sign: str) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(A2A, _message('{"data": {"a": %s}}' % (sign + "9" * digits)).encode())
    _check_sentence(malformed.value)


@pytest.mark.parametrize("code", [-32603, -32000, 5])
def test_an_error_that_an_a2a_agent_reports_is_no_odd_answer(talk: Talk, code: int) -> None:
    with pytest.raises(AgentFailed, match="no quota"):
        talk.asks(A2A, json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no quota"}}).encode())


@pytest.mark.parametrize(
    "address", ["http://a\x00b/", "http://a:b/", "http://" + "a" * 70_000 + "/"], ids=["NUL", "port", "long"]
)
async def test_a_card_whose_address_is_none_is_malformed(address: str) -> None:
    interface = {"url": address, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    async with serving(lambda request: httpx.Response(200, json={"supportedInterfaces": [interface]})) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentMalformed) as malformed:
            await A2ATransport(ours.client).ask(question(url, transport=A2A))
        await ours.close()
    _check_sentence(malformed.value)


@settings(max_examples=60)
@given(odd_texts)
def test_a_refusal_holds_only_text_that_can_be_stored(talk: Talk, text: str) -> None:
    whole = _completion(f'{{"refusal": {json.dumps(text)}}}'), {}
    streamed = _events(f'{{"choices": [{{"delta": {{"refusal": {json.dumps(text)}}}}}]}}'), {"options": STREAM}
    for content, changes in (whole, streamed):
        with pytest.raises(AgentRefused) as refused:
            talk.asks(OPENAI, content.encode(), **changes)
        check_text(refused.value.message, "message")


def test_the_texts_among_the_parts_of_a_message_are_the_answer(talk: Talk) -> None:
    parts = '[{"type": "thinking", "thinking": []}, {"type": "text", "text": "ye"}, {"type": "text", "text": "s"}]'
    assert talk.asks(OPENAI, _completion(f'{{"content": {parts}}}').encode()).text == "yes"
    streamed = _events(f'{{"choices": [{{"delta": {{"content": {parts}}}}}]}}')
    assert talk.asks(OPENAI, streamed.encode(), options=STREAM).text == "yes"


# --- streams ----------------------------------------------------------------------------------------------------------

#: Ends of lines to a text, not to a stream; each may be raw in a JSON string.
_BREAKS = st.text("a\u0085\u2028\u2029é😀\x7f", min_size=1, max_size=8)


@settings(max_examples=60)
@given(_BREAKS, st.sampled_from(["\r\n", "\n", "\r"]), st.booleans())
@example("a\u2028b", "\n", False)
@example("\u0085", "\n", True)
def test_only_the_ends_of_lines_of_the_standard_end_a_line(talk: Talk, text: str, end: str, marked: bool) -> None:
    delta = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)
    content = _events(delta).replace("\n", end).encode("utf-8-sig" if marked else "utf-8")
    assert talk.asks(OPENAI, content, options=STREAM, allow_incomplete=True).text == text


@pytest.mark.parametrize("control", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_raw_control_character_in_a_stream_is_malformed(talk: Talk, control: str) -> None:
    for whole, changes in ((_completion('{"content": "%s"}'), {}), (TAKEN[9][1], {"options": STREAM})):
        with pytest.raises(AgentMalformed, match="is not JSON"):
            talk.asks(OPENAI, whole.replace("%s", f"a{control}b").encode(), **changes)


@settings(max_examples=60)
@given(
    st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x80"]),
    st.sampled_from([b'{"choices": [{"delta": {"content": "%s"}}]}', b'{"choices": [{"delta": {"refusal": "%s"}}]}']),
)
@example(b"\xed\xa0\x80", b'{"choices": [{"delta": {"content": "%s"}}]}')
def test_bytes_that_are_no_text_are_malformed_in_a_stream_too(talk: Talk, odd: bytes, event: bytes) -> None:
    assume(not (odd.startswith(b"\xed") and b"refusal" in event))  # half a pair is replaced where it is only shown
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(OPENAI, b"data: %s\n\ndata: [DONE]\n\n" % event.replace(b"%s", odd), options=STREAM)
    _check_sentence(malformed.value)


objects = st.dictionaries(plain_texts.filter(lambda key: key not in ("choices", "error")), plain_values, max_size=3)


@settings(max_examples=60)
@given(st.lists(objects.map(json.dumps) | st.sampled_from(['{"choices": []}', '{"choices": null}']), max_size=3))
@example(['{"text": "yes"}'])
@example(['{"type": "content_block_delta", "delta": {"text": "yes"}}', '{"usage": {"prompt_tokens": 1}}'])
def test_a_stream_without_a_choice_is_no_completion(talk: Talk, events: list[str]) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        talk.asks(OPENAI, _events(*events).encode(), options=STREAM)
    _check_sentence(malformed.value)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in TAKEN if case[0] is not A2A])
def test_a_number_of_too_many_digits_is_named_as_such(talk: Talk, case: Case) -> None:
    for digits in (MAX_DIGITS + 1, 10 * MAX_DIGITS):
        with pytest.raises(AgentMalformed, match=rf"holds a number of more than {MAX_DIGITS} digits\.$"):
            talk.asks(case[0], _put(case, "9" * digits), **case[2])


# --- counts -----------------------------------------------------------------------------------------------------------

COUNTED: list[Case] = [
    (HTTP, '{"text": "yes", "input_tokens": IN, "output_tokens": OUT}', {}),
    (OPENAI, _completion(more=', "usage": {"prompt_tokens": IN, "completion_tokens": OUT}'), {}),
    (
        OPENAI,
        _events(
            '{"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}',
            '{"choices": [], "usage": {"prompt_tokens": IN, "completion_tokens": OUT}}',
        ),
        {"options": STREAM},
    ),
    (
        ANTHROPIC,
        '{"content": [{"type": "text", "text": "yes"}], "usage": {"input_tokens": IN, "output_tokens": OUT}}',
        {},
    ),
]
believable = st.tuples(st.integers(0, 100_000), st.integers(0, 40))
unbelievable = st.sampled_from(
    ["-1", "1.5", "true", '"9"', "null", "[]", "1e3", "1000000000", str(2**53), str(10**18), "9" * 400]
)


@settings(max_examples=60)
@given(st.sampled_from(COUNTED), believable)
def test_possible_token_counts_are_believed(talk: Talk, case: Case, counts: tuple[int, int]) -> None:
    content = case[1].replace("IN", str(counts[0])).replace("OUT", str(counts[1]))
    reply = talk.asks(case[0], content.encode(), **case[2])
    assert (reply.input_tokens, reply.output_tokens, reply.estimated) == (*counts, False)


@settings(max_examples=100)
@given(st.sampled_from(COUNTED), unbelievable, st.booleans())
def test_impossible_token_counts_are_replaced_by_estimates(talk: Talk, case: Case, count: str, out: bool) -> None:
    content = case[1].replace("IN", "7" if out else count).replace("OUT", count if out else "3")
    reply = talk.asks(case[0], content.encode(), **case[2])
    expected = (7, 1) if out else (2, 3)
    assert (reply.input_tokens, reply.output_tokens, reply.estimated) == (*expected, True)


@pytest.mark.parametrize("case", COUNTED)
def test_nobody_has_written_more_tokens_than_bytes_have_come(talk: Talk, case: Case) -> None:
    length = len(case[1].replace("IN", "7").replace("OUT", "")) + 2  # of a count of two digits, or with a third
    for tokens in (length, length + 2) if length < 98 else (length + 1, length + 3):
        content = case[1].replace("IN", "7").replace("OUT", str(tokens)).encode()
        reply = talk.asks(case[0], content, **case[2])
        assert (reply.output_tokens == tokens, reply.estimated) == (tokens <= len(content), tokens > len(content))


def test_hidden_thinking_tokens_are_believed_up_to_the_allowance(talk: Talk) -> None:
    def used(tokens: int, thought: int, max_tokens: int) -> Reply:
        details = f'{{"reasoning_tokens": {thought}}}'
        counts = f'"prompt_tokens": 7, "completion_tokens": {tokens}, "completion_tokens_details": {details}'
        return talk.asks(OPENAI, _completion(more=f', "usage": {{{counts}}}').encode(), max_tokens=max_tokens)

    assert used(1500, 1490, 2000).output_tokens == 1500
    assert used(1500, 1490, 64).estimated
    assert used(10**18, 10**18, 2000).estimated


# --- Retry-After ------------------------------------------------------------------------------------------------------


@given(
    st.one_of(
        st.sampled_from(
            ["inf", "nan", "-1", "1e400", "Wed, ...", "²", "", " ", "Mon, 01 Jan 99999999999 00:00:00 GMT"]
        ),
        st.text("0123456789.,:+-eE infatGMTWedJan", max_size=40),
        st.integers(0, 500).map(lambda digits: "9" * digits),
        st.tuples(plain_texts, plain_texts).map(lambda of: f"Wed, 21 Oct 2015 {of[0]}:28:00 {of[1]}"),
        plain_texts,
        odd_texts,
    )
)
@example("Wed, 21 Oct 2015 07:28:00 +99999999999999999999")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Thu, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_is_seconds_to_wait_or_nothing(value: str) -> None:
    seconds = retry_after(value, time.time())
    assert seconds is None or 0 <= seconds <= 366 * 86_400


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e400", "Wed, ...", "²", "soon"])
def test_a_retry_after_that_says_nothing_is_not_waited_for(value: str) -> None:
    assert retry_after(value, time.time()) is None


async def test_an_odd_retry_after_does_not_crash() -> None:
    answered = 0

    def answer(request: Any) -> httpx.Response:
        nonlocal answered
        answered += 1
        return httpx.Response(429, headers={b"retry-after": "²".encode("latin-1")})  # type: ignore[dict-item]

    async with serving(answer) as url:
        ours = transports(LOOPBACK)
        with pytest.raises(AgentUnavailable, match="429"):
            await ours.ask(question(url))
        await ours.close()
    assert answered == 1


# --- Python -----------------------------------------------------------------------------------------------------------


class Returning:
    """An agent of this process that returns anything."""

    def __init__(self, answer: Any = None, result: Any = None, error: Exception | None = None) -> None:
        self._answer, self._result, self._error = answer, result, error

    async def answer(self, question: Question) -> Answer:
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[no-any-return]

    async def work(self, task: Mapping[str, Any]) -> Any:
        return self._result


def _inside(agent: Returning, **changes: Any) -> Awaitable[Reply]:
    ask = question("", transport=TransportKind.IMPORT, agent_id="a1", **changes)
    return PythonTransport({"a1": agent}).ask(ask)


@given(odd_values | st.sampled_from([{1, 2}, b"bytes", object(), 1j, {(1, 2): 3}, "x" * (MAX_BYTES + 1)]))
def test_values_of_python_agents_are_held_to_the_same_rules(value: Any) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        asyncio.run(_run(lambda: _inside(Returning(result=value), task=TASK)))
    _check_sentence(malformed.value)


async def _run(ask: Callable[[], Awaitable[Reply]]) -> Reply:
    return await ask()


@given(odd_texts.map(lambda text: Answer(text=text)) | plain_values | st.sampled_from([object(), {"text": "yes"}]))
def test_a_python_agents_value_that_is_no_answer_is_malformed(answer: Any) -> None:
    with pytest.raises(AgentMalformed) as malformed:
        asyncio.run(_run(lambda: _inside(Returning(answer))))
    _check_sentence(malformed.value)


@given(st.sampled_from([-1, 1.5, True, "9", 2**53, 10**400, 1000]), st.booleans())
def test_token_counts_of_python_agents_are_held_to_the_same_rules(count: Any, out: bool) -> None:
    counts = {"output_tokens": count} if out else {"input_tokens": -1 if count == 1000 else count}
    reply = asyncio.run(_run(lambda: _inside(Returning(Answer(**{"text": "yes", "input_tokens": 1, **counts})))))
    assert reply.estimated
    assert (reply.input_tokens, reply.output_tokens) == ((1, 1) if out else (2, 1))


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@given(odd_texts.map(ValueError) | st.just(Mute()))
def test_an_error_of_a_python_agent_can_be_stored(error: Exception) -> None:
    with pytest.raises(AgentUnavailable) as failed:
        asyncio.run(_run(lambda: _inside(Returning(error=error))))
    check_text(failed.value.message, "message")
