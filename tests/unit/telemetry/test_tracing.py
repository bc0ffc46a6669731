"""Tracing: when it is on, what it costs when it is off, and what a collector that is away costs."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from cluster.postgres.traced_pool import summary
from cluster.process import spans
from cluster.process.clock import SystemClock
from cluster.process.group_commit import GroupCommit
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeServer, SentCall, TracedCall
from cluster.telemetry import genai_names
from cluster.telemetry.tracing import begin_tracing, is_on
from tests.support.collector import collecting, free_port, tracing
from tests.support.docs import ROOT
from tests.support.probes import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADER = f"00-{TRACE}-00f067aa0ba902b7-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_the_standard_variables_decide_whether_spans_are_made(variables: Mapping[str, str], on: bool) -> None:
    assert is_on(variables) is on


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (HEADER, TRACE),
        (HEADER[:-2] + "00", TRACE),
        ("cc" + HEADER[2:] + "-later", TRACE),
        (HEADER + "-more", ""),
        ("ff" + HEADER[2:], ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (HEADER.upper(), ""),
        ("", ""),
    ],
)
def test_a_trace_context_is_read_as_the_recommendation_says(header: str, trace: str) -> None:
    assert spans.trace_of(header) == trace


def test_a_process_without_tracing_imports_no_opentelemetry() -> None:
    code = (
        "import sys, cluster.postgres.pool, cluster.rpc.exchange, serve_app.http.spans, serve_app.http.middleware\n"
        "import actors.agents.traced_calls\n"
        "from cluster.telemetry.tracing import begin_tracing\n"
        "begin_tracing('x', {})\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


async def _work() -> list[SentCall]:
    """A request over an exchange whose actor commits it, and the messages that were sent."""
    sent: list[SentCall] = []

    async def flush(items: Any) -> Any:
        return [item * 2 for item in items]

    commits: GroupCommit[int, int] = GroupCommit(flush)
    tasks: set[asyncio.Task[None]] = set()

    def handle(caller: str, requests: Any) -> None:
        async def answer(number: int, request: int) -> None:
            server.answer(caller, number, await commits.put(request))

        tasks.update(asyncio.ensure_future(answer(number, request)) for number, request in requests)

    server = ExchangeServer(handle, lambda caller, number: None, SystemClock())

    async def call(message: SentCall) -> Any:
        sent.append(message)
        return await server.call(message)

    client = ExchangeClient("c", call, clock=SystemClock())
    assert await client.request(4) == 8
    await client.close()
    return sent


async def test_without_tracing_no_call_of_it_is_on_the_way() -> None:
    called: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        sent = await _work()
    finally:
        sys.setprofile(None)
    assert any(name.endswith("cluster/rpc/exchange.py") for name in called)
    assert not [
        name for name in called if name.endswith(("process/spans.py", "telemetry/tracing.py")) or "opentel" in name
    ]
    assert {type(message) for message in sent} == {ExchangeCall}


async def test_a_request_over_the_exchange_and_its_commit_are_one_trace() -> None:
    async with collecting() as (collector, flush):
        with spans.span("asker", spans.Kind.SERVER, {}, parent=HEADER):
            sent = await _work()
        await asyncio.to_thread(flush)
        assert collector.tree(TRACE) == ["? > asker", "? > asker > int", "? > asker > int > commit"]
    assert any(type(message) is TracedCall for message in sent)


async def test_a_commit_of_several_traces_is_in_each_and_linked() -> None:
    async with collecting() as (collector, flush):
        gate = asyncio.Event()

        async def write(items: Any) -> Any:
            await gate.wait()
            return items

        commits: GroupCommit[int, int] = GroupCommit(write)

        async def put(trace: str) -> None:
            with spans.span("asker", spans.Kind.SERVER, {}, parent=f"00-{trace}-{'1' * 16}-01"):
                await commits.put(1)

        first = asyncio.ensure_future(put("a" * 32))
        await eventually(lambda: commits._waiting == 0 and commits._runner is not None)
        others = [asyncio.ensure_future(put(letter * 32)) for letter in "bc"]
        await eventually(lambda: commits._waiting == 2)
        gate.set()
        await asyncio.gather(first, *others)
        await asyncio.to_thread(flush)
        by_trace = {span.trace[0]: span for span in collector.got if span.name == "commit"}
    assert set(by_trace) == {"a", "b", "c"}
    assert by_trace["c"].links == (by_trace["b"].id,)
    assert by_trace["b"].attributes["aragora.batch.size"] == 2


async def test_what_waits_has_the_span_that_whoever_works_on_it_names() -> None:
    async with collecting() as (collector, flush):
        with spans.span("request", spans.Kind.SERVER, {}, parent=HEADER):
            spans.submitted("task.submit", TRACE, "task_1", {})
        with spans.span("work", spans.Kind.CONSUMER, {}, parent=spans.waiting_span(TRACE, "task_1")):
            pass
        spans.submitted("task.submit", "#17", "task_2", {})
        await asyncio.to_thread(flush)
        assert collector.tree(TRACE) == ["? > request", "? > request > task.submit", "? > request > task.submit > work"]
        assert collector.tree(spans.trace_id_for("task_2")) == ["task.submit"]


async def test_the_sampler_decides_for_the_request_and_for_what_waits() -> None:
    async with collecting(OTEL_TRACES_SAMPLER="parentbased_always_off") as (collector, flush):
        assert spans.waiting_span(TRACE, "task_1").endswith("-00")
        with spans.span("left out", spans.Kind.SERVER, {}):
            pass
        with spans.span("kept", spans.Kind.SERVER, {}, parent=HEADER):
            pass
        await asyncio.to_thread(flush)
    assert [span.name for span in collector.got] == ["kept"]


async def test_service_name_headers_and_attributes_are_those_of_the_variables() -> None:
    variables = {"OTEL_SERVICE_NAME": "plane-7", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    async with collecting(**variables, OTEL_EXPORTER_OTLP_HEADERS="api-key=abc") as (collector, flush):
        with spans.span("one", spans.Kind.SERVER, {}):
            pass
        await asyncio.to_thread(flush)
    (span,) = collector.got
    assert span.resource["service.name"] == "plane-7"
    assert span.resource["deployment.environment.name"] == "test"
    assert span.resource["service.instance.id"].startswith("test:")
    assert collector.headers[0]["api-key"] == "abc"


async def test_a_service_that_nobody_named_has_ours() -> None:
    async with collecting() as (collector, flush):
        with spans.span("one", spans.Kind.SERVER, {}):
            pass
        await asyncio.to_thread(flush)
    assert collector.got[0].resource["service.name"] == "aragora-control-plane"


async def test_an_error_is_told_by_its_kind_and_not_its_text() -> None:
    async with collecting() as (collector, flush):
        with pytest.raises(ValueError), spans.span("fails", spans.Kind.CLIENT, {}):
            raise ValueError("hunter2")
        await asyncio.to_thread(flush)
    assert (collector.got[0].failed, collector.got[0].attributes["error.type"]) == (True, "ValueError")
    assert b"hunter2" not in collector.raw


def test_a_collector_that_is_away_costs_one_line_and_spans(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with tracing(f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="0.1") as flush:
        for _ in range(3):
            with spans.span("lost", spans.Kind.SERVER, {}):
                pass
            flush()
    ours = [record for record in caplog.records if record.name.startswith(("cluster", "opentelemetry"))]
    assert [record.getMessage() for record in ours] == [
        "spans cannot be sent and are dropped until the collector answers"
    ]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "a variable OTEL_… is not understood"),
    ],
)
def test_variables_that_cannot_be_followed_are_told_and_end_nothing(
    variables: dict[str, str], says: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ENDPOINT | variables).items():
        monkeypatch.setenv(name, value)
    begin_tracing("test")
    assert spans.tracer is None
    assert says in caplog.text


def test_our_names_of_generative_ai_are_those_of_the_conventions() -> None:
    ours = {value for name, value in vars(genai_names).items() if str(value).startswith("gen_ai.") and name.isupper()}
    theirs = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    assert len(ours) == 8
    assert ours <= theirs


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("select * from submit_tasks($1, $2)", "submit_tasks"),
        ("-- purpose\nselect log_last()", "log_last"),
        ("select count(*) from tasks where id = 'hunter2'", "select tasks"),
        ("with some as (select 1) select * from tasks", "with tasks"),
        ("update tasks set a = 1", "update tasks"),
        ("", "transaction"),
    ],
)
def test_a_statement_is_named_by_what_it_calls_or_reads(sql: str, name: str) -> None:
    assert summary(sql) == name
