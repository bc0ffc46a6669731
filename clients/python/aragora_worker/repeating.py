"""Calls that are repeated until the control plane has taken or refused them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from aragora_worker.base.errors import CallerError
from aragora_worker.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait before a call is repeated: ``first_s``, doubled each time up to ``most_s``. Up to half of it is taken off
    at random, so that clients that met the same fault do not return in the same moment. A longer wait that the server asks
    for is respected up to ``asked_most_s``, since a proxy in maintenance may ask for hours."""

    first_s: float = 0.2
    most_s: float = 5.0
    asked_most_s: float = 30.0


DEFAULT_PATIENCE = Patience()


@dataclass(slots=True)
class RetryDelays:
    """The delays between repeats of a call. `reset` after a success."""

    patience: Patience
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts again with the first delay."""
        self._next_s = self.patience.first_s

    def next_s(self, error: BaseException) -> float:
        """The delay after this error; the next one will be longer."""
        return max(self.next_parts_s(error))

    def next_parts_s(self, error: BaseException) -> tuple[float, float]:
        """The same in its parts: the delay of its own, and the wait that the server asks for."""
        wait_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self.patience.most_s, self._next_s * 2)
        asked_s = error.wait_s if isinstance(error, Unavailable) else 0.0
        return wait_s, min(asked_s, self.patience.asked_most_s)


def _silent(error: Exception, pause_s: float) -> None:
    """Nobody is told."""


async def until_taken(
    call: Callable[[], Awaitable[T]],
    delays: RetryDelays,
    *,
    failed: Callable[[Exception, float], None] = _silent,
    over: type[Exception] = Exception,
) -> T:
    """Makes a call, again and again after errors of the class ``over``, until it is taken or refused; returns its answer.
    ``failed`` is told of each such error and the pause (seconds) that follows; what it raises ends the repeating.

    Raises: `CallerError` if the call is refused, what is no ``over``, and what ``failed`` raises."""
    while True:
        try:
            answer = await call()
        except CallerError:
            raise
        except over as error:
            pause_s = delays.next_s(error)
            failed(error, pause_s)
            await asyncio.sleep(pause_s)
        else:
            delays.reset()
            return answer
