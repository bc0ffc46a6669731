"""A real DNS server on loopback whose answers change from query to query, and a resolver that asks it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import struct
from collections.abc import AsyncIterator, Sequence

from cluster.http.addresses import Address, Resolve

_A, _AAAA = 1, 28
_ids = itertools.count(1)


class _Zone(asyncio.DatagramProtocol):
    def __init__(self, answers: Sequence[Sequence[str]]) -> None:
        self.answers = [[ipaddress.ip_address(address) for address in answer] for answer in answers]
        self.queries = 0
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Each query is answered with the next list; the last one is given again and again."""
        answer = self.answers[min(self.queries, len(self.answers) - 1)]
        self.queries += 1
        question = data[12 : data.index(b"\0", 12) + 5]  # not what EDNS puts behind it
        records = b"".join(
            b"\xc0\x0c"
            + struct.pack(">HHIH", _A if address.version == 4 else _AAAA, 1, 0, len(address.packed))
            + address.packed
            for address in answer
        )
        header = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(answer), 0, 0)
        self.transport.sendto(header + question + records, addr)


class _Query(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.answer.done():
            self.answer.set_result(data)


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", next(_ids), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", _A, 1)


def _records(data: bytes) -> list[Address]:
    (count,) = struct.unpack(">H", data[6:8])
    offset = data.index(b"\0", 12) + 5
    found: list[Address] = []
    for _ in range(count):
        _, _, _, length = struct.unpack(">HHIH", data[offset + 2 : offset + 12])
        found.append(ipaddress.ip_address(data[offset + 12 : offset + 12 + length]))
        offset += 12 + length
    return found


@contextlib.asynccontextmanager
async def dns_server(*answers: Sequence[str]) -> AsyncIterator[tuple[Resolve, _Zone]]:
    loop = asyncio.get_running_loop()
    transport, zone = await loop.create_datagram_endpoint(lambda: _Zone(answers), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]

    async def resolve(host: str, _: int) -> list[Address]:
        asking, query = await loop.create_datagram_endpoint(_Query, remote_addr=("127.0.0.1", port))
        try:
            asking.sendto(_question(host))
            return _records(await asyncio.wait_for(query.answer, 5))
        finally:
            asking.close()

    try:
        yield resolve, zone
    finally:
        transport.close()
