"""``aragora-cp top``: a live screen of the control plane."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from cluster.cli.connection import client, client_settings
from cluster.cli.numbers import finite
from cluster.domain.base.errors import InvalidRequest
from cluster.embedded.layout import Layout


def top(
    interval: Annotated[float, typer.Option(callback=finite, min=0.5, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show queue, agents, deliberations and regions on a live screen, also over SSH. It needs the extra `top`.

    \f
    Raises: `BadParameter` without a terminal, `InvalidRequest` if textual is missing.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter(
            "It needs a terminal; in a pipe take `aragora-cp status --watch` or `queue jobs --watch`."
        )
    try:
        from cluster.cli.screens.top import TopApp  # textual is an extra, and slow to import
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise InvalidRequest(
            "The live screen needs textual; install it with `pip install 'aragora-control-plane[top]'`.",
            "missing_extra",
        ) from None
    from cluster.cli.screens.top_reading import detail, read

    ours = client_settings()
    socket = ours.region_socket or Layout.of(ours.data_dir).region_socket

    async def show() -> None:
        async with client(ours) as api:
            screen = TopApp(
                lambda: read(api, socket),
                lambda panel, key: detail(api, panel, key),
                where=api.shown_url,
                interval_s=interval,
            )
            await screen.run_async()

    asyncio.run(show())
