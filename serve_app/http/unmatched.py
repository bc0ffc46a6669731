"""Answers where there is nothing: a redirect of a path with a slash too many or too few, or that there is nothing.

starlette makes them itself, of the Host header, which is whatever the caller or a cache in between has sent: whoever follows
such a redirect could be led to another system. These name a path, or the public URL.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from cluster.domain.base.errors import NotFound
from cluster.domain.base.json_values import shown_text

#: Characters of a path that an error shows.
_SHOWN = 128


def answer_elsewhere(app: FastAPI) -> None:
    """Makes the application redirect by itself, and refuse WebSockets of other paths in the shape of errors: starlette closes
    them with a bare 403. ``app.state.public_url`` stands before the path of a redirect if it is not None."""
    router = app.router
    router.redirect_slashes = False
    not_found = router.not_found

    async def unmatched(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "websocket":
            raise NotFound(
                f"There is no WebSocket at {shown_text(path, _SHOWN)}; connect to /ws/control-plane.", "not_found"
            )
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if other and _is_route(app, {**scope, "path": other}):
            query = scope["query_string"].decode("latin-1")
            location = (app.state.public_url or "") + other + (f"?{query}" if query else "")
            await RedirectResponse(location)(scope, receive, send)
            return
        await not_found(scope, receive, send)

    router.default = unmatched


def _is_route(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in app.router.routes)
