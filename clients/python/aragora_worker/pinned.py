"""Trust in one certificate, that of the API on this machine. Apart from the checks of certificates, because commands load it."""

from __future__ import annotations

import ssl
from pathlib import Path


def pinned_context(certificate: Path) -> ssl.SSLContext:
    """For this machine's commands, which call the front by its address: they trust its certificate and nothing else.

    Raises: `OSError` if the file cannot be read, `ssl.SSLError` among them if it has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    return context
