"""Agents and workers send what cannot be stored: through the whole application, from real servers, on real stores."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from typing import Any

import httpx
import pytest
import websockets

from actors.roles import SCHEDULER
from aragora_worker.worker import Job, Reject, Worker
from tests.support.api import CP, Api
from tests.support.endpoints import serving
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, samples
from tests.support.probes import eventually
from tests.transports.test_odd_answers import A2A, HTTP, OPENAI, STREAM, TAKEN, Case


async def _ended(api: Api, task_id: str) -> dict[str, Any]:
    async def ended() -> Any:
        task = await api.get(f"/tasks/{task_id}")
        return task if task["status"] not in ("pending", "running") else None

    return dict(await eventually(ended, 60))


async def _generation(api: Api) -> int:
    return int((await api.actor(SCHEDULER).status())["generation"])


def _no_trace(caplog: pytest.LogCaptureFixture) -> None:
    traces = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not traces, traces[0].getMessage()


# --- called agents ----------------------------------------------------------------------------------------------------

#: A task is asked of the plain contract as a task, of the others as a chat.
ASKED: list[Case] = [case for case in TAKEN if case[0] is not HTTP or "task" in case[2]]


class Odd:
    """Agent ``n`` lives under ``/n`` and always gives the n-th answer."""

    def __init__(self) -> None:
        rng = random.Random(13)
        cases = [ASKED[index % len(ASKED)] for index in range(2 * len(ASKED))]
        texts = samples(odd_json, len(cases) * 4)
        self.agents = [(case, case[1].replace("%s", rng.choice(texts)).encode()) for case in cases]
        self.agents += [((HTTP, "", {}), body) for body in samples(no_json, 8)]
        self.calls: dict[int, int] = {}

    async def __call__(self, request: Any) -> httpx.Response:
        number = int(request.url.path.split("/")[1])
        (kind, _, changes), content = self.agents[number]
        if kind is A2A and request.method == "GET":
            return httpx.Response(200, json=_card(str(request.base_url) + f"{number}/rpc"))
        self.calls[number] = self.calls.get(number, 0) + 1
        if kind is A2A:
            asked = json.loads(await request.body())
            content = content.replace(b'"ID"', json.dumps(asked["id"]).encode())
        streamed = changes.get("options") == STREAM
        media = "text/event-stream" if streamed else "application/json"
        return httpx.Response(200, content=content, headers={"content-type": media})

    def registrations(self, url: str) -> list[dict[str, Any]]:
        found = []
        for number, ((kind, _, changes), _) in enumerate(self.agents):
            name = f"odd-{number}"
            options = changes.get("options", {})
            found.append(
                {"agent_id": name, "capabilities": [name], "endpoint": f"{url}/{number}", "transport": kind.value}
                | {"model": "m", "options": options}
            )
        return found


def _card(url: str) -> dict[str, Any]:
    interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    return {
        "name": "Agent",
        "description": "An agent.",
        "version": "1",
        "capabilities": {},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [],
        "supportedInterfaces": [interface],
    }


async def _work_meanwhile(api: Api, count: int) -> None:
    """Tasks of somebody else, claimed and completed while odd answers come in."""
    await api.post("/agents", {"agent_id": "good", "capabilities": ["good"]})
    for number in range(count):
        created = await api.post("/tasks", {"task_type": "t", "required_capabilities": ["good"]})
        lease = (await api.post("/tasks/claim", {"agent_id": "good", "block_ms": 20_000}))["task"]
        assert lease["id"] == created["task_id"]
        await api.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], "result": number})
        assert (await api.get(f"/tasks/{lease['id']}"))["attempt"] == 1


async def test_odd_answers_of_called_agents_fail_their_own_attempts_and_nothing_else(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Odd()
    generation = await _generation(api)
    async with serving(odd) as url:
        await api.post("/agents/batch", {"agents": odd.registrations(url)})
        tasks = [
            {"task_type": "t", "payload": {"prompt": "x"}, "required_capabilities": [f"odd-{number}"], "max_retries": 0}
            for number in range(len(odd.agents))
        ]
        created = (await api.post("/tasks/batch", {"tasks": tasks}))["task_ids"]
        await _work_meanwhile(api, 30)
        for number, task_id in enumerate(created):
            task = await _ended(api, task_id)
            assert task["status"] == "failed", (odd.agents[number], task)
            assert task["error"].startswith(f"Agent odd-{number}: "), task["error"]
            assert len(task["error"]) < 300
            (row,) = [row for row in await api.rows(task_id) if row.kind == "task.dead_lettered"]
            assert row.data["error_class"] == "malformed"
    assert await _generation(api) == generation, "the shard has never read its state again"
    assert (await api.get("/breakers"))["breakers"] == []
    assert set(odd.calls.values()) == {1}
    _no_trace(caplog)


async def test_json_of_a_language_model_that_cannot_be_kept_is_malformed(api: Api) -> None:
    schema = {"type": "object"}
    answers = ['{"n": NaN}', '{"n": 1e999}', 'Here: {"n": "\\ud83d"}', f'{{"n": {"9" * 5000}}}', "[" * 90 + "]" * 90]

    def answer(request: Any) -> httpx.Response:
        content = answers[int(request.url.path.split("/")[1])]
        return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})

    async with serving(answer) as url:
        for number in range(len(answers)):
            body = {"agent_id": f"m{number}", "endpoint": f"{url}/{number}", "transport": OPENAI.value, "model": "m"}
            await api.post("/agents", body)
            payload = {"prompt": "x", "schema": schema}
            task = {"task_type": "t", "payload": payload, "target_agent": f"m{number}", "max_retries": 0}
            ended = await _ended(api, (await api.post("/tasks", task))["task_id"])
            assert ended["status"] == "failed"
            assert ended["error"].startswith(f"Agent m{number}: The answer ")


# --- deliberations ----------------------------------------------------------------------------------------------------


def _reply(answer: str, rationale: str = '"r"', confidence: str = '"high"') -> str:
    return f'{{"answer": {answer}, "rationale": {rationale}, "confidence": {confidence}}}'


def _text(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def _odd_members() -> list[bytes]:
    odd = samples(odd_json, 12)
    return [
        *(_text(_reply('"A"', rationale=text)) for text in odd[:4]),
        *(_text(_reply(text)) for text in odd[4:8]),
        *(_text(_reply('"A"', confidence=text)) for text in ("[]", "{}", "9" * 5000, "NaN")),
        *(f'{{"text": {text}}}'.encode() for text in odd[8:]),
        *(_reply(text).encode() for text in odd[:4]),
        *samples(no_json, 6),
    ]


async def test_a_deliberation_decides_without_the_member_that_answers_oddly(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    members = _odd_members()

    def answer(request: Any) -> httpx.Response:
        name = request.url.path.split("/")[1]
        content = members[int(name)] if name.isdigit() else _text(_reply('"A"'))
        return httpx.Response(200, content=content, headers={"content-type": "application/json"})

    async with serving(answer) as url:
        names = ["b", "c", *map(str, range(len(members)))]
        agents = [{"agent_id": f"m{name}", "endpoint": f"{url}/{name}", "max_concurrency": 100} for name in names]
        await api.post("/agents/batch", {"agents": agents})

        async def decided(number: int) -> Any:
            config = {"agents": [f"m{number}", "mb", "mc"], "rounds": 0, "consensus": "majority", "options": ["A", "B"]}
            body = {"content": f"Which? {number}", "config": config, "timeout_seconds": 20}
            return await api.post("/deliberations", body)

        for number, result in enumerate(await asyncio.gather(*map(decided, range(len(members))))):
            assert (result["terminal"], result["answer"]) == ("DECIDED", "A"), (members[number], result)
    _no_trace(caplog)


async def test_an_impossible_token_count_neither_exhausts_a_budget_nor_is_believed(api: Api) -> None:
    def answer(request: Any) -> httpx.Response:
        count = 10**18 if request.url.path == "/a" else 20
        return httpx.Response(200, json={"text": _reply('"A"'), "input_tokens": 10, "output_tokens": count})

    async with serving(answer) as url:
        await api.post("/agents/batch", {"agents": [{"agent_id": f"m{n}", "endpoint": f"{url}/{n}"} for n in "abc"]})
        config = {"agents": ["ma", "mb", "mc"], "rounds": 0, "consensus": "majority", "options": ["A", "B"]}
        body = {"content": "Which?", "config": {**config, "budget": {"tokens": 20_000}}, "timeout_seconds": 20}
        result = await api.post("/deliberations", body)
        assert (result["terminal"], result["cost"]["estimated"]) == ("DECIDED", True)
        assert result["cost"]["tokens"] < 1000
        receipt = await api.call("GET", f"/deliberations/{result['request_id']}/receipt")
        assert receipt.status_code == 200


# --- workers ----------------------------------------------------------------------------------------------------------


async def _leases(api: Api, count: int) -> list[dict[str, Any]]:
    tasks = [{"task_type": "t", "max_retries": 0} for _ in range(count)]
    ids = (await api.post("/tasks/batch", {"tasks": tasks}))["task_ids"]
    leases: list[dict[str, Any]] = []
    while len(leases) < count:
        body = {"agent_id": "a1", "max_tasks": min(100, count - len(leases)), "block_ms": 20_000}
        leases += (await api.post("/tasks/claim", body))["tasks"]
    assert [lease["id"] for lease in leases] == ids
    return leases


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({"result": text}, "invalid_json") for text in samples(odd_texts, 3)),
    *(({"error": text}, "invalid_json") for text in samples(odd_texts, 3)),
    ({"result": math.nan}, "invalid_json"),
    ({"result": [-math.inf]}, "invalid_json"),
    ({"result": json.loads("[" * 70 + "]" * 70)}, "invalid_json"),
    ({"error": "x" * 20_000}, "invalid_request"),
    ({"error": 5}, "invalid_request"),
    ({"error": "x", "retry_after_seconds": math.nan}, "invalid_request"),
    ({"error": "x", "error_class": "strange"}, "invalid_request"),
    ({"lease_token": "zzz"}, "invalid_lease_token"),
    ({"lease_token": "a\x00"}, "invalid_json"),
    ({"task_id": "no such"}, "invalid_id"),
    ({"task_id": "\ud800"}, "invalid_id"),
    ({"task_id": "task_x"}, "lease_lost"),
]


async def test_a_report_in_a_batch_that_cannot_be_stored_fails_alone(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await api.post("/agents", {"agent_id": "a1", "max_concurrency": 1000})
    generation = await _generation(api)
    leases = await _leases(api, 2 * len(REFUSED))
    reports = [{"task_id": claimed["id"], "lease_token": claimed["lease_token"], "result": "ok"} for claimed in leases]
    for index, (wrong, _) in enumerate(REFUSED):
        reports[2 * index] |= wrong
    answer = await api.client.post(f"{CP}/tasks/complete", content=json.dumps({"reports": reports}), headers=JSON)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["ok"] for result in results] == [False, True] * len(REFUSED)
    for index, (wrong, code) in enumerate(REFUSED):
        refused = results[2 * index]
        assert refused["code"] == code, (wrong, refused)
        assert 0 < len(refused["error"]) < 200
    for index, lease in enumerate(leases):
        status = (await api.get(f"/tasks/{lease['id']}"))["status"]
        assert status == ("completed" if index % 2 else "running")
    assert await _generation(api) == generation
    _no_trace(caplog)


JSON = {"Content-Type": "application/json"}


async def test_a_workers_result_that_cannot_be_sent_fails_its_attempt_alone(api: Api) -> None:
    given = [*samples(odd_values, 20), {1, 2}, object(), b"bytes"]
    raised: list[Exception] = [*map(ValueError, samples(odd_texts, 5)), *map(Reject, samples(odd_texts, 5))]
    worker = Worker("w1", capabilities=["x"], base_url=api.url, heartbeat_s=0.2, concurrency=50)

    @worker.handles()
    async def handle(job: Job) -> Any:
        if job.payload < len(given):
            return given[job.payload]
        if job.payload < len(given) + len(raised):
            raise raised[job.payload - len(given)]
        return job.payload

    count = len(given) + len(raised) + 10
    tasks = [{"task_type": "t", "payload": n, "required_capabilities": ["x"], "max_retries": 0} for n in range(count)]
    ids = (await api.post("/tasks/batch", {"tasks": tasks}))["task_ids"]
    running = asyncio.create_task(worker.run())
    ended = [await _ended(api, task_id) for task_id in ids]
    worker.drain()
    await running
    assert [task["status"] for task in ended] == ["failed"] * (count - 10) + ["completed"] * 10
    for task in ended[: len(given)]:
        assert task["error"].startswith("Agent w1: The result ")
        (row,) = [row for row in await api.rows(task["id"]) if row.kind == "task.dead_lettered"]
        assert row.data["error_class"] == "malformed"


# --- frames -----------------------------------------------------------------------------------------------------------


def _frames() -> list[str | bytes]:
    return [
        *(f'{{"agent_id": {text}}}' for text in samples(odd_json, 10)),
        *(f'{{"heartbeats": {text}}}' for text in samples(odd_json, 5)),
        *(f'{{"type": {text[:4000]}}}' for text in samples(odd_json, 5)),
        "[" * 4000,
        "[" * 100_000,
        "9" * 4096,
        "9" * 5000,
        b"\xff\x00",
        b"",
        "",
        "null",
        '{"type": []}',
        "x" * 2_000_000,
    ]


@pytest.mark.parametrize("path", [f"{CP}/stream", f"{CP}/agents/heartbeats", "/ws/control-plane"])
async def test_an_odd_websocket_frame_is_answered_by_an_error(
    api: Api, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    async with websockets.connect(api.url.replace("http", "ws") + path) as socket:

        async def answered(frame: str | bytes) -> str:
            """The kind of the answer. A list of heartbeats of which none counts is an error by entry."""
            await socket.send(frame)
            async with asyncio.timeout(20):
                while True:
                    message = json.loads(await socket.recv())
                    kind = message["type"]
                    if (
                        kind == "heartbeat_ack"
                        and message["data"].get("refused")
                        and not message["data"]["acknowledged"]
                    ):
                        return "error"
                    if kind in ("error", "pong", "heartbeat_ack"):
                        return str(kind)

        for frame in _frames():
            assert await answered(frame) == "error", frame[:100]
        if path.endswith("heartbeats"):
            assert await answered('{"agent_id": "a1"}') == "heartbeat_ack"
        else:
            assert await answered('{"type": "ping"}') == "pong"
    _no_trace(caplog)
