"""A server that hangs: its processes stand still, accept connections and answer nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from cluster.embedded.processes import ProcessId


@contextlib.contextmanager
def stopped(server: ProcessId) -> Iterator[None]:
    """All processes of a server stand still in the block."""
    # By descent: each backend of PostgreSQL is the leader of a session of its own.
    parent = psutil.Process(server.pid)
    parent.suspend()  # first, so that it starts no others
    members = [parent, *parent.children(recursive=True)]
    for member in members:
        member.suspend()
    try:
        yield
    finally:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()
