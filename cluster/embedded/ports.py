"""Finds free ports, and says clearly that one is taken."""

from __future__ import annotations

import random
import socket

from cluster.embedded.layout import EmbeddedError


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface on which nobody listens now."""
    probes: list[socket.socket] = []
    try:
        for _ in range(count):
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            probes.append(probe)
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_window(size: int) -> int:
    """The first of ``size`` ports in a row that are free now, below the range from which the kernel takes ports.

    Raises: `EmbeddedError` if none is found."""
    for _ in range(50):
        first = random.randrange(11_000, 30_000 - size)
        if all(_is_free("127.0.0.1", port) for port in range(first, first + size)):
            return first
    raise EmbeddedError(f"No {size} free ports in a row between 11000 and 30000; stop the programs that listen there.")


def require_free(host: str, port: int, variable: str) -> None:
    """Checks that a port is free. ``variable`` sets it. Raises: `EmbeddedError` if the port is taken."""
    if not _is_free(host, port):
        raise EmbeddedError(
            f"Port {port} on {host} is taken; stop the program that listens there, or set {variable} to another port."
        )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
