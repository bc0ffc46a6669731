"""Finds free ports, and says clearly that one is taken."""

from __future__ import annotations

import errno
import itertools
import random
import socket
from typing import Final

from cluster.embedded.layout import EmbeddedError

#: Below the range from which the kernel takes ports for outgoing connections (32,768 and more on Linux). A port of that range may
#: be the local end of any connection between the moment in which it is found free and the one in which its server listens; and
#: whoever tries to connect to it until then can be connected with itself.
_RANGE: Final = range(11_000, 30_000)
_BETWEEN: Final = f"between {_RANGE.start} and {_RANGE.stop}"


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface on which nobody listens now.

    Raises: `EmbeddedError` if there are not so many."""
    found = (port for port in random.sample(_RANGE, len(_RANGE)) if is_free("127.0.0.1", port))
    ports = list(itertools.islice(found, count))
    if len(ports) < count:
        raise EmbeddedError(f"No {count} free ports {_BETWEEN}; stop the programs that listen there.")
    return ports


def free_window(size: int) -> int:
    """The first of ``size`` ports in a row that are free now.

    Raises: `EmbeddedError` if none is found."""
    for _ in range(50):
        first = random.randrange(_RANGE.start, _RANGE.stop - size)
        if is_free("127.0.0.1", *range(first, first + size)):
            return first
    raise EmbeddedError(f"No {size} free ports in a row {_BETWEEN}; stop the programs that listen there.")


def is_free(host: str, *ports: int) -> bool:
    """Whether all of these ports can be listened on."""
    return all(_refusal(host, port) is None for port in ports)


def require_free(host: str, port: int, variable: str) -> None:
    """Checks that a port can be listened on. ``variable`` sets it. Raises: `EmbeddedError`, with the reason, if it cannot."""
    error = _refusal(host, port)
    if error is None:
        return
    if isinstance(error, socket.gaierror | UnicodeError):
        raise EmbeddedError(
            f"{host!r} is no IPv4 address and no name of one; set ARAGORA_HTTP_HOST to an address of this machine, such as "
            "127.0.0.1, or to 0.0.0.0 for all."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        raise EmbeddedError(
            f"{host} is not an address of this machine; set ARAGORA_HTTP_HOST to one that is, such as 127.0.0.1, or to 0.0.0.0 "
            "for all."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        raise EmbeddedError(
            f"This user may not listen on port {port} of {host}; set {variable} to a port from 1024 on."
        )
    if error.errno != errno.EADDRINUSE:
        raise EmbeddedError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}; set {variable} to another."
        )
    raise EmbeddedError(
        f"Port {port} on {host} is taken; stop the program that listens there, or set {variable} to another port."
    )


def _refusal(host: str, port: int) -> OSError | UnicodeError | None:
    """Why a port cannot be listened on; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:
            return error
        return None
