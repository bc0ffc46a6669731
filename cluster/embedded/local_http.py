"""HTTP to servers of this machine, for waiting until they answer."""

from __future__ import annotations

import ssl

import httpx


def local_client(timeout_s: float) -> httpx.Client:
    """Plain HTTP to loopback. No certificates are read: that costs 80 ms of CPU, and a poll would pay it every time."""
    return httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=timeout_s)
