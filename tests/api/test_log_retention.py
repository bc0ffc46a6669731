"""A log without its first rows: streams refuse older cursors, the audit verifies what is left, the command tells what stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import websockets

from cluster.domain.base.log import LogRecord
from cluster.log import archived_story
from tests.actors.test_sealer import seal_all, sealer
from tests.stores.test_audit_archives import archives, command
from tests.stores.test_audit_command import Command
from tests.support.api import CP, Api, api_settings
from tests.support.cli import command as said
from tests.support.log_segments import all_read, log_keeper, short_segments
from tests.support.samples import NOW, system_event
from tests.support.stores import StoreUrls

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


def _row(entity: str, cause: str = "", workspace: str = "default") -> LogRecord:
    return LogRecord(at=NOW, workspace=workspace, kind="system.test", entity=entity, cause=cause)


async def test_a_story_goes_back_into_archives(
    store_urls: StoreUrls, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Api(api_settings(store_urls, schema, log_archive_dir=tmp_path)).running() as api:
        await short_segments(api.stores, length=40)
        (led,) = await api.stores.log.append([_row("earlier")])
        (own, foreign) = await api.stores.log.append([_row("t1", f"#{led}"), _row("t1", workspace="w")])
        (follows,) = await api.stores.log.append([_row("later", f"#{own}")])
        while await api.stores.log.head() < 100:
            await api.stores.log.append([system_event("e")])
        (last,) = await api.stores.log.append([_row("t1")])
        await seal_all(sealer(api.stores))
        await all_read(api.stores)
        await log_keeper(api.stores, tmp_path).look()
        assert await api.stores.log.first() > follows
        live = await api.get("/story/t1")
        assert [event["seq"] for event in live["events"]] == [last]
        story = await api.get("/story/t1?archived=true")
        assert [event["seq"] for event in story["events"]] == [led, own, follows, last]
        assert (story["searched_from"], foreign in {event["seq"] for event in story["events"]}) == (1, False)
        pages = [await api.get(f"/story/t1?archived=true&limit=2&after={after}") for after in (0, own)]
        assert [[event["seq"] for event in page["events"]] for page in pages] == [[led, own], [follows, last]]
        assert [page["has_more"] for page in pages] == [True, False]
        assert f"{led}" in await said(api, "story", "t1", "--archived")
        missing = await api.call("GET", "/story/earlier")
        assert (missing.status_code, "archived=true" in missing.json()["error"]) == (404, True)
        monkeypatch.setattr(archived_story, "TURN_S", 0.0)
        async with api.gateway.archived_stories._one:  # somebody else searches, however long
            refused = await api.call("GET", "/story/t1?archived=true")
        assert (refused.status_code, refused.json()["code"], "retry-after" in refused.headers) == (
            429,
            "overloaded",
            True,
        )
        shutil.rmtree(tmp_path)
        alone = await api.get("/story/t1?archived=true")
        assert (len(alone["events"]), alone["searched_from"]) == (1, await api.stores.log.first())


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
