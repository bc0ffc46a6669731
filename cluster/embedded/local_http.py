"""HTTP to servers of this machine, for waiting until they answer."""

from __future__ import annotations

import ssl

import httpx


def local_client(timeout_s: float) -> httpx.Client:
    """A client for plain HTTP to loopback. It reads no certificates, which would cost every poll 80 ms of CPU."""
    return httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=timeout_s)
