"""Agents prove who they are by certificates, if the control plane has an authority for them (ARAGORA_TLS_CA_FILE).

The front hands on the certificate of a call, whose key the caller had at the handshake. Our code reads it
(`cluster.domain.access.agent_certificates`), here and nowhere else. A lease names the agent and not the certificate, so that a
renewed one keeps it.

A call may have a key or token besides. Then that says which principal calls and in which workspace, and the certificate which
agent: both have to allow the call, so a stolen key claims nothing, and neither does a stolen lease. For which agents a call acts
is decided in `cluster.domain.access.acting`, for keys that are bound to agents too.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import HTTPConnection

from cluster.domain.access.acting import acting_as, both
from cluster.domain.access.agent_certificates import DENIED, AgentCertificate, agent_certificate
from cluster.domain.access.identity import AccessPolicy, Identity, Method
from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal, allows
from cluster.domain.base.errors import Unauthenticated
from cluster.ports.clock import Clock
from cluster.process import front
from serve_app.auth.access_view import AccessView
from serve_app.auth.bearer import BearerTokens, Principals, Proof, has_token
from serve_app.auth.named_workspace import asked_workspace
from serve_app.auth.suspension import refusal

#: Certificates that were read are kept, because each call has one. More than there are agents at one replica.
MAX_KEPT: Final = 20_000
_OF_AGENTS: Final = (Permission.AGENTS_CONNECT, Permission.TASKS_CLAIM)
_PROOF: Final = front.PROOF.encode()
_CERTIFICATE: Final = front.CERTIFICATE.encode()
_ENDED: Final = "This client certificate does not count any more; get a new one."
_MISSING: Final = (
    "Agents show a certificate here: call over HTTPS, with ARAGORA_CLIENT_CERT_FILE and ARAGORA_CLIENT_KEY_FILE."
)


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """The certificate of a call. ``holds``: whether it still counts, for calls that stay open."""

    agent_id: str
    holds: Callable[[], bool]


class AgentCertificates:
    """The `PrincipalResolver` of a system with an authority of agents. ``proof`` is what the front shows; None: what it says
    counts for nothing."""

    def __init__(
        self,
        *,
        bearer: BearerTokens,
        view: AccessView,
        policy: AccessPolicy,
        trust_domain: str,
        proof: str | None,
        clock: Clock,
    ) -> None:
        self._bearer = bearer
        self._view = view
        self._policy = policy
        self._trust_domain = trust_domain
        self._proof = None if proof is None else proof.encode()
        self._clock = clock
        self._principals = Principals(view, policy)
        self._kept: dict[bytes, AgentCertificate] = {}

    async def resolve(self, connection: HTTPConnection) -> Principal:
        """The principal of a key or token if there is one, else the agent of the certificate.

        Raises: `Unauthenticated` if neither counts, or a certificate that is shown does not; else as `BearerTokens`."""
        certificate = self._certificate(connection)
        state = connection.scope.setdefault("state", {})
        if certificate is None:
            return await self._bearer.resolve(connection)
        shown = ShownCertificate(certificate.agent_id, lambda: self._counts(certificate))
        state["certificate"] = shown
        if has_token(connection):
            await self._bearer.resolve(connection)
            proof = state["proof"] = _with_certificate(state["proof"], shown, certificate.ends_at)
            return proof.principal()
        asked = asked_workspace(connection)
        proof = Proof(
            identity=self._identity(certificate),
            holds=shown.holds,
            ends_at=lambda: certificate.ends_at,
            principal=lambda: self._principals.of(self._identity(certificate), asked),
            generation=self._view.generation,
            may_act_in=lambda workspace: self._principals.may_act(self._identity(certificate), workspace),
        )
        state["proof"] = proof
        return proof.principal()

    def _certificate(self, connection: HTTPConnection) -> AgentCertificate | None:
        headers: Mapping[bytes, bytes] = dict(connection.scope["headers"])
        shown, proof = headers.get(_CERTIFICATE), headers.get(_PROOF, b"")
        if shown is None or self._proof is None or not hmac.compare_digest(proof, self._proof):
            return None
        found = self._kept.get(shown)
        if found is None:
            try:
                der = base64.b64decode(shown, validate=True)
            except ValueError:
                der = b""
            found = agent_certificate(der, self._trust_domain)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[shown] = found
        if not self._counts(found):
            raise Unauthenticated(_ENDED, "certificate_refused")
        return found

    def _counts(self, certificate: AgentCertificate) -> bool:
        """The front has checked the time too, but a connection may be older than that."""
        return (
            certificate.begins_at <= self._clock.now() < certificate.ends_at
            and not self._view.is_revoked(DENIED + certificate.serial)
            and certificate.begins_at >= self._view.not_before(_principal(certificate))
        )

    def _identity(self, certificate: AgentCertificate) -> Identity:
        """Without a role of its own an agent is one in the default workspace. Role bindings of ``agent:ID`` replace that."""
        name = _principal(certificate)
        is_bound = bool(self._view.bindings(name))
        return Identity(
            id=name,
            method=Method.CERTIFICATE,
            subjects=(name,),
            workspaces=() if is_bound else (self._policy.home,),
            grants=() if is_bound else ("agent",),
            agents=frozenset({certificate.agent_id}),
        )


def _with_certificate(proof: Proof, shown: ShownCertificate, certificate_ends_at: float) -> Proof:
    """A call with a token and a certificate acts for the agents of both, and ends with either."""

    def principal() -> Principal:
        found = proof.principal()
        return replace(found, agents=both(found.agents, frozenset({shown.agent_id})))

    return replace(
        proof,
        principal=principal,
        holds=lambda: proof.holds() and shown.holds(),
        ends_at=lambda: min(proof.ends_at(), certificate_ends_at),
    )


def _principal(certificate: AgentCertificate) -> str:
    return f"agent:{certificate.agent_id}"


def check_certificate(connection: HTTPConnection, permission: Permission, principal: Principal) -> None:
    """The door of the routes of agents. An operator registers and removes agents without one; the routes themselves see to
    the rest (`acting_agent`).

    Raises: `Unauthenticated` if the call needs a certificate and has none; `Forbidden` (``workspace_suspended``) if it would
    need none but for the suspension of its workspace."""
    if permission not in _OF_AGENTS or not _is_asked_for(connection) or _shown(connection) is not None:
        return
    if permission is Permission.TASKS_CLAIM or not allows(principal, Permission.AGENTS_WRITE):
        if permission is not Permission.TASKS_CLAIM and Permission.AGENTS_WRITE in principal.suspended:
            raise refusal(principal, Permission.AGENTS_WRITE)
        raise Unauthenticated(_MISSING, "certificate_required")


def acting_agent(connection: HTTPConnection, agent_id: str | None) -> str | None:
    """The agent for which an admitted call acts (`acting_as`).

    Raises: `Unauthenticated` if certificates are asked for and the call has none that counts; else as `acting_as`."""
    if _is_asked_for(connection):
        certificate = _shown(connection)
        if certificate is None:
            raise Unauthenticated(_MISSING, "certificate_required")
        if not certificate.holds():
            raise Unauthenticated(_ENDED, "certificate_refused")
    return acting_as(connection.scope["state"]["principal"], agent_id)


def check_managed(connection: HTTPConnection, principal: Principal, agent_id: str) -> None:
    """Whether a call may register or remove the agent, or change what it is told to do: an operator's may without a certificate,
    and the agent's own.

    Raises: as `acting_agent`."""
    if allows(principal, Permission.AGENTS_WRITE):
        acting_as(principal, agent_id)
    else:
        acting_agent(connection, agent_id)


def _is_asked_for(connection: HTTPConnection) -> bool:
    return isinstance(connection.app.state.resolver, AgentCertificates)


def _shown(connection: HTTPConnection) -> ShownCertificate | None:
    certificate: ShownCertificate | None = connection.scope["state"].get("certificate")
    return certificate
