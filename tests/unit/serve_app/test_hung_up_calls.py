"""How a call counts whose caller hangs up: not as a failure of ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.telemetry.log_files import REQUEST_LOGGER
from serve_app.auth.clients import Clients
from serve_app.http.middleware import RequestMiddleware

ANSWER: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.request", "body": b"{", "more_body": True}
WHOLE: Message = {"type": "http.request", "body": b"{}", "more_body": False}


async def _waits(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def _begins_and_waits(scope: Scope, receive: Receive, send: Send) -> None:
    await send(dict(ANSWER))
    await asyncio.Event().wait()


async def _ends_without_answer(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answers_anyway(scope: Scope, receive: Receive, send: Send) -> None:
    await _ends_without_answer(scope, receive, send)
    await send({**ANSWER, "status": 400})


async def _answers_then_hears(scope: Scope, receive: Receive, send: Send) -> None:
    await send(dict(ANSWER))
    await _ends_without_answer(scope, receive, send)


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a bug")


async def _cancelled(call: asyncio.Task[None]) -> None:
    for _ in range(5):  # it begins to wait
        await asyncio.sleep(0)
    call.cancel()


async def _left(call: asyncio.Task[None]) -> None:
    """The server says that the caller hung up, and leaves the call alone."""


@pytest.mark.parametrize(
    ("app", "end", "status"),
    [
        (_waits, _cancelled, 499),
        (_begins_and_waits, _cancelled, 200),
        (_ends_without_answer, _left, 499),
        (_answers_anyway, _left, 499),
        (_answers_then_hears, _left, 200),
        (_fails, _left, 500),
    ],
)
@pytest.mark.parametrize("sent", [PART, WHOLE], ids=["part of a body", "a body"])
async def test_a_call_whose_caller_hangs_up_is_no_failure_of_ours(
    caplog: pytest.LogCaptureFixture,
    app: ASGIApp,
    end: Callable[[asyncio.Task[None]], Awaitable[None]],
    status: int,
    sent: Message,
) -> None:
    observed: list[Any] = []
    arrives = iter([sent])
    middleware = RequestMiddleware(app, observe=lambda *call: observed.append(call[:3]), clients=Clients())

    async def receive() -> Message:
        return next(arrives, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/x", "headers": [], "client": ("192.0.2.1", 1)}
    with caplog.at_level(logging.DEBUG, REQUEST_LOGGER):
        call = asyncio.ensure_future(middleware(scope, receive, send))
        await end(call)
        with contextlib.suppress(asyncio.CancelledError, RuntimeError):
            await call
    assert observed == [("POST", "unmatched", status)]
    (line,) = [record for record in caplog.records if record.name == REQUEST_LOGGER]
    assert (line.levelno >= logging.WARNING) == (status == 500)
    assert ("499 (the caller hung up)" in line.getMessage()) == (status == 499)
