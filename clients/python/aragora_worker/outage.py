"""What a worker says while its control plane is away or refuses calls: a line when that begins and when it is over, and at most
one a minute in between. Each of its loops tries again every few seconds, and a line per try would be thousands in a night."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from aragora_worker.base.errors import CallerError, ControlPlaneError

_logger = logging.getLogger(__name__)

#: Refusals that end by themselves or by somebody else's doing. Any other 401 or 403 says that the worker can never work.
PASSING: Final = frozenset({"workspace_suspended"})
AWAY: Final = "is away"
REFUSES: Final = "refuses calls"
AGAIN_S: Final = 60.0
#: How many beginnings are said within ``AGAIN_S``: a proxy may refuse every other call for hours.
MOST_BEGINNINGS: Final = 3


class Outage:
    """What is known about one control plane. ``failed`` and ``answered`` name the kind of call, since claims may fail while
    heartbeats are taken: it is back when every kind that failed has been answered again."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: Kinds of calls that failed when they were made last. The outage lasts while there are some.
        self._failing: set[str] = set()
        self._since = 0.0
        #: What this outage has been (`_state`) → when that was seen first; the state that was seen last is at the end.
        self._states: dict[str, float] = {}
        #: When something was said about this outage last; None if nothing was.
        self._logged_at: float | None = None
        #: When beginnings were said, the last ``MOST_BEGINNINGS``.
        self._beginnings: deque[float] = deque(maxlen=MOST_BEGINNINGS)
        #: Kinds of errors that nobody expected, whose traces were logged in this outage.
        self._traced: set[type[Exception]] = set()

    def failed(self, kind: str, error: Exception) -> None:
        """A call has failed and will be made again."""
        now = self._now()
        if not self._failing:
            self._since, self._logged_at = now, None
            self._states.clear()
            self._traced.clear()
        self._failing.add(kind)
        if not isinstance(error, ControlPlaneError) and type(error) not in self._traced:
            self._traced.add(type(error))
            _logger.error("a call failed unexpectedly: %s", kind, exc_info=error)
        state = _state(error)
        changes = state not in self._states
        self._states[state] = self._states.pop(state, now)
        if self._logged_at is None:
            if len(self._beginnings) < MOST_BEGINNINGS or now - self._beginnings[0] >= AGAIN_S:
                self._beginnings.append(now)
                self._say(now, state, error)
        elif changes:
            self._say(now, f"now {state}", error)
        elif now - self._logged_at >= AGAIN_S:
            self._say(now, f"{state} since {now - self._states[state]:.0f} s", error)

    def _say(self, now: float, what: str, error: Exception) -> None:
        self._logged_at = now
        _logger.warning("the control plane %s, trying again: %s", what, str(error) or type(error).__name__)

    def answered(self, kind: str) -> None:
        """A call was answered."""
        if kind in self._failing:
            self._failing.discard(kind)
            if not self._failing and self._logged_at is not None:
                over = "is back" if next(reversed(self._states)) == AWAY else "takes calls again"
                _logger.warning("the control plane %s, after %.0f s", over, self._now() - self._since)


def _state(error: Exception) -> str:
    """``PASSING``: the worker tries again as if the control plane were away, which it is not."""
    refuses = isinstance(error, CallerError) or (isinstance(error, ControlPlaneError) and error.code in PASSING)
    return REFUSES if refuses else AWAY
