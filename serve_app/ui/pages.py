"""Serves the web page: at its addresses to browsers, and its files to everybody.

The page is public, as it has no data: it makes the calls of the API as whoever uses it. The addresses are listed one by one and
not caught by a pattern, so that a path that neither the API nor the page has stays a 404.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import NotFound
from serve_app.auth.admission import requires
from serve_app.ui.bundle import Asset, assets, page

#: Where the page shows something. A new one has to be here and in `source/src/App.tsx`; a test compares them.
ADDRESSES: Final = (
    "/",
    "/queue",
    "/submit",
    "/tasks/{id}",
    "/fleet",
    "/agents/{id}",
    "/deliberations",
    "/ask",
    "/deliberations/{id}",
    "/receipt",
    "/receipts/{id}",
    "/questions",
    "/schedules",
    "/schedules/{id}",
    "/workflows",
    "/workflows/{id}",
    "/runs/{id}",
    "/policies",
    "/policies/{id}",
    "/budgets",
    "/notifications",
    "/audit",
    "/access",
    "/hooks",
    "/workspaces",
    "/retention",
    "/regions",
)
#: Only what this origin serves, and nothing inline. No other page may show this one in a frame.
POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "style-src-attr 'none'; script-src-attr 'none'"
)
#: A browser asks again whether the page is still this one; after an update it names other files.
_PAGE_CACHE: Final = "no-cache"
_ASSET_CACHE: Final = "public, max-age=31536000, immutable"


class _PageRoute(Route):
    """Tells the metrics which of the routes it is, as FastAPI's own routes do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, found if match is Match.NONE else {**found, "route": self}


@requires(Permission.PUBLIC)
async def show_page(request: Request) -> Response:
    """The page, to whoever asks for HTML, as browsers do. A program that was given the wrong base address gets no page instead
    of an answer.

    Raises: `NotFound` for programs."""
    if "text/html" not in request.headers.get("accept", ""):
        raise NotFound(
            "There is only a web page at this path; the API is under /api/control-plane, and described at /docs.",
            "not_found",
        )
    headers = {"cache-control": _PAGE_CACHE, "content-security-policy": POLICY}
    return _answer(request, page(), headers, "Accept, Accept-Encoding")


@requires(Permission.PUBLIC)
async def show_asset(request: Request) -> Response:
    """A file of the page.

    Raises: `NotFound` if the page that is served now has none of that name."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise NotFound("The page has no such file; load it again.", "not_found")
    return _answer(request, asset, {"cache-control": _ASSET_CACHE}, "Accept-Encoding")


def add_pages(app: FastAPI) -> None:
    """Serves the page beside the API."""
    routes: list[Any] = [_PageRoute(path, show_page, methods=["GET"]) for path in ADDRESSES]
    app.router.routes.extend([*routes, _PageRoute("/assets/{name}", show_asset, methods=["GET"])])


def _answer(request: Request, asset: Asset, headers: dict[str, str], vary: str) -> Response:
    packs = "gzip" in request.headers.get("accept-encoding", "")
    sent = {**headers, "vary": vary} | ({"content-encoding": "gzip"} if packs else {})
    return Response(asset.packed if packs else asset.content, media_type=asset.media_type, headers=sent)
