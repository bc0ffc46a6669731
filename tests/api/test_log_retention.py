"""A log without its first rows: streams refuse older cursors, the audit verifies what is left, the command tells what stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import websockets

from tests.actors.test_sealer import seal_all, sealer
from tests.stores.test_audit_archives import archives, command
from tests.stores.test_audit_command import Command
from tests.support.api import CP, Api
from tests.support.log_segments import all_read, log_keeper, short_segments
from tests.support.samples import system_event

__all__ = ["archives", "command"]

SSE = {"Accept": "text/event-stream"}


async def _without_first_rows(api: Api, directory: Path) -> int:
    """Returns the number of the first row that is left."""
    await short_segments(api.stores, length=40)
    while await api.stores.log.head() < 100:
        await api.stores.log.append([system_event("e")])
    await seal_all(sealer(api.stores))
    await all_read(api.stores)
    assert await log_keeper(api.stores, directory).look() == 2
    return await api.stores.log.first()


async def test_a_stream_from_before_the_first_row_is_refused(api: Api, tmp_path: Path) -> None:
    first = await _without_first_rows(api, tmp_path)
    for headers, query in (({"Last-Event-ID": "3"}, ""), ({}, "?after=0"), ({}, f"?after={first - 2}")):
        answer = await api.client.get(f"{CP}/stream{query}", headers={**SSE, **headers})
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_lost")
        assert f"resume after {first - 1}" in answer.json()["error"]
    url = api.url.replace("http://", "ws://") + f"{CP}/stream"
    async with websockets.connect(f"{url}?after=3") as socket:
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, f"resume after {first - 1}" in closed.value.rcvd.reason) == (1008, True)
    async with api.client.stream("GET", f"{CP}/stream?after={first - 1}", headers=SSE) as response:
        assert response.status_code == 200
    async with websockets.connect(f"{url}?after={first - 1}") as socket:
        assert json.loads(await socket.recv())["data"]["last_event_id"] == first - 1


async def test_the_audit_over_http_verifies_what_is_left(api: Api, tmp_path: Path) -> None:
    await _without_first_rows(api, tmp_path)
    await seal_all(sealer(api.stores))
    report = await api.get("/audit/verify")
    assert (report["valid"], report["end_seq"]) == (True, await api.stores.log.head())
    assert (await api.get("/audit/verify?start_seq=1&end_seq=10"))["valid"]


async def test_the_command_says_what_went_and_why_the_rest_stays(command: Command, archives: Path) -> None:
    shown = await command.said("retention", "log", "--json")
    found = json.loads(shown)
    assert (found["archive_dir"], found["oldest"]["first_seq"]) == (str(archives), 31)
    assert found["oldest"]["held"] == "is the newest"
    assert [(a["first_seq"], a["last_seq"], a["present"]) for a in found["archives"]] == [
        (1, 10, True),
        (11, 20, True),
        (21, 30, True),
    ]
    text = " ".join((await command.said("retention", "log")).split())
    assert "stays: it is the newest" in text
