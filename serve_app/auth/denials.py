"""Denied calls (401, 403) are rows of the log, whichever way they came in.

A replica counts them where errors become answers (`serve_app.http.errors`), and writes what it has counted once in a while: one
row for all denials of a principal, code and route. So a denial waits for nothing, and a flood of them costs a few rows a second.
A row for each denial was rejected, since whoever is denied could fill the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection

from cluster.domain.access.principal import Principal
from cluster.domain.access.rows import ANONYMOUS, Denied, denied_record
from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.domain.base.log import SYSTEM
from cluster.domain.metrics import Increment
from cluster.ports.clock import Clock
from cluster.ports.log import Log
from serve_app.auth.bearer import Proof
from serve_app.auth.clients import Clients
from serve_app.http.methods import route_of, shown_method

_logger = logging.getLogger(__name__)

WINDOW_S: Final = 10.0
#: Rows of a window. What is beyond is counted in a last one.
MAX_ROWS: Final = 30
#: Of these, rows of callers who have proven no identity, which cost nothing: they must not hide what a principal tried.
MAX_ANONYMOUS: Final = 15
#: Addresses that a row names.
MAX_ADDRESSES: Final = 8
SUMMED: Final = "aragora_cp_denials_summed_total"
_DENIED: Final = (401, 403)
_OTHERS: Final = "others"


@dataclass(slots=True)
class _Tally:
    """Denials that are counted together. ``since`` is when the first was, ``cause`` its trace id; ``addresses`` are the first
    few, in order."""

    since: float
    cause: str
    count: int = 0
    addresses: dict[str, None] = field(default_factory=dict)

    def add(self, later: _Tally) -> None:
        self.count += later.count
        for address in later.addresses:
            self.come_from(address)

    def come_from(self, address: str) -> None:
        if len(self.addresses) < MAX_ADDRESSES:
            self.addresses[address] = None


class Denials:
    """The denied calls of one replica. ``home`` is the workspace of those whose workspace is not known; ``may_write``: whether
    the log takes rows here now."""

    def __init__(
        self, *, log: Log, clients: Clients, home: str, clock: Clock, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._log = log
        self._clients = clients
        self._clock = clock
        self._may_write = may_write
        self._others = Denied(home, SYSTEM, None, _OTHERS, _OTHERS, _OTHERS)
        #: What is not in the log yet.
        self._tallies: dict[Denied, _Tally] = {}
        self._summed = 0

    def note(self, connection: HTTPConnection, error: ControlPlaneError) -> None:
        """Counts a denial."""
        tally = self._tally(self._denied(connection, error), self._clock.now(), _trace(connection))
        tally.count += 1
        if len(tally.addresses) < MAX_ADDRESSES:
            tally.come_from(self._clients.address(connection.scope))

    def _denied(self, connection: HTTPConnection, error: ControlPlaneError) -> Denied:
        scope = connection.scope
        state = scope.get("state", {})
        known: Principal | None = state.get("principal")
        proof: Proof | None = state.get("proof")
        workspace, principal = self._others.workspace, ANONYMOUS
        if known is not None:
            workspace, principal = known.workspace, known.id
        elif proof is not None:
            principal = proof.identity.id
        call = "WS" if scope["type"] == "websocket" else shown_method(scope["method"])
        return Denied(workspace, principal, error.status, error.code, call, route_of(scope))

    def _tally(self, denied: Denied, since: float, cause: str) -> _Tally:
        """The tally of such denials, or of all others if there are too many kinds."""
        if denied not in self._tallies and denied != self._others and not self._has_room(denied):
            denied = self._others
        return self._tallies.setdefault(denied, _Tally(since, cause))

    def _has_room(self, denied: Denied) -> bool:
        if len(self._tallies) >= MAX_ROWS:
            return False
        anonymous = sum(noted.principal == ANONYMOUS for noted in self._tallies)
        return denied.principal != ANONYMOUS or anonymous < MAX_ANONYMOUS

    async def run(self) -> None:
        """Writes until the replica ends."""
        while True:
            await self._clock.sleep(WINDOW_S)
            await self.write()

    async def write(self) -> None:
        """Writes a row for each kind of denial since the last time. They stay noted while the log does not take them."""
        if not self._tallies or not self._may_write():
            return
        tallies, self._tallies = self._tallies, {}
        at = self._clock.now()
        records = [
            denied_record(at, denied, tally.count, since=tally.since, cause=tally.cause, addresses=[*tally.addresses])
            for denied, tally in tallies.items()
        ]
        try:
            await self._log.append(records)
        except TryLater:
            self._restore(tallies)
            return
        except ControlPlaneError as error:  # it would be refused again
            _logger.error("%d denied calls have no row: %s", sum(tally.count for tally in tallies.values()), error)
            return
        others = tallies.get(self._others)
        self._summed += 0 if others is None else others.count

    def _restore(self, tallies: dict[Denied, _Tally]) -> None:
        """Puts back what was not written, before what was noted meanwhile."""
        later, self._tallies = self._tallies, tallies
        for denied, tally in later.items():
            self._tally(denied, tally.since, tally.cause).add(tally)

    def increments(self) -> list[Increment]:
        """What telemetry has not got yet. Each is returned once."""
        summed, self._summed = self._summed, 0
        return [Increment(name=SUMMED, labels=(), amount=summed)] if summed else []


def note_denial(connection: HTTPConnection, error: ControlPlaneError) -> None:
    """Counts an answer if it is a denial, and authentication is on."""
    app = connection.scope.get("app")
    if error.status in _DENIED and app is not None:
        denials: Denials | None = app.state.denials
        if denials is not None:
            denials.note(connection, error)


def _trace(connection: HTTPConnection) -> str:
    return str(connection.scope.get("state", {}).get("trace_id", ""))
