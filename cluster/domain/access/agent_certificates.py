"""Certificates of agents: exactly one URI among the alternative names, which is ``spiffe://TRUST_DOMAIN/agent/ID``.

That URI is the only source of an identity. A common name is nobody's: authorities let applicants choose it. Other kinds of
alternative names are not read; cert-manager and SPIRE add DNS names that servers need.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.access.uri_names import read_uris
from cluster.domain.base.errors import InvalidRequest, Unauthenticated
from cluster.domain.base.ids import check_id

#: Larger ones are no agent's: a certificate travels in a header of each call.
MAX_BYTES = 8192
#: Before its number, where revocations have the id of a token.
DENIED = "certificate/"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCertificate:
    """``serial`` in lower-case hexadecimal digits, as `openssl x509 -serial` prints them but for the case. Times are epoch
    seconds."""

    agent_id: str
    serial: str
    begins_at: float
    ends_at: float


def agent_certificate(der: bytes, trust_domain: str) -> AgentCertificate:
    """What a certificate says that was verified against the authority of agents.

    Raises: `Unauthenticated` if it names no agent of this trust domain."""
    read = read_uris(der) if len(der) <= MAX_BYTES else None
    if read is None or len(read[1]) != 1:
        raise _not_an_agents(trust_domain)
    certificate, uris = read
    return AgentCertificate(
        agent_id=_agent_id(uris[0], trust_domain),
        serial=f"{certificate.serial_number:x}",
        begins_at=certificate.not_valid_before_utc.timestamp(),
        ends_at=certificate.not_valid_after_utc.timestamp(),
    )


def canonical_serial(text: str) -> str:
    """A serial number as `AgentCertificate` has it, from how tools print it: with colons, zeros in front, or in capitals.

    Raises: `InvalidRequest` if it is none."""
    try:
        number = int(text.strip().replace(":", "").replace(" ", ""), 16)
    except ValueError:
        number = -1
    if number <= 0 or "_" in text:
        raise InvalidRequest(
            "A serial number has hexadecimal digits; `openssl x509 -noout -serial -in FILE` prints it."
        )
    return f"{number:x}"


def _agent_id(uri: str, trust_domain: str) -> str:
    beginning = f"spiffe://{trust_domain}/agent/"
    if not uri.startswith(beginning):
        raise _not_an_agents(trust_domain)
    try:
        return check_id(uri.removeprefix(beginning), "agent_id")
    except InvalidRequest:
        raise _not_an_agents(trust_domain) from None


def _not_an_agents(trust_domain: str) -> Unauthenticated:
    return Unauthenticated(
        f"This client certificate is no agent's here: its only URI must be spiffe://{trust_domain}/agent/ID.",
        "certificate_refused",
    )
