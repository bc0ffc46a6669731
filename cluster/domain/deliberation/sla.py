"""Service levels of a deliberation: how much of its time is used up, and which thresholds that has crossed."""

from __future__ import annotations

from enum import StrEnum


class SlaLevel(StrEnum):
    COMPLIANT = "compliant"
    WARNING = "warning"
    CRITICAL = "critical"
    VIOLATED = "violated"


#: (level, share of the time at which it begins), in order.
THRESHOLDS = ((SlaLevel.WARNING, 0.80), (SlaLevel.CRITICAL, 0.95), (SlaLevel.VIOLATED, 1.0))
_ORDER = tuple(SlaLevel)
#: What a level may be early: epoch seconds as floats are exact only to a fraction of a microsecond.
_EPSILON_S = 1e-6


def level_at(elapsed_s: float, timeout_s: float) -> SlaLevel:
    reached = [level for level, share in THRESHOLDS if elapsed_s + _EPSILON_S >= share * timeout_s]
    return reached[-1] if reached else SlaLevel.COMPLIANT


def crossed(before: SlaLevel, elapsed_s: float, timeout_s: float) -> tuple[SlaLevel, ...]:
    """The levels entered since ``before``, also those that were jumped over: each is announced once."""
    now = _ORDER.index(level_at(elapsed_s, timeout_s))
    return _ORDER[_ORDER.index(before) + 1 : now + 1]


def next_crossing_s(before: SlaLevel, timeout_s: float) -> float | None:
    """Seconds after admission at which the next level begins; None after the last."""
    later = [share for level, share in THRESHOLDS if _ORDER.index(level) > _ORDER.index(before)]
    return later[0] * timeout_s if later else None
