"""Calls as the front hands them on: with its proof, and the certificate of the caller."""

from __future__ import annotations

import base64

from cluster.domain.access.identity import AccessPolicy
from cluster.ports.clock import Clock
from cluster.process import front
from cluster.process.clock import SystemClock
from serve_app.auth.agent_identity import AgentCertificates
from tests.support.authorities import Issued
from tests.support.bearer_tables import Tables, bearer_tokens

PROOF = "a5" * 32


def fronted(own: Issued | bytes, proof: str = PROOF) -> dict[str, str]:
    """The headers of the front."""
    der = own if isinstance(own, bytes) else own.der
    return {front.PROOF: proof, front.CERTIFICATE: base64.b64encode(der).decode()}


def agent_certificates(tables: Tables, clock: Clock | None = None, proof: str | None = PROOF) -> AgentCertificates:
    clock = clock or SystemClock()
    return AgentCertificates(
        bearer=bearer_tokens(tables, clock=clock),
        view=tables,
        policy=AccessPolicy(home="w", default_role="viewer"),
        trust_domain="aragora",
        proof=proof,
        clock=clock,
    )
