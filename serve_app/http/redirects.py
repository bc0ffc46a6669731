"""Redirects of a path with a slash too many or too few.

starlette makes them itself, of the Host header, which is whatever the caller or a cache in between has sent: whoever follows
such a redirect could be led to another system. These name a path, or the public URL.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send


def redirect_slashes(app: FastAPI) -> None:
    """Makes the application redirect by itself. ``app.state.public_url`` stands before the path if it is not None."""
    router = app.router
    router.redirect_slashes = False
    not_found = router.not_found

    async def redirected(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if scope["type"] == "http" and other and _is_route(app, {**scope, "path": other}):
            query = scope["query_string"].decode("latin-1")
            location = (app.state.public_url or "") + other + (f"?{query}" if query else "")
            await RedirectResponse(location)(scope, receive, send)
            return
        await not_found(scope, receive, send)

    router.default = redirected


def _is_route(app: FastAPI, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in app.router.routes)
