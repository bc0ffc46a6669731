"""Who a region is to another one: the only URI of its certificate, ``spiffe://TRUST_DOMAIN/region/NAME``.

The same certificate is shown in both directions, so one that states purposes must be for clients and for servers. Names of hosts
are not compared: regions are reached by addresses that change, and a host's name would not say which region answers.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from cluster.domain.access.uri_names import read_uris
from cluster.ports.replication import LinkRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFiles:
    """``certificate`` and ``key`` are this region's, ``authority`` has those that issue the regions' certificates."""

    certificate: str
    key: str
    authority: str
    trust_domain: str = "aragora"

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when a file is written. Raises: `OSError` if one is not there, as while it is replaced."""
        found = [os.stat(name) for name in (self.certificate, self.key, self.authority)]
        return tuple((file.st_ino, file.st_mtime_ns, file.st_size) for file in found)

    def accepting(self) -> ssl.SSLContext:
        """For the end that is connected to. Raises: `OSError` if a file cannot be used."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def connecting(self) -> ssl.SSLContext:
        """For the end that connects. Raises: `OSError` if a file cannot be used."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.authority)
        return context


def region_of(der: bytes, trust_domain: str) -> str:
    """The region that a certificate names which was verified against the authority.

    Raises: `LinkRefused` if it names none."""
    beginning = f"spiffe://{trust_domain}/region/"
    read = read_uris(der)
    uris = [] if read is None else read[1]
    if len(uris) != 1 or not uris[0].startswith(beginning):
        raise LinkRefused(
            f"The certificate of the other end is no region's: its only URI must be {beginning}NAME; issue one that has it.",
            "wrong_region",
        )
    return uris[0].removeprefix(beginning)
