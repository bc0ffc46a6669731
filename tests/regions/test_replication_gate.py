"""What leaves a process of one region of several, when, and what it is told otherwise; on a real database."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.domain.base.errors import Fenced, TryLater
from cluster.domain.replication.batch import CopyBeginning, LogPosition
from cluster.http.forwarding import RegionForwarding
from cluster.log.replication_gate import LogReplaced
from cluster.ports.replication import LeaderStatus
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.stores import Stores, open_stores
from serve_app.auth.clients import Clients
from serve_app.http.replicated import ReplicatedAnswers
from serve_app.http.to_primary import FORWARDED_BY, ToPrimary
from tests.support.gates import LONG_S, ZONE, GatedRegion, gated
from tests.support.probes import eventually
from tests.support.samples import system_event
from tests.support.stores import StoreUrls


@pytest.fixture
async def region(stores: Stores) -> AsyncIterator[GatedRegion]:
    async with gated(stores) as found:
        yield found


def code(refused: TryLater | None) -> str | None:
    return None if refused is None else refused.code


async def test_what_was_committed_leaves_when_it_is_replicated(region: GatedRegion) -> None:
    await region.becomes_primary(2)
    head = await region.commit()
    asked = asyncio.create_task(region.gate.passed(None))
    await region.tell(2, head - 1)
    assert not asked.done()
    await region.tell(1, head)  # of another epoch, so perhaps of another log
    assert not asked.done()
    await region.tell(2, head)
    await asked
    await region.commit()
    with pytest.raises(TryLater) as refused:
        await region.gate.passed(0.01)
    assert (refused.value.code, "same idempotency key" in refused.value.message) == ("not_replicated", True)


async def test_what_others_commit_later_is_not_waited_for(region: GatedRegion) -> None:
    head = await region.becomes_primary(2)
    await region.tell(2, head - 1)
    asked = asyncio.create_task(region.gate.passed(None))
    await region.seen()
    await region.commit()
    await region.tell(2, head)
    await asked


async def test_the_status_is_read_for_those_who_wait(stores: Stores) -> None:
    """A process in which nobody waits reads nothing because of a commit."""
    async with gated(stores, heartbeat_s=LONG_S) as region:
        head = await region.becomes_primary(5)
        await region.bell.notify(WakeTopic.LED)
        await eventually(lambda: region.gate.is_primary)
        begun = region.statuses.begun
        await region.bell.notify(WakeTopic.REPLICATED)
        await eventually(lambda: region.bell.all_heard)
        assert not region.gate._wake.is_set()
        assert region.statuses.begun == begun
        waiting = asyncio.create_task(region.gate.passed(None))
        await eventually(lambda: bool(region.gate._waiting))
        told = LeaderStatus(epoch=5, watermark=head, primary="east", refusal=None)
        await region.statuses.tell(told, 0.0)
        await region.bell.notify(WakeTopic.REPLICATED)
        await waiting


async def test_writes_are_taken_by_a_primary_that_is_not_alone(region: GatedRegion) -> None:
    refused = region.gate.why_not_write()
    assert (code(refused), region.gate.is_primary, region.epochs) == ("not_primary", False, [])
    head = await region.becomes_primary(2)
    await region.tell(2, head, refusal="not_primary")
    assert code(region.gate.why_not_write()) == "not_primary"
    await region.tell(2, head, refusal="not_replicated")
    assert code(region.gate.why_not_write()) == "not_replicated"
    await region.tell(2, head)
    assert (region.gate.why_not_write(), region.epochs) == (None, [2])
    await region.database.close_writes()
    await region.tell(2, head, primary="west")
    refused = region.gate.why_not_write()
    assert refused is not None
    assert (refused.code, "west at https://west.example.com" in refused.message) == ("not_primary", True)


async def test_a_primary_whose_trust_has_ended_is_none(region: GatedRegion) -> None:
    head = await region.becomes_primary(2)
    await region.tell(2, head)
    await region.stores.pool.execute(
        "update region_state set trusted_until = clock_timestamp() where region = $1", ZONE
    )
    await region.seen()
    assert (region.gate.is_primary, code(region.gate.why_not_write())) == (False, "not_primary")


async def test_reads_elsewhere_are_of_a_stated_age(region: GatedRegion) -> None:
    assert code(region.gate.why_not_read()) == "stale_region", "it has never heard of a primary"
    await region.tell(2, 0, primary="west", silent_s=10.0)
    staleness_s = region.gate.staleness_s()
    assert (region.gate.why_not_read(), staleness_s is not None and 10.0 <= staleness_s < 30.0) == (None, True)
    await region.tell(2, 0, primary="west", silent_s=31.0)
    assert code(region.gate.why_not_read()) == "stale_region"


async def test_a_process_ends_when_the_log_is_replaced(region: GatedRegion) -> None:
    replica = PostgresReplica(region.stores.pool, ZONE)
    assert await replica.set_role("secondary", 1, None)
    state = await replica.state()
    tail = LogPosition(epoch=2, seq=9, digest="x")
    await replica.begin_copy(
        CopyBeginning(zone=ZONE, schema_version=state.schema_version, epoch=2, tail=tail, history=())
    )
    await eventually(lambda: region.deaths)
    assert isinstance(region.deaths[0], LogReplaced)
    assert code(region.gate.why_not_read()) == "copy_incomplete"


async def test_one_region_of_several_makes_itself_no_primary(store_urls: StoreUrls, schema: str) -> None:
    """Not in a fresh database, nor in one of a region that was alone."""
    for alone in (False, True, False):
        stores = await open_stores(store_urls.database, schema, ZONE, alone=alone)
        assert await stores.region.epoch() == int(alone)
        if not alone:
            with pytest.raises(Fenced):
                await stores.log.append([system_event("e")])
        await stores.close()


# --- the API's layer --------------------------------------------------------------------------------------------------


class Call:
    """One call of an application behind the layer. ``sent``: what has left."""

    def __init__(
        self,
        region: GatedRegion,
        app: Any,
        kind: str = "http",
        method: str = "GET",
        path: str = "/x",
        consistency: tuple[bytes, ...] = (),
    ) -> None:
        self.sent: list[Any] = []
        #: How often what the process remembers was brought up to date.
        self.caught_up = 0
        headers = [(FORWARDED_BY, b"north"), *((b"x-aragora-consistency", value) for value in consistency)]
        scope = {"type": kind, "method": method, "path": path, "headers": headers, "state": {}, "extensions": {}}
        to_primary = ToPrimary("east", RegionForwarding(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), 1.0), Clients())
        layer = ReplicatedAnswers(app, lambda: region.gate, lambda: to_primary, self._catch_up)
        self.task = asyncio.create_task(layer(scope, self._receive, self._send))

    async def _catch_up(self) -> None:
        self.caught_up += 1

    async def _receive(self) -> Any:
        return {"type": "websocket.connect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def status(self) -> int:
        await self.task
        return int(self.sent[0]["status"])


def answering(status: int = 200, *parts: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [] if parts else [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts or (b"",):
            await send({"type": "http.response.body", "body": part, "more_body": bool(parts)})

    return app


async def framing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "a"})


async def test_answers_parts_of_streams_and_frames_wait(region: GatedRegion) -> None:
    await region.becomes_primary(2)
    head = await region.commit()
    await region.tell(2, head - 1)
    waiting = [
        Call(region, answering()),
        Call(region, answering(409)),
        Call(region, answering(), method="POST"),
        Call(region, answering(200, b"a", b"b")),
    ]
    frames = Call(region, framing, "websocket")
    await region.seen()
    assert [call.sent for call in waiting] == [[]] * 4
    assert [message["type"] for message in frames.sent] == ["websocket.accept"]
    own = Call(region, answering(), path="/health/live")
    failed = Call(region, answering(500))
    assert (await own.status(), await failed.status()) == (200, 500)
    await region.tell(2, head)
    assert [await call.status() for call in waiting] == [200, 409, 200, 200]
    assert [message.get("body") for message in waiting[3].sent] == [None, b"a", b"b"]
    await frames.task
    assert frames.sent[1]["text"] == "a"


LINEARIZABLE = (b"linearizable",)


async def test_a_linearizable_read_is_of_a_primary_that_is_trusted_after_it(region: GatedRegion) -> None:
    head = await region.becomes_primary(2)
    await region.tell(2, head)
    read, plain = Call(region, answering(), consistency=LINEARIZABLE), Call(region, answering())
    assert (await read.status(), read.caught_up) == (200, 1)
    assert (await plain.status(), plain.caught_up) == (200, 0)
    for wrong in ((b"eventual",), (b"linearizable", b"linearizable"), (b"",)):
        refused = Call(region, answering(), consistency=wrong)
        assert (await refused.status(), b"invalid_consistency" in refused.sent[1]["body"]) == (400, True)

    async def outlived(scope: Any, receive: Any, send: Any) -> None:
        """Reads, and then the database is trusted no more, of which this process has not heard."""
        await region.stores.pool.execute(
            "update region_state set trusted_until = clock_timestamp() where region = $1", ZONE
        )
        await answering()(scope, receive, send)

    assert await Call(region, outlived).status() == 200, "of a plain read this is allowed"
    await region.stores.pool.execute("update region_state set trusted_until = 'infinity' where region = $1", ZONE)
    await region.seen()
    late = Call(region, outlived, consistency=LINEARIZABLE)
    assert (await late.status(), b"not_primary" in late.sent[1]["body"]) == (503, True)


async def test_a_linearizable_read_does_not_outlive_an_epoch(region: GatedRegion) -> None:
    """Between the two another region may have written."""
    await region.tell(2, await region.becomes_primary(2))

    async def outlived(scope: Any, receive: Any, send: Any) -> None:
        await region.database.close_writes()
        await region.tell(3, await region.becomes_primary(3))
        await answering()(scope, receive, send)

    assert await Call(region, outlived, consistency=LINEARIZABLE).status() == 503


async def test_each_part_of_a_stream_waits_for_itself(region: GatedRegion) -> None:
    head = await region.becomes_primary(2)
    await region.tell(2, head)
    committed = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await region.commit()
        committed.set()
        await send({"type": "http.response.body", "body": b"b", "more_body": True})

    call = Call(region, stream)
    await committed.wait()
    await region.seen()
    assert [message.get("body") for message in call.sent] == [None, b"a"]
    await region.tell(2, head + 1)
    await call.task
    assert call.sent[2]["body"] == b"b"


async def test_a_secondary_says_its_age_and_where_the_primary_is(region: GatedRegion) -> None:
    await region.tell(2, 0, primary="west", silent_s=1.0)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = Call(region, answering(), method=method)
        assert await refused.status() == 503
        assert (b"x-aragora-primary", b"https://west.example.com") in refused.sent[0]["headers"]
        assert b"not_primary" in refused.sent[1]["body"]
    await region.stores.pool.execute("update region_state set epoch = 2 where region = $1", ZONE)
    read = Call(region, answering())
    assert await read.status() == 200
    assert 1.0 <= float(dict(read.sent[0]["headers"])[b"x-aragora-staleness"]) < 30.0
    await region.tell(2, 0, primary="west", silent_s=None)
    stale, socket = Call(region, answering()), Call(region, framing, "websocket")
    assert (await stale.status(), b"stale_region" in stale.sent[1]["body"]) == (503, True)
    await socket.task
    assert [(message["type"], message["code"]) for message in socket.sent] == [("websocket.close", 1013)]
