"""HTTP to servers of this machine, for waiting until they answer."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from aragora_worker.pinned import pinned_context


def local_client(timeout_s: float, certificate: Path | None = None) -> httpx.Client:
    """A client for plain HTTP to loopback, and for the HTTPS of the server with this certificate. It reads no others, which would
    cost every poll 80 ms of CPU."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if certificate is None else pinned_context(certificate)
    return httpx.Client(verify=context, trust_env=False, timeout=timeout_s)
