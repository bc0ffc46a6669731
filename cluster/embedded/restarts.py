"""Starts embedded stores again that have died: with a bound on how often, and without waiting, so that ``up`` can be stopped at
any moment meanwhile.

Nothing that was acknowledged is lost with PostgreSQL: it recovers from its own log when it starts. While it does, the calls that
need it are answered 503 with Retry-After.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.processes import ProcessId, end, session_members, tail
from cluster.embedded.readiness import RECOVERY_S, Readiness

#: A store that dies so many times within this time is not started again: each start would end as the others did.
MOST_DEATHS: Final = 5
WITHIN_S: Final = 300.0
#: How long a start may be silent before it counts as failed, as when ``up`` itself starts.
SILENT_S: Final = 60.0


class Restartable(Protocol):
    """An embedded store."""

    log: Path
    process: ProcessId | None

    def begin(self) -> ProcessId:
        """Starts a server in the place of one that has died, and does not wait until it answers."""

    def readiness(self) -> Readiness:
        """Whether the server answers now."""


#: Notes the process of a store that has been started again.
Note = Callable[[str, ProcessId], None]


@dataclass(kw_only=True)
class StoreWatch:
    """Watches one store. ``name`` is what run.json calls its process, ``title`` what people call it."""

    name: str
    title: str
    store: Restartable
    note: Note
    now: Callable[[], float] = time.monotonic
    #: When the store died, within the last ``WITHIN_S``, oldest first. ``look`` adds and drops.
    _deaths: list[float] = field(default_factory=list)
    #: Since when the store has been starting, and until when it may be silent; None while it serves.
    _starting: tuple[float, float] | None = None

    def look(self) -> Iterator[str]:
        """What there is to say: that the store has died and is started again, or that it answers again.

        Raises: `EmbeddedError` if it has died too often."""
        process = self.store.process
        assert process is not None
        if not process.alive():
            yield from self._start_again(process)
        elif self._starting is not None:
            yield from self._wait(process, *self._starting)

    def _start_again(self, dead: ProcessId) -> Iterator[str]:
        now = self.now()
        end([dead])  # takes its exit status, since other programs take a zombie for a living process
        self._deaths = [at for at in self._deaths if now - at < WITHIN_S] + [now]
        if len(self._deaths) >= MOST_DEATHS:
            log = self.store.log
            raise EmbeddedError(
                f"{self.title} has died {len(self._deaths)} times in {WITHIN_S / 60:g} minutes, and is not started again: "
                f"{tail(log)} (log: {log})."
            )
        since = self._starting[0] if self._starting is not None else now
        self._starting = (since, now + SILENT_S)
        yield f"{self.title} (process {dead.pid}) has died. It is started again; log: {self.store.log}."
        self.note(self.name, self.store.begin())

    def _wait(self, process: ProcessId, since: float, until: float) -> Iterator[str]:
        readiness, now = self.store.readiness(), self.now()
        if readiness is Readiness.READY:
            self._starting = None
            yield f"{self.title} (process {process.pid}) answers again, after {now - since:.1f} s."
        elif readiness is Readiness.RECOVERING:
            self._starting = (since, max(until, since + RECOVERY_S))
        if readiness is not Readiness.READY and now > until:
            end(session_members(process) or [process])  # the next look finds it dead, and counts it
