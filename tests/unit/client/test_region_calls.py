"""The plain client of several regions repeats under one key, follows the primary that is named, and goes on past a lost one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aragora_worker.errors import ApiError
from cluster.client.region_calls import PRIMARY_HEADER, RegionCalls
from cluster.embedded.ports import free_ports

BODY = {"task_type": "echo"}


class RegionApi:
    """An API that gives the answers that it is told, one after the other and the last for ever. ``keys``: what it was asked
    under."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.url = ""

    def answer(self, status: int, body: dict[str, Any], **headers: str) -> None:
        self.answers.append((status, body, headers))


@contextmanager
def region_api() -> Iterator[RegionApi]:
    api = RegionApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            api.keys.append(self.headers["Idempotency-Key"])
            api.paths.append(self.path)
            status, body, headers = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def regions() -> Iterator[list[RegionApi]]:
    with region_api() as first, region_api() as second, region_api() as third:
        yield [first, second, third]


async def submitted(urls: list[str]) -> str:
    calls = RegionCalls(urls)
    try:
        return await calls.submit("k1", BODY)
    finally:
        await calls.close()


async def test_the_primary_that_is_named_is_asked_next(regions: list[RegionApi]) -> None:
    first, second, third = regions
    first.answer(503, {"error": "Elsewhere.", "code": "not_primary"}, **{PRIMARY_HEADER: third.url})
    third.answer(200, {"task_id": "t1"})
    assert await submitted([region.url for region in regions]) == "t1"
    assert second.keys == []


async def test_an_unknown_outcome_is_repeated_under_the_same_key(regions: list[RegionApi]) -> None:
    for region in regions:
        region.answer(503, {"error": "Not known.", "code": "not_replicated"})
        region.answer(200, {"task_id": "t1"})
    assert await submitted([region.url for region in regions]) == "t1"
    assert {key for region in regions for key in region.keys} == {"k1"}
    assert sum(len(region.keys) for region in regions) == 4


async def test_a_lost_primary_that_others_name_still_ends_no_search(regions: list[RegionApi]) -> None:
    (port,) = free_ports(1)
    lost = f"http://127.0.0.1:{port}"
    _, second, third = regions
    second.answer(503, {"error": "Elsewhere.", "code": "not_primary"}, **{PRIMARY_HEADER: lost})
    second.answer(200, {"task_id": "t2"})
    third.answer(503, {"error": "Elsewhere.", "code": "not_primary"}, **{PRIMARY_HEADER: lost})
    assert await submitted([lost, second.url, third.url]) == "t2"


async def test_a_region_outside_the_known_ones_is_not_followed(regions: list[RegionApi]) -> None:
    first, second, third = regions
    first.answer(503, {"error": "Elsewhere.", "code": "not_primary"}, **{PRIMARY_HEADER: third.url})
    second.answer(200, {"task_id": "t1"})
    assert await submitted([first.url, second.url]) == "t1"
    assert third.keys == []


async def test_what_is_refused_is_not_repeated(regions: list[RegionApi]) -> None:
    first, *_ = regions
    first.answer(400, {"error": "No such type.", "code": "invalid"})
    with pytest.raises(ApiError, match="No such type"):
        await submitted([first.url])
    assert first.keys == ["k1"]


async def test_all_pages_of_one_region_are_read(regions: list[RegionApi]) -> None:
    first, second, _ = regions
    second.answer(200, {"tasks": [{"id": "t1"}], "next_cursor": "c1"})
    second.answer(200, {"tasks": [{"id": "t2"}], "next_cursor": None})
    calls = RegionCalls([first.url, second.url])
    try:
        assert [task["id"] for task in await calls.tasks(second.url)] == ["t1", "t2"]
    finally:
        await calls.close()
    assert second.paths[1].endswith("&cursor=c1")
    assert first.paths == []
