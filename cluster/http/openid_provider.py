"""An OIDC provider: its discovery document, its keys, and the calls of a login, bounded and over checked connections.

Authlib's HTTP clients were rejected: which library is below them depends on what else is installed (httpx, or httpx2 beside
``mcp``), and neither checks addresses nor bounds a whole answer.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from aragora_worker.reasons import reason
from cluster.domain.access.token_keys import Algorithm, TokenKey
from cluster.domain.base.errors import CallerError, InvalidRequest, PeerError, TryLater
from cluster.domain.base.json_values import parse_json
from cluster.domain.base.urls import LOOPBACK_HOSTS, safe_url
from cluster.http.connections import ConnectionPool
from cluster.http.key_sets import IssuerKeys, fetch_from
from cluster.http.sending import BROKEN, TIMED_OUT, HttpAnswer, send

#: One call; a login makes at most four, one after the other.
CALL_S: Final = 3.0
#: A discovery document of this age is fetched again.
RENEW_S: Final = 300.0
_DISCOVERY: Final = "/.well-known/openid-configuration"
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_BASIC, _POST = "client_secret_basic", "client_secret_post"


class ProviderAway(TryLater):
    """The provider does not answer, or answers what no OIDC provider does."""

    default_code = "provider_unavailable"


class GrantRefused(InvalidRequest):
    """The provider refuses a code or a device code (RFC 6749, 5.2; RFC 8628, 3.5). ``error`` is its word for why."""

    default_code = "login_refused"

    def __init__(self, message: str, code: str | None = None, error: str = "") -> None:
        super().__init__(message, code)
        self.args = (message, code, error)  # what pickle calls the class with
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What a discovery document says. ``names_issuer``: answers to logins have ``iss`` (RFC 9207)."""

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    device: str | None
    names_issuer: bool
    client_auth: Sequence[str]


class OpenIdProvider:
    """One provider, as one client of it. ``monotonic`` gives seconds."""

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        client_secret: str | None,
        connections: ConnectionPool,
        monotonic: Callable[[], float],
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._client_secret = client_secret
        self._connections = connections
        self._monotonic = monotonic
        self._keys = IssuerKeys(self._fetch_keys, monotonic)
        self._endpoints: Endpoints | None = None
        self._fetched_at = float("-inf")
        #: The fetch that is under way; calls share it.
        self._fetching: asyncio.Task[Endpoints] | None = None

    async def endpoints(self) -> Endpoints:
        """What the discovery document says. Raises: `ProviderAway`."""
        if self._endpoints is not None and self._monotonic() - self._fetched_at < RENEW_S:
            return self._endpoints
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._discover())
            self._fetching.add_done_callback(self._discovered)
        fetching = self._fetching
        await asyncio.wait({fetching})  # a caller that leaves does not end it
        return fetching.result()

    def _discovered(self, fetching: asyncio.Task[Endpoints]) -> None:
        self._fetching = None
        if not fetching.cancelled() and fetching.exception() is None:
            self._endpoints, self._fetched_at = fetching.result(), self._monotonic()

    async def _discover(self) -> Endpoints:
        """Raises: `ProviderAway`."""
        document = _object(await self._sent("GET", self.issuer.rstrip("/") + _DISCOVERY, {}, None))
        if document.get("issuer") != self.issuer:
            raise ProviderAway(
                "The OIDC provider calls itself by another issuer than ARAGORA_OAUTH_PROVIDER; write it as its discovery "
                "document does."
            )
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        required = [_endpoint(document, name) for name in names]
        missing = [name for name, url in zip(names, required, strict=True) if url is None]
        if missing:
            raise ProviderAway(
                f"The OIDC provider's discovery document has no {missing[0]} of https; ask its administrator."
            )
        authorization, token, keys = map(str, required)
        methods = document.get("token_endpoint_auth_methods_supported")
        return Endpoints(
            authorization=authorization,
            token=token,
            keys=keys,
            userinfo=_endpoint(document, "userinfo_endpoint"),
            device=_endpoint(document, "device_authorization_endpoint"),
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
            client_auth=methods if isinstance(methods, list) else (_BASIC,),
        )

    async def _fetch_keys(self) -> bytes:
        """Raises: as `fetch_from`, and `ProviderAway`."""
        return await fetch_from((await self.endpoints()).keys, self._connections)()

    async def key(self, algorithm: Algorithm, kid: str | None) -> TokenKey | None:
        """The key of an ID token; None if the provider has none that fits. Raises: `TryLater` if its keys are not known now."""
        return await self._keys.find(algorithm, kid)

    async def tokens(self, grant: Mapping[str, str]) -> Mapping[str, Any]:
        """The answer to a grant, which has ``id_token`` and ``access_token``.

        Raises: `GrantRefused`, `ProviderAway`."""
        answer = await self._granted((await self.endpoints()).token, grant)
        if not all(isinstance(answer.get(name), str) for name in ("id_token", "access_token")):
            raise ProviderAway("The OIDC provider gave no ID token; allow the scope openid for this client.")
        return answer

    async def begin_device(self, scope: str) -> Mapping[str, Any]:
        """What begins a device login (RFC 8628, 3.2). Raises: `GrantRefused`, `ProviderAway`."""
        url = (await self.endpoints()).device
        if url is None:
            raise GrantRefused(
                "The OIDC provider has no device login; make an API key with the board or with aragora-cp keys create.",
                "no_device_login",
            )
        answer = await self._granted(url, {"scope": scope})
        if not all(isinstance(answer.get(name), str) for name in ("device_code", "user_code", "verification_uri")):
            raise ProviderAway("The OIDC provider's answer begins no device login; ask its administrator.")
        return answer

    async def userinfo(self, access_token: str) -> Mapping[str, Any] | None:
        """What userinfo says; None if the provider has none. Raises: `ProviderAway`."""
        url = (await self.endpoints()).userinfo
        if url is None:
            return None
        if not (access_token.isascii() and access_token.isprintable()):
            raise ProviderAway("The OIDC provider gave an access token that no header may have; ask its administrator.")
        return _object(await self._sent("GET", url, {"Authorization": f"Bearer {access_token}"}, None))

    async def _granted(self, url: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        """Raises: `GrantRefused`, `ProviderAway`."""
        headers, form = self._client_auth(fields, (await self.endpoints()).client_auth)
        answer = await self._sent("POST", url, headers, urlencode(form).encode())
        if answer.status in (400, 401, 403):
            raise _refusal(_object(answer, statuses=(400, 401, 403)).get("error"))
        return _object(answer)

    def _client_auth(self, fields: Mapping[str, str], methods: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form with the client's id and secret. In the header both are encoded first (RFC 6749, 2.3.1), which
        Authlib 1.9 leaves out: a secret with ``%`` or ``+`` would be another one for the provider."""
        if self._client_secret is None:
            return _FORM, {**fields, "client_id": self.client_id}
        if _BASIC not in methods and _POST in methods:
            return _FORM, {**fields, "client_id": self.client_id, "client_secret": self._client_secret}
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self._client_secret)}"
        # A device login names the client in its form besides (RFC 8628, 3.1).
        return {**_FORM, "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {
            **fields,
            "client_id": self.client_id,
        }

    async def _sent(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> HttpAnswer:
        """Raises: `ProviderAway` if there is no answer in time, or its address is forbidden."""
        try:
            return await send(self._connections, CALL_S, method, url, headers, content)
        except (TIMED_OUT, *BROKEN) as error:
            raise ProviderAway(f"The OIDC provider ({safe_url(url)}) does not answer: {reason(error)}.") from error
        except PeerError as error:
            raise ProviderAway(f"The OIDC provider cannot be asked: {error.message}") from error

    async def close(self) -> None:
        """Ends fetches that are under way, and closes the connections."""
        await self._keys.close()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._connections.aclose()


def _object(answer: HttpAnswer, statuses: Sequence[int] = (200,)) -> Mapping[str, Any]:
    """Raises: `ProviderAway` if the answer has another status, or is no JSON object."""
    if answer.status not in statuses:
        raise ProviderAway(f"The OIDC provider answers {answer.status}; try again, or ask its administrator.")
    try:
        found = parse_json(answer.content, "The answer")
    except CallerError:
        found = None
    if not isinstance(found, dict):
        raise ProviderAway("The OIDC provider's answer is no JSON object; ask its administrator.")
    return found


def _endpoint(document: Mapping[str, Any], name: str) -> str | None:
    """A URL of the document; None if there is none, or what is sent there would not be encrypted."""
    url = document.get(name)
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_private = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
    return url if is_private and parts.hostname and url.isascii() and url.isprintable() else None


_WHY: Final = {
    "invalid_grant": "The login's code was used, has expired or is not this client's; log in again.",
    "authorization_pending": "The login was not confirmed yet; ask again after the interval.",
    "slow_down": "You ask too often; ask again after a longer interval.",
    "access_denied": "The login was denied at the OIDC provider.",
    "expired_token": "The login was not confirmed in time; begin again.",
}


def _refusal(error: Any) -> TryLater | GrantRefused:
    if isinstance(error, str) and error in _WHY:
        return GrantRefused(_WHY[error], "login_refused" if error == "invalid_grant" else error, error)
    return ProviderAway(
        "The OIDC provider refuses this client; look at ARAGORA_OAUTH_CLIENT_ID and ARAGORA_OAUTH_CLIENT_SECRET, and at what "
        "the provider allows it."
    )
