"""Whether a figure that was sampled for long grows. Pure.

The slope is the median of the slopes between all pairs of samples (Theil and Sen): up to 29 % of the samples may be
outliers, such as a garbage collection that is late. A least-squares line was rejected because one peak at the end tilts it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIB = 1024.0 * 1024.0
#: Share of the samples at the beginning that are not judged: caches, pools and plans fill.
WARM_UP = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a figure may grow from the end of the warm-up to the end of the run: ``least``, or ``share`` of its median if that
    is more. It is an amount and no rate, because a heap settles and a leak does not: a longer run finds a slower leak."""

    least: float
    share: float = 0.0


#: By what is measured.
TOLERANCES: Mapping[str, Tolerance] = {
    "memory": Tolerance(least=8 * MIB, share=0.08),
    "files": Tolerance(least=6, share=0.1),
    "threads": Tolerance(least=3, share=0.1),
    "tasks": Tolerance(least=10, share=0.2),
    "connections": Tolerance(least=4, share=0.1),
    "disk": Tolerance(least=16 * MIB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """``growth`` is what the slope makes of the judged time; ``allowed`` the most of it that is no growth."""

    figure: str
    what: str
    samples: int
    first: float
    last: float
    growth: float
    allowed: float

    @property
    def grows(self) -> bool:
        return self.growth > self.allowed


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of points (time, value); 0 if there are fewer than two times."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def trend(figure: str, what: str, points: Sequence[tuple[float, float]]) -> Trend:
    """Judges the samples after the warm-up. A figure of a process that came late is judged like any other."""
    judged = points[int(len(points) * WARM_UP) :] or points
    values = [value for _, value in judged]
    tolerance = TOLERANCES[figure]
    return Trend(
        figure=figure,
        what=what,
        samples=len(judged),
        first=values[0],
        last=values[-1],
        growth=slope(judged) * (judged[-1][0] - judged[0][0]),
        allowed=max(tolerance.least, tolerance.share * statistics.median(values)),
    )
