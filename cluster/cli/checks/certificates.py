"""Certificates: of the API, of PostgreSQL and Redis, and of the agents' endpoints; expired ones and those that soon are.

Nothing is verified but the dates, and nothing is sent: who has to trust a certificate checks it at each call.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from aragora_worker.api import ControlPlaneClient
from cluster.cli.checks.findings import WARNING, Finding, fine, problem
from cluster.cli.checks.stores import stores_settings
from cluster.domain.base.errors import ControlPlaneError
from cluster.http.front_files import UnusableFile, check_front_files, soon_ending
from cluster.process.front import front_tls
from cluster.settings import Settings

SOON: Final = timedelta(days=14)
#: For the list of agents and all servers, which are asked at the same time, some at once. Less than the checks' `GROUP_S`.
ALL_S: Final = 3.5
AGENTS_S: Final = 2.5
AT_ONCE: Final = 32
SERVERS_MAX: Final = 500
NO_AGENTS: Final = "those of the agents' endpoints were not tried: the API does not list the agents"
#: With these bytes a client asks PostgreSQL for TLS.
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
_PORTS: Final = {"https": 443, "rediss": 6379, "postgresql": 5432, "postgres": 5432}


@dataclass(frozen=True, slots=True, order=True)
class TlsServer:
    """``of``: whose certificate it is, in words."""

    host: str
    port: int
    of: str
    is_postgres: bool = False


def servers(url: str, of: str) -> Iterator[TlsServer]:
    """The servers of a URL that speak TLS."""
    try:
        parts = urlsplit(url)
        scheme, options = parts.scheme.lower(), parse_qs(parts.query)
        if scheme not in _PORTS or "disable" in options.get("sslmode", ()):
            return
        for address in parts.netloc.rpartition("@")[2].split(","):  # PostgreSQL takes several
            alone = urlsplit(f"x://{address}")
            if alone.hostname:
                port = alone.port or _PORTS[scheme]
                yield TlsServer(alone.hostname, port, of, scheme.startswith("postgres"))
    except ValueError:
        return  # what is wrong with a URL is said elsewhere


async def check_certificates(ours: Settings, api: ControlPlaneClient) -> list[Finding]:
    """Asks all servers that are registered or set, for as long as `ALL_S`."""
    found = set(servers(api.base_url, "the API"))
    stores = stores_settings(ours)
    for url, of in ((stores.database_url, "PostgreSQL"), (stores.redis_url, "Redis")):
        found |= set(servers(url.get_secret_value(), of)) if url is not None else set()
    until = time.monotonic() + ALL_S
    agents = await _agents(api)
    found |= agents or set()
    judged = [*_of_files(ours), *await _asked(sorted(found)[:SERVERS_MAX], until)]
    return judged if agents is not None else [*judged, problem("certificates", NO_AGENTS, "", WARNING)]


async def _agents(api: ControlPlaneClient) -> set[TlsServer] | None:
    """Those of the agents' endpoints; of agents that share a server, the first by name stands for all. None if the API does
    not list the agents: another check says why."""
    try:
        async with asyncio.timeout(AGENTS_S):
            agents = (await api.request("GET", "/agents", params={"available": "false"}, timeout_s=AGENTS_S))["agents"]
    except (ControlPlaneError, TimeoutError):
        return None
    by_address: dict[tuple[str, int], TlsServer] = {}
    for agent in sorted(agents, key=lambda agent: str(agent["agent_id"])):
        for server in servers(str(agent.get("endpoint") or ""), f"agent {agent['agent_id']}"):
            by_address.setdefault((server.host, server.port), server)
    return set(by_address.values())


def _of_files(ours: Settings) -> list[Finding]:
    """Those of the settings, where they are set: on the host of the control plane."""
    tls = front_tls(ours.tls_enabled, ours.tls_cert_file, ours.tls_key_file, ours.tls_ca_file)
    if tls is None:
        return []
    now = datetime.now(UTC)
    try:
        check_front_files(tls, now)
        soon = soon_ending(tls, now, SOON)
    except UnusableFile as error:
        return [problem("certificates", str(error), "New connections fail, or keep the certificates of before.")]
    return [problem("certificates", sentence.removesuffix("; renew it."), "Renew it.", WARNING) for sentence in soon]


async def _asked(asked: Iterable[TlsServer], until: float) -> list[Finding]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(server: TlsServer) -> x509.Certificate | None:
        async with turn:
            return await certificate(server)

    tasks = {server: asyncio.ensure_future(ask(server)) for server in asked}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=max(0.0, until - time.monotonic()))
    found: list[Finding] = []
    seen = silent = 0
    for server, task in tasks.items():
        if not task.done() or task.exception() is not None:
            task.cancel()
            silent += 1
        elif (read := task.result()) is not None:
            seen += 1
            name = f"that of {server.of} at {server.host}:{server.port}"
            found += _judged(name, read.not_valid_before_utc, read.not_valid_after_utc)
    silence = f"; {silent} servers showed none in time" if silent else ""
    return found or [fine("certificates", f"{seen} seen, none ends within {SOON.days} days{silence}")]


def _judged(name: str, begins: datetime, ends: datetime) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if ends <= now:
        yield problem("certificates", f"{name} has expired at {ends:%Y-%m-%d %H:%M} UTC", "Renew it.")
    elif begins > now:
        yield problem("certificates", f"{name} is valid only from {begins:%Y-%m-%d %H:%M} UTC on", "Check the clocks.")
    elif ends - now < SOON:
        yield problem("certificates", f"{name} expires at {ends:%Y-%m-%d %H:%M} UTC", "Renew it.", WARNING)


async def certificate(server: TlsServer) -> x509.Certificate | None:
    """The certificate that a server shows; None if it speaks no TLS there. Raises: ``OSError`` if it cannot be reached."""
    any_server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    any_server.check_hostname = False
    any_server.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        if server.is_postgres:
            writer.write(_SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                return None
        await writer.start_tls(any_server, server_hostname=server.host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown) if shown else None
    finally:
        writer.transport.abort()
