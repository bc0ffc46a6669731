"""When API keys were last used: noted in memory by each call, and written in batches, since no call waits for that."""

from __future__ import annotations

import contextlib

from cluster.domain.base.errors import TryLater
from cluster.ports.access import AccessStore
from cluster.ports.clock import Clock

WRITE_S = 30.0


class KeyUses:
    """The uses that are not written yet, one for each key."""

    def __init__(self, store: AccessStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._uses: dict[str, float] = {}

    def note(self, key_id: str, at: float) -> None:
        self._uses[key_id] = at

    async def run(self) -> None:
        while True:
            await self._clock.sleep(WRITE_S)
            with contextlib.suppress(TryLater):
                await self.write()

    async def write(self) -> None:
        """Writes what was noted. If that fails it is noted again, unless a key was used once more meanwhile.

        Raises: `TryLater` if the store does not answer."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._store.used(sorted(uses.items()))
        except TryLater:
            self._uses = {**uses, **self._uses}
            raise
