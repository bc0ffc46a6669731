"""What an actor's process says about itself, whatever role it plays: its memory, commits of it that failed, and what the
supervisor has told it about its memory.

Calls of the actor go through here, so that the words about the process are part of the actor's own status.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from actors.failing_commits import increments
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.metrics import Increment
from cluster.telemetry.process_figures import EVERY_S, LoopLag, ProcessFigures

#: Asks the process, not the actor in it.
MEMORY: Final = "process_memory"
#: The calls by which replicas ask how an actor is.
HEALTH: Final = ("status", "alive")
PUSH_S: Final = 2.0
#: Increments that wait for telemetry to come back.
UNSENT_MAX: Final = 1000
#: The figures are sent once in so many turns.
_TURNS: Final = round(EVERY_S / PUSH_S)


class ProcessReport:
    """``read``: the process's memory in bytes. ``failed``: takes the commits that failed since the last call, by class.
    ``figures``: what the process says about itself, given how late its event loop was. ``push`` sends both to telemetry."""

    def __init__(
        self,
        *,
        read: Callable[[], int],
        failed: Callable[[], Mapping[str, int]],
        figures: Callable[[float], ProcessFigures],
        push: Callable[[Sequence[Increment], ProcessFigures | None], Awaitable[None]],
    ) -> None:
        self._read = read
        self._failed = failed
        self._figures = figures
        self._push = push
        self._loop_lag = LoopLag()
        # The supervisor's last words about this process; empty if there is nothing to say.
        self._notice = ""
        # Increments that telemetry has not taken yet.
        self._unsent: list[Increment] = []

    async def call(self, actor: Any, method: str, *args: Any) -> Any:
        """Calls a method of the actor, or of the process itself."""
        if method == MEMORY:
            return self.memory(*args)
        answer = await getattr(actor, method)(*args)
        return self._with_notice(answer) if self._notice and method in HEALTH else answer

    def memory(self, notice: str) -> tuple[int, int]:
        """The process's id and its memory in bytes. ``notice`` is what its status says about it from now on."""
        self._notice = notice
        return os.getpid(), self._read()

    def _with_notice(self, answer: Any) -> dict[str, Any]:
        status = answer if isinstance(answer, dict) else {"alive": answer}
        return status | {"warnings": [*status.get("warnings", ()), self._notice]}

    async def run(self) -> None:
        """Sends what was counted, and now and then how the process is, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._loop_lag.run())
            for turn in itertools.count():
                await self.send(with_figures=turn % _TURNS == 0)
                await asyncio.sleep(PUSH_S)

    async def send(self, *, with_figures: bool = False) -> None:
        """Sends what was counted. What telemetry does not take is sent with the next."""
        sending = (self._unsent + increments(self._failed()))[-UNSENT_MAX:]
        self._unsent = sending
        figures = self._figures(self._loop_lag.take()) if with_figures else None
        if sending or figures is not None:
            with contextlib.suppress(ControlPlaneError):  # a metric is not worth the actor
                await self._push(sending, figures)
                self._unsent = []
