"""A server that hangs: its processes stand still, accept connections and answer nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil

from cluster.embedded.processes import ProcessId

#: What a test waits for a refusal. A call is refused within 5 s by the server's clock (`cluster.process.waits`); a busy machine
#: adds to that, and a call that waited for the store twice would take longer than this.
REFUSED_S = 8.0
#: And for an answer about health: one that waited for a store would take longer.
HEALTH_S = 4.0


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
