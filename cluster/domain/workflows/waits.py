"""What a step waits for that is no task: a signal, or a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cluster.domain.base.errors import ControlPlaneError

#: Of a sleep, and of the wait for a signal.
MOST_WAIT_S: Final = 366 * 86400.0
#: Characters of JSON of the value of a signal, and of all that a run was sent.
MOST_SIGNAL_CHARS: Final = 65_536
MOST_SIGNALS_CHARS: Final = 1_000_000


class NoTime(ControlPlaneError):
    """What a sleep got says no time; the text says why."""

    default_code = "not_a_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """``timeout_s``: how long it is waited for, None for ever. ``default``: the step's result if it has not come by then; the
    step fails if it has none."""

    name: str
    timeout_s: float | None = None
    has_default: bool = False
    default: Any = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Signal:
        return cls(
            name=given["name"],
            timeout_s=given.get("timeout_seconds"),
            has_default="default" in given,
            default=given.get("default"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """``length`` is of seconds, or else a time; a template of either."""

    length: Any
    is_seconds: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Sleep:
        is_seconds = given.get("seconds") is not None
        return cls(length=given["seconds" if is_seconds else "until"], is_seconds=is_seconds)

    def ends_at(self, value: Any, now: float) -> float:
        """When it ends, in epoch seconds. ``value``: what its template has become.

        Raises: `NoTime` if that is neither a number nor, for a time, a text of RFC 3339; or is too far away."""
        at = self._end(value, now)
        if at - now > MOST_WAIT_S:
            raise NoTime(f"A sleep must not be longer than {MOST_WAIT_S:,.0f} seconds; sleep less.")
        return at

    def check(self, value: Any) -> None:
        """Raises: `NoTime` if its template, which is without references, becomes none."""
        self._end(value, 0.0)

    def _end(self, value: Any, now: float) -> float:
        return now + _number(value, "seconds") if self.is_seconds else _time(value)


def _number(value: Any, name: str) -> float:
    """Raises: `NoTime` if the value is not a number from 0."""
    # A bool is an int to Python, and a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise NoTime(f"{name} of the sleep must become a number from 0.")
    return float(min(value, 1e12))


def _time(value: Any) -> float:
    """Raises: `NoTime` if the value says no time."""
    if not isinstance(value, str):
        return _number(value, "until")
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is not None:
            return max(0.0, at.timestamp())  # before 1970 is as much over as then, and no epoch seconds are negative
    except (ValueError, OverflowError):
        pass
    raise NoTime("until of the sleep must become a time with its zone, such as 2027-01-31T06:00:00Z.")
