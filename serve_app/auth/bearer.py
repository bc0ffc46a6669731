"""Bearer tokens: whoever holds one is whom it names. API keys begin with ``ara_``, sessions with ``ars_``, everything else
is a token (JWT). A browser has its session in a cookie, which counts where a call brings no bearer token.

One resolver for the fast path, FastAPI, streams and WebSockets. It reads this replica's copy of what is stored about access, so
that a call costs no read of the database and a revocation counts as soon as the copy has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from cluster.domain.access.api_key import MARK, ApiKey, ends_at, is_valid, parse_token
from cluster.domain.access.identity import AccessPolicy, Identity, Method, principal_for
from cluster.domain.access.principal import Principal
from cluster.domain.access.sessions import MARK as SESSION_MARK
from cluster.domain.access.sessions import SessionKind
from cluster.domain.access.tickets import Ticketed
from cluster.domain.base.errors import Forbidden, Unauthenticated
from cluster.ports.clock import Clock
from serve_app.auth.access_view import AccessView
from serve_app.auth.key_uses import KeyUses
from serve_app.auth.named_workspace import asked_workspace
from serve_app.auth.sessions import Sessions, identity_of
from serve_app.auth.token_checks import TokenChecks, check_counts

#: Where the state of a call has what its ticket stands for (`serve_app.auth.socket_tickets`).
TICKETED = "ticketed"
#: Longer headers are not looked at. A token may have fewer characters.
MAX_HEADER_CHARS = 10_000
_MISSING = (
    "Send an API key or a token in the header Authorization, as Bearer TOKEN; commands and workers take it from "
    "ARAGORA_API_KEY."
)
_NO_KEY = "This API key does not count here; ask for a new one."
#: Is compared where there is no key of that id, so that an unknown id takes as long as a wrong secret.
_NOBODY = ApiKey(
    id="", name="", workspaces=(), grants=(), digests=(bytes(32),), created_at=0.0, created_by="", revoked_at=None
)


#: Principals that are kept until access changes. Each is small, and callers that act in turns are far fewer.
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Proof:
    """How a caller proved who it is, for calls that stay open. ``holds``: whether that still counts. ``ends_at``: when it ends by
    itself (epoch seconds), if nothing about access changes. ``principal``: who the caller of this call is now. ``generation``: of
    access, when it was proven. ``may_act_in``: whether it has anything in a workspace, now.

    ``principal`` raises: `Forbidden` if it has nothing there any more, `InvalidRequest` as `principal_for`."""

    identity: Identity
    holds: Callable[[], bool]
    ends_at: Callable[[], float]
    principal: Callable[[], Principal]
    generation: int
    may_act_in: Callable[[str], bool]


class Principals:
    """What `principal_for` says, worked out once for each state of access: it took longer than all else of the door."""

    def __init__(self, view: AccessView, policy: AccessPolicy) -> None:
        self._view = view
        self._policy = policy
        #: (identity, named workspace) → principal, as the access of generation ``_kept_of`` has it.
        self._kept: dict[tuple[Identity, str | None], Principal] = {}
        self._kept_of = view.generation

    def of(self, identity: Identity, asked: str | None) -> Principal:
        """The principal of a call that names the workspace ``asked``. Raises: as `principal_for`."""
        generation = self._view.generation
        if generation != self._kept_of or len(self._kept) >= MAX_KEPT:
            self._kept.clear()
            self._kept_of = generation
        principal = self._kept.get((identity, asked))
        if principal is None:
            principal = principal_for(identity, asked, self._view, self._policy)
            self._kept[identity, asked] = principal
        return principal

    def may_act(self, identity: Identity, workspace: str) -> bool:
        """Whether the identity has anything in a workspace. It is not kept, as it is asked of every workspace at once."""
        try:
            principal_for(identity, workspace, self._view, self._policy)
        except Forbidden:
            return False
        return True


class BearerTokens:
    """The `PrincipalResolver` of a system with authentication. ``sessions`` None: nobody can log in."""

    def __init__(
        self,
        *,
        view: AccessView,
        policy: AccessPolicy,
        tokens: TokenChecks,
        uses: KeyUses,
        clock: Clock,
        sessions: Sessions | None = None,
    ) -> None:
        self._view = view
        self._principals = Principals(view, policy)
        self._tokens = tokens
        self._uses = uses
        self._clock = clock
        self._sessions = sessions

    async def resolve(self, connection: HTTPConnection) -> Principal:
        """The principal of a bearer token or of a session's cookie, in the workspace that the call names.

        Raises: `Unauthenticated` if there is no token that counts; `InvalidRequest` if it names no workspace and has several;
        `Forbidden` if it has nothing there, or another's page calls with the cookie; `StoreUnavailable` if the issuer's keys are
        not known now."""
        return (await self._prove(connection)).principal()

    async def _prove(self, connection: HTTPConnection) -> Proof:
        sessions = self._sessions
        if sessions is not None:
            cookie = _sent_cookie(sessions, connection)
            if cookie is not None:
                return await self._prove_session(sessions, cookie, SessionKind.BROWSER, connection)
        text = sent_token(connection)
        if text.startswith(MARK):
            return self._prove_key(text, connection)
        if sessions is not None and text.startswith(SESSION_MARK):
            return await self._prove_session(sessions, text, SessionKind.COMMAND_LINE, connection)
        return await self._prove_token(text, connection)

    async def _prove_session(
        self, sessions: Sessions, token: str, kind: SessionKind, connection: HTTPConnection
    ) -> Proof:
        session, secret = await sessions.find(token, kind)
        proof = self._proof(
            identity_of(session), connection, lambda: sessions.counts(session.id, secret), lambda: session.expires_at
        )
        if kind is SessionKind.BROWSER:
            sessions.check_page(connection, secret)
        return proof

    async def _prove_token(self, text: str, connection: HTTPConnection) -> Proof:
        now = self._clock.now()
        identity, claims, ends_at = await self._tokens.identity(text, self._view, now)

        def holds() -> bool:
            try:
                check_counts(identity, claims, self._view)
            except Unauthenticated:
                return False
            return self._clock.now() < ends_at

        return self._proof(identity, connection, holds, lambda: ends_at)

    def _prove_key(self, text: str, connection: HTTPConnection) -> Proof:
        now = self._clock.now()
        id, secret = parse_token(text) or ("", "")
        key = self._view.key(id)
        if not is_valid(key or _NOBODY, secret, now) or key is None:
            raise Unauthenticated(_NO_KEY)
        self._uses.note(key.id, now)

        def holds() -> bool:
            known = self._view.key(id)
            return known is not None and is_valid(known, secret, self._clock.now())

        identity = Identity(
            id=key.principal,
            method=Method.API_KEY,
            subjects=(key.principal,),
            workspaces=key.workspaces,
            grants=key.grants,
            agents=None if key.agents is None else frozenset(key.agents),
        )

        def ends() -> float:
            known = self._view.key(id)
            return -math.inf if known is None else ends_at(known, secret)

        return self._proof(identity, connection, holds, ends)

    def _proof(
        self, identity: Identity, connection: HTTPConnection, holds: Callable[[], bool], ends: Callable[[], float]
    ) -> Proof:
        """It is kept for the call from now on, so that whatever refuses the call later knows whose it is."""
        ticketed = _ticketed(connection)
        # Not before: who proves nothing is told that first.
        asked = asked_workspace(connection) if ticketed is None else ticketed.workspace
        proof = Proof(
            identity,
            holds,
            ends,
            lambda: self._principals.of(identity, asked),
            self._view.generation,
            lambda workspace: self._principals.may_act(identity, workspace),
        )
        connection.scope.setdefault("state", {})["proof"] = proof
        return proof


def _ticketed(connection: HTTPConnection) -> Ticketed | None:
    found: Ticketed | None = connection.scope.get("state", {}).get(TICKETED)
    return found


def _sent_cookie(sessions: Sessions, connection: HTTPConnection) -> str | None:
    """The session's token that a browser has brought as a cookie, with this call or with the one that made its ticket."""
    ticketed = _ticketed(connection)
    if ticketed is not None:
        return ticketed.token if ticketed.is_cookie else None
    return None if has_token(connection) else sessions.cookies.session(connection)


def has_token(connection: HTTPConnection) -> bool:
    """Whether a call brings a key or token, be it good or not."""
    if any(name == b"authorization" for name, _ in connection.scope["headers"]):
        return True
    if _ticketed(connection) is not None:
        return True
    return _is_socket(connection) and "token" in connection.query_params


def sent_token(connection: HTTPConnection) -> str:
    """The token of a call, or that of its ticket. The released WebSocket client has it in its query; no other call may,
    since histories and proxies keep URLs.

    Raises: `Unauthenticated` if there is none, or there are several."""
    ticketed = _ticketed(connection)
    if ticketed is not None:
        return ticketed.token
    # From the raw headers, as every call is asked: starlette would decode all of them.
    sent = [value.decode("latin-1") for name, value in connection.scope["headers"] if name == b"authorization"]
    if not sent and _is_socket(connection):
        sent = [f"Bearer {token}" for token in connection.query_params.getlist("token")]
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 and len(sent[0]) <= MAX_HEADER_CHARS else ("", "", "")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(_MISSING)
    return token


def _is_socket(connection: HTTPConnection) -> bool:
    return bool(connection.scope["type"] == "websocket")
