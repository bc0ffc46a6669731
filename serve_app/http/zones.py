"""Calls of resident workspaces are answered in their zone (`cluster.domain.residency`): a region outside of it says where to
call, before the body is read, and forwards nothing.

It is one layer of plain ASGI around the one that forwards (`serve_app.http.replicated`), so that no route can forget it. Which
workspace a call acts in, its credential says, so the caller is identified here, and the answer is kept for the door. A system
whose settings name no zone has no such layer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from cluster.domain.base.errors import ControlPlaneError, InvalidRequest
from cluster.domain.residency import Answerer, RegionZones, nobody_writes
from cluster.log.access_directory import AccessDirectory
from cluster.log.replication_gate import ReplicationGate
from cluster.process import front
from serve_app.auth.admission import principal_of
from serve_app.auth.bearer import has_token
from serve_app.auth.named_workspace import FIELD
from serve_app.http.errors import control_plane_response, refuse_socket
from serve_app.http.fast_path import DirectApp
from serve_app.http.replicated import is_forwarded, is_of_the_replica, is_write

#: By it a call says which zone it is for, whatever its workspace is.
ZONE: Final = b"x-aragora-zone"
#: Calls whose path names their workspace: a webhook has no credential of ours, and a workspace's name is words.
_HOOK: Final = re.compile(r"/api/(?:v1/)?control-plane/hooks/[^/]+/?")
_WORKSPACE: Final = re.compile(r"/api/(?:v1/)?control-plane/workspaces/([^/]+)/?")
_CERTIFICATE: Final = front.CERTIFICATE.encode()
#: Logins: they act in no workspace, and prove who calls only when they end.
_LOGINS: Final = "-plane/auth/"


class ResidentCalls:
    """``urls``: where clients reach the API of each region. ``gate_of`` returns None in a region alone, ``access_of`` what is
    known of workspaces, and ``catch_up`` brings that up to the end of the log; all are opened after the application was made."""

    def __init__(
        self,
        app: ASGIApp,
        application: DirectApp,
        zones: RegionZones,
        urls: Mapping[str, str],
        gate_of: Callable[[], ReplicationGate | None],
        access_of: Callable[[], AccessDirectory],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._application = application
        self._zones = zones
        self._urls = urls
        self._gate_of = gate_of
        self._access_of = access_of
        self._catch_up = catch_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or is_of_the_replica(scope):
            await self._app(scope, receive, send)
            return
        scope["app"] = self._application  # as FastAPI does later; the door looks for its resolver there
        try:
            await self._check(scope)
        except ControlPlaneError as error:
            if scope["type"] == "websocket":
                await refuse_socket(WebSocket(scope, receive, send), error)
            else:
                await control_plane_response(HTTPConnection(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raises: `WrongZone` if a region of another zone has to answer the call; `TryLater` if nobody can now; what
        `principal_of` raises if the call would be forwarded and its caller is not known."""
        asked = self._asked(scope)
        if asked is not None:
            self._check_zone(asked, scope)
        if not self._zones.has_others:
            return
        for workspace in [*_named(scope), await self._workspace(scope)]:
            if workspace is not None:
                self._check_zone(self._zone_of(workspace), scope)

    def _asked(self, scope: Scope) -> str | None:
        """The zone that the header names.

        Raises: `InvalidRequest` (``unknown_zone``) if it names none that exists, or there are several headers."""
        named: list[str] = [value.decode("latin-1") for name, value in scope["headers"] if name == ZONE]
        if not named:
            return None
        if len(named) > 1 or not self._zones.of(named[0]):
            known = ", ".join(sorted(set(self._zones.zones.values())))
            raise InvalidRequest(
                f"Send the header X-Aragora-Zone once, with a zone of the regions here ({known}), or leave it out.",
                "unknown_zone",
            )
        return named[0]

    def _check_zone(self, zone: str | None, scope: Scope) -> None:
        gate = self._gate_of()
        primary = self._zones.region if gate is None or gate.is_primary else gate.primary[0]
        # What is read at the primary leaves the region as a change does.
        writes = is_write(scope) or (gate is not None and is_forwarded(scope, gate))
        answerer = self._zones.answerer(zone, primary, writes=writes)
        if answerer is Answerer.ANY or zone is None:
            return
        raise nobody_writes(zone) if answerer is Answerer.NOBODY else self._zones.address(zone, primary, self._urls)

    def _zone_of(self, workspace: str) -> str | None:
        known = self._access_of().workspace(workspace)
        return None if known is None else known.zone

    async def _workspace(self, scope: Scope) -> str | None:
        """The workspace that the call acts in; None if its caller is not known and the call stays here, where the door refuses it
        if it has to. One that would be forwarded is refused: it may be for a workspace that this region must not see."""
        gate = self._gate_of()
        leaves = gate is not None and is_forwarded(scope, gate)
        connection = HTTPConnection(scope)
        if leaves and gate is not None:
            if _LOGINS in scope["path"] or not _has_credential(connection):
                return None
            if gate.is_copied:  # what is known of access and workspaces may be a part
                raise gate.not_primary()
            await self._catch_up()
        try:
            return (await principal_of(connection)).workspace
        except ControlPlaneError:
            if leaves:
                raise
            return None


def _named(scope: Scope) -> list[str]:
    """The workspaces that the path and query of a call name."""
    if scope["type"] != "http":
        return []
    if scope["method"] == "POST" and _HOOK.fullmatch(scope["path"]):
        return parse_qs(scope["query_string"].decode("latin-1")).get(FIELD, [])
    found = _WORKSPACE.fullmatch(scope["path"]) if scope["method"] == "PATCH" else None
    return [] if found is None else [found[1]]


def _has_credential(connection: HTTPConnection) -> bool:
    if any(name == _CERTIFICATE for name, _ in connection.scope["headers"]):
        return True
    sessions = getattr(connection.app.state, "sessions", None)
    if sessions is not None and sessions.cookies.session(connection) is not None:
        return True
    return has_token(connection)
