"""The official client of the MCP server, in both generations of the protocol."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

#: Sessions begin with `initialize`, as they do until 2025-11-25; since 2026-07-28 each call is complete in itself.
GENERATIONS = ("legacy", "2026-07-28")


@asynccontextmanager
async def mcp_client(
    url: str,
    generation: str = GENERATIONS[1],
    headers: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
) -> AsyncIterator[Client]:
    """``url``: that of the API. ``others``: URLs of further replicas; each request goes to the next of all."""
    replicas = itertools.cycle([url, *others])

    async def balance(request: httpx2.Request) -> None:
        request.url = httpx2.URL(f"{next(replicas)}/mcp")

    # Plain HTTP: reading the certificates that the machine trusts would take a tenth of a test.
    async with (
        httpx2.AsyncClient(
            headers=dict(headers or {}), timeout=60, verify=False, event_hooks={"request": [balance]}
        ) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=generation) as client,
    ):
        yield client


def sent(version: str, **headers: str) -> dict[str, str]:
    """The headers of a request that no client makes."""
    usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    return {
        **usual,
        "mcp-protocol-version": version,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool returns; its client has compared that with the tool's schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The error of a tool that refuses a call."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    error: dict[str, Any] = result.structured_content
    assert set(error) >= {"error", "code", "trace_id"}
    return error


async def at_its_end(client: Client, **named: str) -> dict[str, Any]:
    """The result of a task or a deliberation, however long a busy machine takes."""
    while not (found := await called(client, "task_result", **named, wait=25))["ended"]:
        pass
    return found
