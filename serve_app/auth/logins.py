"""Logins with an OIDC provider: the code flow of browsers (PKCE, state, nonce, issuer) and the device flow of command lines.

What binds the answer to the browser that asked is one random secret in its cookie: state, nonce and verifier are made of it,
so none of them is stored. The database has the state's SHA-256, for ten minutes and for one use, and so any replica takes
the answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from cluster.domain.access.api_key import SECRET_BYTES, digest_of, secret_of
from cluster.domain.access.identity import AccessPolicy, principal_for
from cluster.domain.access.openid import IdTokenRules, Person, PersonRules, id_token_claims, lacks, merged, person_of
from cluster.domain.access.rows import login_record, logout_record
from cluster.domain.access.sessions import Session, SessionKind, session_token
from cluster.domain.access.tokens import read_token
from cluster.domain.base.errors import Forbidden, InvalidRequest
from cluster.domain.base.log import Origin
from cluster.http.openid_provider import OpenIdProvider
from cluster.ports.access import AccessStore, LoginStore
from cluster.ports.clock import Clock
from serve_app.auth.access_view import AccessView
from serve_app.auth.sessions import identity_of

#: How long a person has between redirect and callback.
LOGIN_S: Final = 600.0
MAX_CODE_CHARS: Final = 4096
MAX_TARGET_CHARS: Final = 2048
#: A path of ours: a browser would take ``//`` and ``/\`` for another host.
_TARGET = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_AGAIN: Final = "This login was begun in another browser, or too long ago, or was finished already; log in again."
_INTERVAL_S: Final = 5


class LoginStores(AccessStore, LoginStore, Protocol):
    """What a login writes."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that has begun: where the provider asks the person, and the secret that this browser keeps meanwhile."""

    location: str
    secret: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A login that has ended: the session and its token, and the path to which it leads."""

    session: Session
    token: str
    target: str


class Logins:
    """The logins at one replica. ``redirect_uri`` is where the provider leads browsers back, ``home`` where they go then."""

    def __init__(
        self,
        *,
        provider: OpenIdProvider,
        store: LoginStores,
        view: AccessView,
        policy: AccessPolicy,
        rules: PersonRules,
        scopes: Sequence[str],
        redirect_uri: str,
        home: str,
        life_s: float,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._store = store
        self._view = view
        self._policy = policy
        self._rules = rules
        self._scope = " ".join(scopes)
        self._redirect_uri = redirect_uri
        self._home = home
        self.life_s = life_s
        self._clock = clock

    # --- browsers ----------------------------------------------------------------------------------------------------

    async def begin(self, target: str | None) -> Begun:
        """Begins a login that leads to the path ``target``.

        Raises: `InvalidRequest` if that is no path of ours; `TryLater` if the provider or the database is away."""
        if target is not None and (len(target) > MAX_TARGET_CHARS or not _TARGET.fullmatch(target)):
            raise InvalidRequest("next must be a path of this host, such as /docs.", "invalid_next")
        endpoints = await self._provider.endpoints()
        secret, now = _encoded(os.urandom(32)), self._clock.now()
        state = _derived(secret, "state")
        await self._store.begin_login(_digest(state), target or self._home, now, now + LOGIN_S)
        location = add_params_to_uri(
            endpoints.authorization,
            [
                ("response_type", "code"),
                ("client_id", self._provider.client_id),
                ("redirect_uri", self._redirect_uri),
                ("scope", self._scope),
                ("state", state),
                ("nonce", _derived(secret, "nonce")),
                ("code_challenge", create_s256_code_challenge(_derived(secret, "verifier"))),
                ("code_challenge_method", "S256"),
            ],
        )
        return Begun(str(location), secret)

    async def finish(self, secret: str | None, answer: Mapping[str, str], origin: Origin, address: str) -> Ended:
        """Ends a login by the provider's answer, which the browser that keeps ``secret`` has brought.

        Raises: `InvalidRequest` if it is not the answer to a login of this browser; `Unauthenticated` if the ID token does not
        count; `Forbidden` if the provider or we refuse the person; `TryLater` if the provider or the database is away."""
        state = answer.get("state", "")
        if secret is None or not hmac.compare_digest(state.encode(), _derived(secret, "state").encode()):
            raise InvalidRequest(_AGAIN, "login_mismatch")
        target = await self._store.take_login(_digest(state), self._clock.now())
        if target is None:
            raise InvalidRequest(_AGAIN, "login_mismatch")
        await self._check_issuer(answer)
        if "error" in answer:
            raise Forbidden(
                "The OIDC provider refused the login; log in again, or ask its administrator.", "login_refused"
            )
        code = answer.get("code", "")
        if not 0 < len(code) <= MAX_CODE_CHARS:
            raise InvalidRequest("The answer to this login has no code; log in again.", "login_mismatch")
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": _derived(secret, "verifier"),
        }
        person = await self._person(await self._provider.tokens(grant), _derived(secret, "nonce"))
        session, token = await self._begin_session(person, SessionKind.BROWSER, origin, address)
        return Ended(session, token, target)

    async def _check_issuer(self, answer: Mapping[str, str]) -> None:
        """Another provider's answer must not end a login that this one was asked for (RFC 9207)."""
        named = answer.get("iss")
        is_needed = (await self._provider.endpoints()).names_issuer
        if named != self._provider.issuer and (named is not None or is_needed):
            raise InvalidRequest(
                "The answer to this login is another OIDC provider's; log in again.", "issuer_mismatch"
            )

    # --- command lines -----------------------------------------------------------------------------------------------

    async def begin_device(self) -> dict[str, Any]:
        """Begins a login that a person confirms in any browser. ``device_code`` is its secret.

        Raises: `GrantRefused` if the provider has no device login; `ProviderAway`."""
        answer = await self._provider.begin_device(self._scope)
        return {
            **{name: answer[name] for name in ("device_code", "user_code", "verification_uri")},
            "verification_uri_complete": _text_or_none(answer.get("verification_uri_complete")),
            "expires_in": _seconds(answer.get("expires_in"), LOGIN_S),
            "interval": _seconds(answer.get("interval"), _INTERVAL_S),
        }

    async def finish_device(self, device_code: str, origin: Origin, address: str) -> Ended:
        """Ends a device login, once it was confirmed.

        Raises: `GrantRefused` while it was not (``authorization_pending``, ``slow_down``) or if it is over; else as
        ``finish``."""
        answer = await self._provider.tokens({"grant_type": DEVICE_CODE_GRANT_TYPE, "device_code": device_code})
        person = await self._person(answer, None)
        session, token = await self._begin_session(person, SessionKind.COMMAND_LINE, origin, address)
        return Ended(session, token, "")

    # --- both --------------------------------------------------------------------------------------------------------

    async def _person(self, answer: Mapping[str, Any], nonce: str | None) -> Person:
        """Raises: `Unauthenticated`, `Forbidden`, `TryLater`."""
        provider, access_token = self._provider, answer["access_token"]
        token = read_token(answer["id_token"])
        key = await provider.key(token.algorithm, token.kid)
        rules = IdTokenRules(
            issuer=provider.issuer, client_id=provider.client_id, nonce=nonce, access_token=access_token
        )
        claims = id_token_claims(token, () if key is None else (key,), rules, self._clock.now())
        if lacks(claims, self._rules):
            userinfo = await provider.userinfo(access_token)
            claims = claims if userinfo is None else merged(claims, userinfo)
        return person_of(claims, self._rules, provider.issuer)

    async def _begin_session(
        self, person: Person, kind: SessionKind, origin: Origin, address: str
    ) -> tuple[Session, str]:
        """Raises: `Forbidden` if the person has no role anywhere: a session would let in nobody, and anybody could fill the
        table."""
        now = self._clock.now()
        secret = secret_of(os.urandom(SECRET_BYTES))
        session = Session(
            id=secret_of(os.urandom(SECRET_BYTES)),
            digest=digest_of(secret),
            kind=kind,
            issuer=self._provider.issuer,
            principal=person.principal,
            groups=person.groups,
            # A login after a revocation counts, also where the clock is behind that of who revoked.
            began_at=max(now, self._view.not_before(person.principal)),
            expires_at=now + self.life_s,
        )
        self._check_role(session)
        own = Origin(workspace=origin.workspace, principal=session.principal, cause=origin.cause)
        await self._store.begin_session(session, login_record(own, session, address))
        return session, session_token(session.id, secret)

    def _check_role(self, session: Session) -> None:
        try:
            principal_for(identity_of(session), None, self._view, self._policy)
        except InvalidRequest:  # it has a role in several workspaces
            return

    async def end(self, session: Session, origin: Origin) -> bool:
        """Ends a session before its time. False if it has ended already. Raises: `StoreUnavailable`."""
        own = Origin(workspace=origin.workspace, principal=session.principal, cause=origin.cause)
        return await self._store.end_session(session.id, logout_record(own, self._clock.now(), session.id))


def _derived(secret: str, use: str) -> str:
    """43 characters that nobody can make who has not the secret."""
    return _encoded(hmac.new(secret.encode(), use.encode(), hashlib.sha256).digest())


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: Any, default: float) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400
    return int(value if is_number else default)
