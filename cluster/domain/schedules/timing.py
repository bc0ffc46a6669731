"""When runs are due: cron in a time zone, or an interval. Times are whole epoch seconds, so that one has one text in any zone.

cronsim reads the expressions. What it does in its own way is met here: it takes six fields, knows no aliases, from inside an hour
that is repeated as summer time ends it may answer with a time before the one that it was asked about, and across changes by half
an hour it loses runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.zones import check_zone, zone

#: The smallest and the largest interval.
LEAST_EVERY_S: Final = 10
MOST_EVERY_S: Final = 366 * 86_400
_MOST_CHARS: Final = 256
#: No clock is changed by as much, so beyond it a change concerns nobody.
_NEAR_S: Final = 3 * 3600
_ALIASES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """``expression`` has five fields; aliases are expanded. Make it with `cron`, which checks both."""

    expression: str
    timezone: str

    def next_after(self, at: float) -> int | None:
        """The first due time (epoch seconds) after ``at``; None if there is none within cronsim's horizon of some decades."""
        return self._shown_after(at) if self._is_wildcard else self._named_after(at)

    @property
    def _is_wildcard(self) -> bool:
        """Whether runs go by what the clock shows, as cron has it. Others are due once a day at each of their times."""
        minute, hour = self.expression.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def _named_after(self, at: float) -> int | None:
        """Each time of day once: the first one of a repeated hour, and when the clock leaps over it, the time after the leap."""
        for moment in CronSim(self.expression, datetime.fromtimestamp(math.floor(at), zone(self.timezone))):
            due = int(moment.timestamp())
            if due > at:
                return due
        return None

    def _shown_after(self, at: float) -> int | None:
        """The first minute after ``at`` at which the zone's clock shows what matches. cronsim is asked about clocks that never
        change: across a change it counts whole hours, and loses runs if the change is by half an hour (Lord Howe)."""
        while True:
            wall, offset = self._clock(at)
            if self._clock(at + _NEAR_S)[1] != offset:
                due = self._first_shown(at, at + _NEAR_S)
                if due is not None:
                    return due
                at += _NEAR_S
                continue
            matching = next(CronSim(self.expression, wall), None)
            if matching is None:
                return None
            found = math.floor(at) + int((matching - wall).total_seconds())
            if self._clock(found)[1] == offset:
                return found
            due = self._first_shown(max(at, found - _NEAR_S), found + _NEAR_S)
            if due is not None:
                return due
            at = found + _NEAR_S

    def _clock(self, at: float) -> tuple[datetime, timedelta | None]:
        """What the zone's clock shows, and how far it is ahead of UTC."""
        local = datetime.fromtimestamp(math.floor(at), zone(self.timezone))
        return local.replace(tzinfo=None, fold=0), local.utcoffset()

    def _first_shown(self, after: float, until: float) -> int | None:
        """The same by looking at each minute, as is right near a change of the clock."""
        for minute in range(math.floor(after / 60) * 60 + 60, math.floor(until) + 1, 60):
            wall, _ = self._clock(minute)
            if next(CronSim(self.expression, wall - timedelta(seconds=1)), None) == wall:
                return minute
        return None

    def to_json(self) -> dict[str, Any]:
        return {"cron": self.expression, "timezone": self.timezone}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Every ``every_s`` seconds, counted from ``anchor`` (epoch seconds). Make it with `interval`, which checks the length."""

    every_s: int
    anchor: int

    def next_after(self, at: float) -> int:
        """The first due time (epoch seconds) after ``at`` that is not before the anchor."""
        passed = math.floor((at - self.anchor) / self.every_s) + 1
        return self.anchor + max(0, passed) * self.every_s

    def to_json(self) -> dict[str, Any]:
        return {"every_seconds": self.every_s, "anchor": self.anchor}


Timing = Cron | Interval


def cron(expression: str, timezone: str) -> Cron:
    """A cron expression that was checked, in a time zone of the IANA database.

    Raises: `InvalidRequest` if the zone is not known, or the expression has not five fields, names no possible date, or
    restricts both day of month and day of week (of which cron knows two meanings)."""
    check_zone(timezone)
    given = expression.strip()
    text = _ALIASES.get(given.lower(), given)
    fields = text.split()
    if given.startswith("@") and text is given:
        raise _invalid(f"{_shown(given)} is no alias; use one of {', '.join(_ALIASES)}, or five fields.")
    if len(fields) != 5 or len(text) > _MOST_CHARS:
        raise _invalid(
            f"cron needs five fields (minute, hour, day of month, month, day of week) in at most {_MOST_CHARS} characters; "
            f"it has {len(fields)}. For seconds use every_seconds."
        )
    if fields[2] != "*" and fields[4] != "*":
        raise _invalid(
            "cron must not restrict both day of month and day of week, which programs read in two ways; make one of them *. "
            "The first Monday of a month is 0 0 * * MON#1."
        )
    try:
        CronSim(text, datetime.fromtimestamp(0, ZoneInfo("UTC")))
    except CronSimError as error:
        why = str(error).removeprefix("Bad ")
        raise _invalid(
            f"cron {_shown(text)} has a {why} that no date has or that cannot be read; correct it."
        ) from None
    return Cron(expression=" ".join(fields), timezone=timezone)


def interval(every_s: int, anchor: int) -> Interval:
    """An interval that was checked.

    Raises: `InvalidRequest` if it is shorter than ``LEAST_EVERY_S`` or longer than ``MOST_EVERY_S``."""
    if not LEAST_EVERY_S <= every_s <= MOST_EVERY_S:
        raise _invalid(f"every_seconds must be between {LEAST_EVERY_S} and {MOST_EVERY_S}.")
    return Interval(every_s=every_s, anchor=anchor)


def timing_from_json(data: Mapping[str, Any]) -> Timing:
    """The timing of what ``to_json`` made, which was checked before it was stored."""
    if "cron" in data:
        return Cron(expression=data["cron"], timezone=data["timezone"])
    return Interval(every_s=data["every_seconds"], anchor=data["anchor"])


def _shown(text: str) -> str:
    return repr(text[:64])


def _invalid(sentence: str) -> InvalidRequest:
    return InvalidRequest(sentence, "invalid_schedule")
