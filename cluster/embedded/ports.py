"""Free ports, and a clear word about taken ones."""

from __future__ import annotations

import random
import socket

from cluster.embedded.layout import EmbeddedError


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface that nobody listens on now."""
    sockets = []
    try:
        for _ in range(count):
            one = socket.socket()
            one.bind(("127.0.0.1", 0))
            sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_window(size: int) -> int:
    """First port of ``size`` in a row that are free now, below the kernel's own range."""
    for _ in range(50):
        first = random.randrange(11_000, 30_000 - size)
        if all(_is_free("127.0.0.1", port) for port in range(first, first + size)):
            return first
    raise EmbeddedError("No window of free ports between 11000 and 30000; end what listens there.")


def require_free(host: str, port: int, variable: str) -> None:
    if not _is_free(host, port):
        raise EmbeddedError(
            f"Port {port} on {host} is taken; end what listens there, or set {variable} to another port."
        )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
