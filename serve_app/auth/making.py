"""Puts authentication together: from the settings, this replica's copy of access and the sealed secrets, to the resolver."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.composition.resources import Resources, allowed_networks
from cluster.domain.access.identity import AccessPolicy
from cluster.domain.access.rate_limits import CallKind, Rate
from cluster.domain.base.log import SYSTEM, Origin
from cluster.http.addresses import PinnedBackend, resolve
from cluster.http.connections import ConnectionPool
from cluster.http.key_sets import IssuerKeys, fetch_from
from cluster.http.openid_provider import OpenIdProvider
from cluster.log.access_directory import AccessDirectory
from cluster.ports.access import AccessStore
from cluster.ports.secrets import JWT_SECRET, JWT_SECRET_BYTES
from cluster.process.rate_limits import LocalRateLimits
from cluster.settings import Settings
from serve_app.auth.access_view import AccessView
from serve_app.auth.agent_identity import AgentCertificates
from serve_app.auth.bearer import BearerTokens
from serve_app.auth.call_limits import CallLimits
from serve_app.auth.clients import Clients
from serve_app.auth.denials import Denials
from serve_app.auth.key_uses import KeyUses
from serve_app.auth.local_administrator import LocalAdministrator
from serve_app.auth.login_throttle import LoginThrottle
from serve_app.auth.resolver import PrincipalResolver
from serve_app.auth.session_cookie import Cookies
from serve_app.auth.sessions import Sessions, SessionView
from serve_app.auth.shared_limits import SharedLimits
from serve_app.auth.token_checks import SharedSecrets, TokenChecks, TrustedIssuer
from serve_app.auth.web_pages import WebPages

if TYPE_CHECKING:
    from serve_app.auth.logins import Logins

_logger = logging.getLogger(__name__)


#: The preset of ARAGORA_OAUTH_PROVIDER, and its issuer. Anybody can have an account there.
GOOGLE = "google"
GOOGLE_ISSUER = "https://accounts.google.com"
#: Where the provider leads browsers back, and where they go then unless they wanted to go elsewhere.
CALLBACK = "/api/control-plane/auth/callback"
HOME = "/api/control-plane/auth/session"


class AuthenticationOff(Exception):
    """Authentication is off where others than this machine can call: the application does not start."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """What authenticates the calls of one replica. ``connections`` is None without another issuer."""

    resolver: PrincipalResolver
    uses: KeyUses
    secrets: SharedSecrets | None
    issuer: TrustedIssuer | None
    connections: ConnectionPool | None
    sessions: Sessions | None

    async def close(self) -> None:
        """Writes the last uses of keys, and closes connections. Raises: `TryLater` if the store does not answer."""
        if self.issuer is not None and self.connections is not None:
            await self.issuer.keys.close()
            await self.connections.aclose()
        await self.uses.write()


def local_administrator(settings: Settings) -> LocalAdministrator:
    """The resolver while authentication is off.

    Raises: `AuthenticationOff` if the system can be reached from elsewhere."""
    on_loopback = settings.embedded and settings.listens_on_loopback()
    if not on_loopback:
        raise AuthenticationOff(
            "ARAGORA_AUTH_ENABLED is false, which is allowed only under `aragora-cp up` on a loopback address; leave it unset, "
            "and make the first key with `aragora-cp keys create --bootstrap`."
        )
    return LocalAdministrator(settings.workspace, WebPages(settings.cors_origins, on_loopback=on_loopback))


def policy_of(settings: Settings) -> AccessPolicy:
    """What the settings decide about access."""
    return AccessPolicy(
        home=settings.workspace,
        admins=frozenset(f"user:{address}" for address in settings.admin_users),
        default_role=settings.rbac_default_role,
        group_roles=frozenset(_group_role(entry) for entry in settings.oauth_group_roles),
        open_provider=settings.oauth_provider == GOOGLE and not settings.oauth_allowed_domains,
        enforced=settings.rbac_enabled,
    )


def _group_role(entry: str) -> tuple[str, str]:
    group, _, role = entry.rpartition("=")
    return f"group:{group}", role


def _issuer_of(settings: Settings) -> str:
    return GOOGLE_ISSUER if settings.oauth_provider == GOOGLE else settings.oauth_provider


def _sessions(settings: Settings, resources: Resources, view: SessionView) -> Sessions | None:
    if not settings.oauth_enabled:
        return None
    return Sessions(
        view=view,
        issuer=_issuer_of(settings),
        origin=settings.public_origin(),
        cors_origins=settings.cors_origins,
        clock=resources.clock,
    )


def logins(settings: Settings, resources: Resources, view: AccessView) -> tuple[Logins, OpenIdProvider]:
    """What logs people in, and the provider that it asks; whoever starts it closes that. Needs ``oauth_enabled``."""
    # Authlib is loaded where people log in, and nowhere else.
    from cluster.domain.access.openid import PersonRules
    from serve_app.auth.logins import Logins

    assert settings.oauth_client_id is not None, "the settings were checked"
    secret = settings.oauth_client_secret
    provider = OpenIdProvider(
        issuer=_issuer_of(settings),
        client_id=settings.oauth_client_id,
        client_secret=None if secret is None else secret.get_secret_value(),
        connections=_connections(settings),
        monotonic=time.monotonic,
    )
    rules = PersonRules(
        groups_claim=settings.oauth_groups_claim,
        domains=frozenset(settings.oauth_allowed_domains),
        is_google=settings.oauth_provider == GOOGLE,
    )
    people = Logins(
        provider=provider,
        store=resources.stores.access,
        view=view,
        policy=policy_of(settings),
        rules=rules,
        scopes=settings.oauth_scopes,
        redirect_uri=settings.public_origin() + CALLBACK,
        home=HOME,
        life_s=settings.oauth_session_life,
        clock=resources.clock,
    )
    return people, provider


async def authentication(
    settings: Settings, resources: Resources, view: AccessDirectory, store: AccessStore, front_proof: str | None = None
) -> Authentication:
    """``front_proof``: by it what the front says of a call counts.

    Raises: `StoreUnavailable` if the secret cannot be read, `Unsealable` if its key does not fit."""
    secrets = await _secrets(settings, resources)
    issuer, connections = _issuer(settings)
    uses = KeyUses(store, resources.clock)
    sessions = _sessions(settings, resources, view)
    resolver = BearerTokens(
        view=view,
        policy=policy_of(settings),
        tokens=TokenChecks(secrets=secrets, issuer=issuer, life_s=settings.jwt_expiry),
        uses=uses,
        clock=resources.clock,
        sessions=sessions,
    )
    return Authentication(
        _with_certificates(settings, resources, view, resolver, front_proof),
        uses,
        secrets,
        issuer,
        connections,
        sessions,
    )


def _with_certificates(
    settings: Settings, resources: Resources, view: AccessView, bearer: BearerTokens, proof: str | None
) -> PrincipalResolver:
    if settings.tls_ca_file is None:
        return bearer
    if proof is None:
        _logger.warning(
            "no certificate of an agent counts, because the front has no proof: start Ray with RAY_AUTH_MODE=token, whose token "
            "all nodes have"
        )
    return AgentCertificates(
        bearer=bearer,
        view=view,
        policy=policy_of(settings),
        trust_domain=settings.tls_trust_domain,
        proof=proof,
        clock=resources.clock,
    )


async def _secrets(settings: Settings, resources: Resources) -> SharedSecrets | None:
    """The configured secret, else the deployment's own. An own one is made only where it can be sealed, and no other issuer is
    named: whoever has one does not expect a second way in."""
    if settings.jwt_secret is not None:
        previous, until = settings.jwt_secret_previous, settings.jwt_secret_previous_until
        return SharedSecrets(
            current=settings.jwt_secret.get_secret_value().encode(),
            previous=None if previous is None else previous.get_secret_value().encode(),
            previous_until=0.0 if until is None else until.timestamp(),
        )
    if settings.jwt_jwks_url is not None:
        return None
    keys = settings.sealing_keys()
    if not keys:
        _logger.warning(
            "neither ARAGORA_JWT_SECRET nor ARAGORA_SECRETS_KEY is set: only API keys are accepted, and no token; "
            "`aragora-cp secrets generate` makes both"
        )
        return None
    return SharedSecrets(current=await resources.stores.secrets(keys).own(JWT_SECRET, os.urandom(JWT_SECRET_BYTES)))


def _issuer(settings: Settings) -> tuple[TrustedIssuer | None, ConnectionPool | None]:
    url, issuer, audience = settings.jwt_jwks_url, settings.jwt_issuer, settings.jwt_audience
    if url is None or issuer is None or audience is None:
        return None, None
    connections = _connections(settings)
    keys = IssuerKeys(fetch_from(url, connections), time.monotonic)
    return TrustedIssuer(keys=keys, issuer=issuer, audience=audience), connections


def _connections(settings: Settings) -> ConnectionPool:
    backend = PinnedBackend(allowed_networks(settings), resolve)
    return ConnectionPool(size=2, tls=ssl.create_default_context(), backend=backend)


def shared_limits(settings: Settings, resources: Resources) -> SharedLimits:
    """What counts calls and failed logins, together with the other replicas."""
    return SharedLimits(
        shared=resources.rate_limits(f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"),
        own=LocalRateLimits(time.monotonic),
        sharers=settings.api_replicas,
    )


def login_throttle(
    settings: Settings,
    resources: Resources,
    limits: SharedLimits,
    view: AccessView,
    clients: Clients,
    cookies: Cookies | None,
) -> LoginThrottle:
    """What counts the failed logins of a replica."""
    return LoginThrottle(
        limits=limits,
        clients=clients,
        view=view,
        log=resources.stores.log,
        origin=Origin(workspace=settings.workspace, principal=SYSTEM),
        clock=resources.clock,
        now=time.monotonic,
        cookies=cookies,
    )


def denials(settings: Settings, resources: Resources, clients: Clients) -> Denials:
    """What counts the denied calls of a replica. A region that is not the primary writes no row."""
    gate = resources.gate
    return Denials(
        log=resources.stores.log,
        clients=clients,
        home=settings.workspace,
        clock=resources.clock,
        may_write=lambda: gate is None or gate.is_primary,
    )


def call_limits(settings: Settings, limits: SharedLimits) -> CallLimits | None:
    """What counts the calls of a replica; None if nothing is limited."""
    given = {
        CallKind.OTHERS: settings.rate_limit,
        CallKind.HEARTBEATS: settings.rate_limit_heartbeats,
        CallKind.CLAIMS: settings.rate_limit_claims,
    }
    rates = {kind: Rate.per_minute(calls) for kind, calls in given.items() if calls}
    return CallLimits(limits, rates) if rates else None
