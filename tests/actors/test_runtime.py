"""Calls of an actor go over a channel if one can be opened, else through Ray. Ray's handle is a stand-in; the rest is real."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from actors import runtime
from actors.roles import SCHEDULER, Role
from actors.runtime import RoleHandle
from cluster.domain.base.errors import ActorUnavailable, NotFound
from cluster.rpc.channel import Address, Channel, ChannelServer
from tests.support.probes import eventually


class _Remote:
    def __init__(self, function: Any) -> None:
        self.remote = function


class _Handle:
    """An actor's handle as Ray gives it."""

    def __init__(self, address: Address | None) -> None:
        self.carried: list[str] = []
        self.address = address
        self.called_at = _Remote(self._called_at)
        self.call = _Remote(self._call)

    async def _called_at(self) -> Address | None:
        return self.address

    async def _call(self, method: str, *args: Any) -> Any:
        self.carried.append(method)
        return await _answer(method, *args)


class _Role(RoleHandle):
    def __init__(self, *handles: _Handle) -> None:
        super().__init__(Role(kind=SCHEDULER), names=None)  # type: ignore[arg-type]
        self.handles = list(handles)

    async def _find(self) -> Any:
        if not self.handles:
            raise ActorUnavailable("being restarted")
        return self.handles[0]


async def _answer(method: str, *args: Any) -> Any:
    if method == "refuse":
        raise NotFound("There is no such thing.")
    if method == "away":
        raise ActorUnavailable("The state is being read.")
    if method == "hang":
        await asyncio.Event().wait()
    return [method, *args]


async def test_calls_go_over_the_channel_and_past_ray() -> None:
    server = ChannelServer(_answer)
    handle = _Handle(await server.start("127.0.0.1"))
    role = _Role(handle)
    answers = await asyncio.gather(*(role.call("echo", n) for n in range(20)))
    assert answers == [["echo", n] for n in range(20)]
    with pytest.raises(NotFound):
        await role.call("refuse")
    assert handle.carried == []
    assert isinstance(role._way, Channel)
    await server.close()


@pytest.mark.parametrize("address", [None, Address("127.0.0.1", 1, bytes(32))], ids=["none offered", "closed"])
async def test_where_there_is_no_channel_ray_carries_the_calls(address: Address | None) -> None:
    handle = _Handle(address)
    role = _Role(handle)
    assert await role.call("echo", 1) == ["echo", 1]
    with pytest.raises(NotFound):
        await role.call("refuse")
    assert handle.carried == ["echo", "refuse"]


async def test_a_channel_that_could_not_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "CHANNEL_RETRY_S", 0.0)
    handle = _Handle(Address("127.0.0.1", 1, bytes(32)))
    role = _Role(handle)
    await role.call("echo")
    server = ChannelServer(_answer)
    handle.address = await server.start("127.0.0.1")
    await role.call("echo")
    assert handle.carried == ["echo"]
    assert isinstance(role._way, Channel)
    await server.close()


async def test_a_wrong_key_opens_no_channel() -> None:
    server = ChannelServer(_answer)
    handle = _Handle(replace(await server.start("127.0.0.1"), key=bytes(32)))
    role = _Role(handle)
    assert await role.call("echo") == ["echo"]
    assert handle.carried == ["echo"]
    await server.close()


async def test_an_actor_that_has_ended_is_resolved_again() -> None:
    first, second = ChannelServer(_answer), ChannelServer(_answer)
    handle, other = _Handle(await first.start("127.0.0.1")), _Handle(await second.start("127.0.0.1"))
    role = _Role(handle)
    hanging = asyncio.create_task(role.call("hang"))
    assert await role.call("echo") == ["echo"]
    role.handles = []
    await first.close()
    with pytest.raises(ActorUnavailable):
        await hanging
    with pytest.raises(ActorUnavailable):
        await role.call("echo")
    role.handles = [other]
    assert await role.call("echo") == ["echo"]
    assert handle.carried == other.carried == []
    await second.close()


async def test_an_actor_that_answers_that_it_is_away_is_resolved_again() -> None:
    server, successor = ChannelServer(_answer), ChannelServer(_answer)
    role = _Role(_Handle(await server.start("127.0.0.1")))
    with pytest.raises(ActorUnavailable, match="read"):
        await role.call("away")
    role.handles = [_Handle(await successor.start("127.0.0.1"))]
    assert await role.call("echo") == ["echo"]
    await eventually(lambda: not server._connections)
    await server.close()
    await successor.close()


async def test_a_call_beyond_its_deadline_makes_the_actor_unavailable() -> None:
    server = ChannelServer(_answer)
    role = _Role(_Handle(await server.start("127.0.0.1")))
    with pytest.raises(ActorUnavailable, match="does not answer"):
        await role.call("hang", timeout_s=0.05)
    assert await role.call("echo") == ["echo"]
    await server.close()
