"""Calls between processes past Ray: answers, errors, who may call, and what a lost connection does to both sides."""

from __future__ import annotations

import asyncio
import hmac
import pickle
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.base.errors import (
    ActorUnavailable,
    AgentUnavailable,
    ControlPlaneError,
    InvalidRequest,
    NotFound,
    TooLarge,
    TryLater,
)
from cluster.domain.scheduling.answers import ClaimAnswer, HeartbeatAnswer
from cluster.domain.scheduling.requests import ClaimRequest, HeartbeatRequest
from cluster.domain.tasks.progress import Progress
from cluster.process.clock import SystemClock
from cluster.rpc.channel import KEY_BYTES, Address, Channel, ChannelServer
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply, ExchangeServer
from tests.support.listening import listening, port_of
from tests.support.probes import eventually


class Actor:
    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.cancelled: list[str] = []
        self.called = 0
        self.exchange_server = ExchangeServer(self._handle, lambda caller, number: None, SystemClock())

    def _handle(self, caller: str, requests: Sequence[tuple[int, Any]]) -> None:
        for number, request in requests:
            self.exchange_server.answer(caller, number, ClaimAnswer() if isinstance(request, ClaimRequest) else request)

    async def __call__(self, method: str, *arguments: Any) -> Any:
        self.called += 1
        return await getattr(self, method)(*arguments)

    async def echo(self, *arguments: Any) -> Any:
        return arguments

    async def parked(self, name: str) -> str:
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return name

    async def refuse(self) -> None:
        raise NotFound("There is no such thing.", "nothing_there")

    async def endpoint(self) -> None:
        raise AgentUnavailable("Not now.", None, 2.5)

    async def fail(self) -> None:
        raise ZeroDivisionError("a secret")

    async def unspeakable(self) -> Any:
        return lambda: None

    async def exchange(self, call: ExchangeCall) -> ExchangeReply:
        return await self.exchange_server.call(call)


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[Actor, Address, ChannelServer]]:
    actor = Actor()
    server = ChannelServer(actor)
    address = await server.start("127.0.0.1")
    try:
        yield actor, address, server
    finally:
        await server.close()


async def test_calls_of_one_channel_run_concurrently() -> None:
    async with _served() as (actor, address, _):
        channel = await Channel.open(address)
        parked = asyncio.create_task(channel.call("parked", "first"))
        values = (
            HeartbeatRequest(agents=(("w", "a"),)),
            frozenset({"x"}),
            {"k": [1, 2.5, None, b"raw"]},
            "ü" * 200_000,
        )
        assert await channel.call("echo", *values) == values
        assert not parked.done()
        actor.released.set()
        assert await parked == "first"
        channel.close()


async def test_our_errors_arrive_as_they_were_raised_and_others_without_their_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with _served() as (_, address, _server):
        channel = await Channel.open(address)
        with pytest.raises(NotFound, match="no such thing") as refused:
            await channel.call("refuse")
        assert refused.value.code == "nothing_there"
        with pytest.raises(AgentUnavailable) as later:
            await channel.call("endpoint")
        assert later.value.retry_after_s == 2.5
        for method in ("fail", "unspeakable", "missing"):
            with pytest.raises(ControlPlaneError, match=f"failed in {method}") as failed:
                await channel.call(method)
            assert "secret" not in str(failed.value)
        assert "a secret" in caplog.text, "the operator sees it"
        channel.close()


@pytest.mark.parametrize(
    "value",
    [*(kind("no", "code") for kind in (NotFound, InvalidRequest, TooLarge, TryLater)), Progress(percent=5.0)],
    ids=lambda value: type(value).__name__,
)
async def test_values_of_the_package_of_workers_cross_under_our_names(value: object) -> None:
    """A process of an earlier version knows no others, and talks to this one during a rollout."""
    assert b"aragora_worker" not in pickle.dumps(value)

    async with _served() as (_, address, _server):
        channel = await Channel.open(address)
        (echoed,) = await channel.call("echo", value)
        assert (type(echoed), repr(echoed)) == (type(value), repr(value))
        channel.close()


async def test_a_lost_server_fails_calls_and_a_lost_caller_cancels_them() -> None:
    async with _served() as (actor, address, server):
        first, second = await Channel.open(address), await Channel.open(address)
        waiting = [
            asyncio.create_task(channel.call("parked", name)) for channel, name in ((first, "one"), (second, "two"))
        ]
        await eventually(lambda: actor.called == 2)
        first.close()
        with pytest.raises(ActorUnavailable):
            await waiting[0]
        await eventually(lambda: actor.cancelled == ["one"])
        await server.close()
        with pytest.raises(ActorUnavailable):
            await waiting[1]
        with pytest.raises(ActorUnavailable):
            await second.call("echo")
        with pytest.raises(OSError):
            await Channel.open(address)


async def test_a_retired_channel_answers_what_it_was_asked_and_closes() -> None:
    async with _served() as (actor, address, _):
        channel = await Channel.open(address)
        waiting = asyncio.create_task(channel.call("parked", "last"))
        await eventually(lambda: actor.called == 1)
        channel.retire()
        actor.released.set()
        assert await waiting == "last"
        with pytest.raises(ActorUnavailable):
            await channel.call("echo")


async def test_a_caller_that_stops_waiting_leaves_the_others_alone() -> None:
    async with _served() as (actor, address, _):
        channel = await Channel.open(address)
        waiting = asyncio.create_task(channel.call("parked", "given up"))
        await eventually(lambda: actor.called == 1)
        waiting.cancel()
        actor.released.set()
        assert await channel.call("echo", 1) == (1,)
        channel.close()


async def test_an_exchange_over_a_channel_goes_on_with_the_next_server() -> None:
    """The caller opens again after a loss, and what was unanswered is asked again, as over Ray."""
    channels: list[Channel] = []
    addresses: list[Address] = []

    async def exchange(call: ExchangeCall) -> ExchangeReply:
        try:
            if not channels:
                channels.append(await Channel.open(addresses[-1]))
            reply: ExchangeReply = await channels[0].call("exchange", call)
        except OSError as error:
            raise ActorUnavailable("away") from error
        except ActorUnavailable:
            channels.clear()
            raise
        return reply

    client = ExchangeClient("test", exchange, clock=SystemClock())
    claim = ClaimRequest(
        workspace="w",
        agent_id="a",
        principal="p",
        capabilities=frozenset(),
        max_concurrency=1,
        max_tasks=1,
        claim_id="c",
        client_claim_id=True,
        wait=False,
    )
    async with _served() as (_, address, server):
        addresses.append(address)
        assert await client.request(claim) == ClaimAnswer()
        await server.close()
        held = asyncio.create_task(client.request(HeartbeatAnswer()))
        async with _served() as (_, successor, _):
            addresses.append(successor)
            assert await held == HeartbeatAnswer()
            await client.close()
            channels[0].close()


# --- who may call -----------------------------------------------------------------------------------------------------


async def test_without_the_key_nothing_is_called() -> None:
    async with _served() as (actor, address, _):
        with pytest.raises(OSError, match="handshake"):
            await Channel.open(replace(address, key=bytes(KEY_BYTES)))
        assert actor.called == 0
        assert "key" not in repr(address)


async def test_a_server_that_does_not_have_the_key_gets_no_message() -> None:
    read: list[bytes] = []

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(struct.pack("!I", KEY_BYTES) + bytes(KEY_BYTES))
        await reader.readexactly(4 + KEY_BYTES + 32)
        writer.write(struct.pack("!I", 32) + bytes(32))
        read.append(await reader.read())
        writer.close()

    async with listening(impostor) as server:
        with pytest.raises(OSError, match="handshake"):
            await Channel.open(Address("127.0.0.1", port_of(server), bytes(KEY_BYTES)))
        await eventually(lambda: read == [b""])


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!I", 2**31) + b"x" * 100,
        struct.pack("!I", 64) + b"x" * 64,
        struct.pack("!I", 0),
        struct.pack("!I", 4) + pickle.dumps(1)[:4],
    ],
    ids=["http", "endless", "wrong proof", "nothing", "a pickle"],
)
async def test_a_caller_without_proof_of_the_key_is_disconnected(first: bytes) -> None:
    async with _served() as (actor, address, _):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        await reader.readexactly(4 + KEY_BYTES)
        writer.write(first)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        assert actor.called == 0
        writer.close()


class _Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("/tmp/never-made-by-a-message"),)


@pytest.mark.parametrize(
    "message",
    [
        pickle.dumps((1, "echo", (_Runs(),))),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x0dcluster.loops\x8c\x08os._exit\x93.",
        b"\x80\x04\x8c\x0dcluster.loops\x8c\x0bend_process\x93.",
        b"not a pickle",
    ],
    ids=["a function", "os.system", "a module's module", "a function of ours", "garbage"],
)
async def test_even_with_the_key_a_message_names_only_values(message: bytes) -> None:
    async with _served() as (actor, address, _):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        await reader.readexactly(4)
        nonces = await reader.readexactly(KEY_BYTES) + bytes(KEY_BYTES)
        proof = hmac.digest(address.key, b"caller" + nonces, "sha256")
        for part in (bytes(KEY_BYTES) + proof, message):
            writer.write(struct.pack("!I", len(part)) + part)
        await reader.readexactly(4 + 32)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        assert actor.called == 0
        writer.close()


async def test_an_address_is_kept_in_a_file_that_only_its_user_reads(tmp_path: Path) -> None:
    async with _served() as (_, address, _server):
        address.save(tmp_path / "address")
        assert (tmp_path / "address").stat().st_mode & 0o777 == 0o600
        assert Address.load(tmp_path / "address") == address
