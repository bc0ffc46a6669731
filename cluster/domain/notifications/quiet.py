"""Quiet hours: times of day, in a time zone, in which events are gathered instead of told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from cluster.domain.base.zones import zone
from cluster.domain.notifications.events import Severity

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: Quiet hours of so many days in a row have an end.
_MOST_IN_A_ROW: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """From ``start`` until ``end`` (minutes of the day by the zone's clock; the next day's if it is not later), beginning on
    ``days`` (0 is Monday). Events that are at least as grave as ``unless`` are told all the same."""

    start: int
    end: int
    timezone: str = "UTC"
    days: tuple[int, ...] = tuple(range(7))
    unless: Severity = Severity.CRITICAL

    def until(self, at: float) -> float | None:
        """When the quiet time that holds ``at`` ends (epoch seconds); None if it is none.

        Times that adjoin are one. Quiet hours without end, such as every day around the clock, end after eight days."""
        end = self._end(at)
        for _ in range(_MOST_IN_A_ROW - 1):
            following = None if end is None else self._end(end)
            if following is None:
                break
            end = following
        return end

    def _end(self, at: float) -> float | None:
        today = datetime.fromtimestamp(at, zone(self.timezone)).date()
        for day in (today, today - timedelta(days=1)):
            if day.weekday() not in self.days:
                continue
            last = day if self.end > self.start else day + timedelta(days=1)
            start, end = (
                datetime.combine(date, time(*divmod(minutes, 60)), zone(self.timezone)).timestamp()
                for date, minutes in ((day, self.start), (last, self.end))
            )
            if start <= at < end:
                return end
        return None

    def to_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return {
            "start": _text(self.start),
            "end": _text(self.end),
            "timezone": self.timezone,
            "days": [DAYS[day] for day in self.days],
            "unless": self.unless.value,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> QuietHours:
        return QuietHours(
            start=minutes_of(data["start"]),
            end=minutes_of(data["end"]),
            timezone=data["timezone"],
            days=tuple(DAYS.index(day) for day in data["days"]),
            unless=Severity(data["unless"]),
        )


def minutes_of(text: str) -> int:
    """The minute of the day of a time as ``HH:MM``."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
