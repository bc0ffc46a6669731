"""The other regions: whether each answers where the settings say, is the region that it should be, and takes this one's
certificate. Nothing is asked: who does not greet is no region that follows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from cluster.cli.checks.findings import Finding, fine, problem
from cluster.domain.access.uri_names import read_uris
from cluster.settings import Settings

#: For a connection with its handshakes.
CONNECT_S: Final = 2.0
#: With TLS 1.3 a refused certificate is told after the handshake, and an accepted one is not. Longer than a round trip.
REFUSAL_S: Final = 1.0


async def check_peers(settings: Settings) -> Sequence[Finding]:
    """Nothing is found where the region is alone."""
    peers = settings.peer_addresses()
    if not peers:
        return []
    try:
        tls = _context(settings)
    except OSError as error:  # ssl.SSLError is one
        detail = f"this region's certificate cannot be used ({error.strerror or error})"
        return [problem("regions", detail, "Mend ARAGORA_REGION_CERT_FILE, _KEY_FILE and _CA_FILE.")]
    domain = settings.tls_trust_domain
    return await asyncio.gather(*(_peer(name, address, tls, domain) for name, address in sorted(peers.items())))


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a region's name is in its URI
    context.load_cert_chain(str(settings.region_cert_file), str(settings.region_key_file))
    context.load_verify_locations(str(settings.region_ca_file))
    return context


async def _peer(name: str, address: tuple[str, int], tls: ssl.SSLContext, domain: str) -> Finding:
    where = f"{name} at {address[0]}:{address[1]}"
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(*address, ssl=tls)
    except ssl.SSLCertVerificationError as error:
        detail = f"{where} shows a certificate that is not trusted ({error.verify_message})"
        return problem("regions", detail, "Give all regions certificates of one authority (ARAGORA_REGION_CA_FILE).")
    except OSError as error:  # a TimeoutError is one
        why = error.strerror or str(error) or type(error).__name__
        advice = "Start its leader; else look at the address, and at firewalls, load balancers and network policies on the way."
        return problem("regions", f"{where} does not answer ({why})", advice)
    try:
        read = read_uris(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        uris, expected = [] if read is None else read[1], f"spiffe://{domain}/region/{name}"
        if uris != [expected]:
            detail = f"{where} is {', '.join(uris) or 'no region'} by its certificate, not {expected}"
            return problem("regions", detail, "Mend ARAGORA_REGION_PEERS, or the certificate of that region.")
        if await _ends(reader):
            detail = f"{where} does not take this region's certificate"
            return problem(
                "regions", detail, f"Let the authority that {name} trusts issue it, for clients and servers."
            )
        return fine("regions", f"{where} answers")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _ends(reader: asyncio.StreamReader) -> bool:
    """Whether the other end gives the connection up. It says nothing by itself."""
    try:
        async with asyncio.timeout(REFUSAL_S):
            await reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
