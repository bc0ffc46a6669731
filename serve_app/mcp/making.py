"""Makes an application serve /mcp, if the package that the protocol is in is installed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp

from cluster.settings import Settings
from serve_app.http.fast_path import DirectApp
from serve_app.in_cluster_classes import installed


class McpMissing(Exception):
    """ARAGORA_MCP_ENABLED is set where the package ``mcp`` is not installed: the application does not start."""


def serve_mcp(app: DirectApp, settings: Settings) -> None:
    """Adds the layer, which ``app.state.mcp`` is then, if the settings say so. It has to be outside of whatever a call of a route
    has to pass.

    Raises: `McpMissing` if the package is not installed."""
    if not settings.mcp_enabled:
        return
    if not installed("mcp"):
        raise McpMissing(
            "ARAGORA_MCP_ENABLED needs: pip install 'aragora-control-plane[mcp]' where the control plane runs; install it, or "
            "leave the variable unset."
        )
    from serve_app.mcp.door import McpDoor  # 1.5 s of CPU and 60 MB that only these applications pay

    def layer(inner: ASGIApp) -> ASGIApp:
        door = McpDoor(inner, app, max_body_bytes=settings.max_body_bytes)
        app.state.mcp = door
        return door

    app.around(layer)


@contextlib.asynccontextmanager
async def mcp_running(app: FastAPI) -> AsyncIterator[None]:
    """Lets the layer serve, if there is one."""
    async with app.state.mcp.running() if app.state.mcp is not None else contextlib.nullcontext():
        yield
