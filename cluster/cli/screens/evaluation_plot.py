"""The plot of an evaluation: accuracy over cost for every panel and mode, and the reliability of confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.evaluation.modes import MAY_DECLINE
from cluster.domain.evaluation.table import EvaluationReport, ModeFigures

_MARKERS = "osD^v*PX<>hp"
_CURVES = ("plurality", "learned", "agree_k", "effort_default")


def draw(report: EvaluationReport, path: Path) -> None:
    """Writes the plot of a report to a file.

    Raises: `InvalidRequest` if matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidRequest(
            "A plot needs matplotlib; install it with `pip install 'aragora-control-plane[plot]'`.", "missing_extra"
        ) from None
    figure: Any = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _accuracy_over_cost(left, report)
    _reliability(right, report)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"The plot cannot be written to {path}: {error}.", "unwritable_file") from None


def _accuracy_over_cost(axes: Any, report: EvaluationReport) -> None:
    """Draws accuracy over cost, without the rules that may decline: their accuracy is over the questions they decide."""
    rows = [row for row in report.rows if row.mode not in MAY_DECLINE]
    priced = bool(rows) and all(row.effort.cost is not None for row in rows)
    markers = dict(zip(dict.fromkeys(row.mode for row in rows), _MARKERS, strict=False))
    for panel in dict.fromkeys(row.panel for row in rows):
        own = [row for row in rows if row.panel == panel]
        best = frontier([(_cost(row, priced), row.accuracy) for row in own])
        (line,) = axes.plot(*zip(*best, strict=True), lw=0.9, drawstyle="steps-post", label=panel)
        for row in own:
            axes.plot(_cost(row, priced), row.accuracy, markers[row.mode], color=line.get_color(), ms=6)
    for mode, marker in markers.items():
        axes.plot([], [], marker, color="grey", label=mode)
    axes.set_xlabel("USD per question" if priced else "calls per question")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy over cost, and its frontier")
    axes.legend(fontsize=7, ncols=2)
    axes.grid(alpha=0.3)


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, accuracy) that no other beats in one without losing in the other, the cheapest first."""
    found: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((cost, accuracy))
    return found


def _cost(row: ModeFigures, priced: bool) -> float:
    return float(row.effort.cost or 0.0) if priced else row.calls_per_question


def _reliability(axes: Any, report: EvaluationReport) -> None:
    """Draws the reliability curve of all panels together, weighted by the number of questions in each bin."""
    axes.plot([0, 1], [0, 1], "--", color="grey", lw=0.8)
    for mode in _CURVES:
        bins: dict[int, list[tuple[float, float, int]]] = {}
        for bin_ in report.reliability:
            if bin_.mode == mode:
                bins.setdefault(round(bin_.confidence * 10), []).append((bin_.confidence, bin_.accuracy, bin_.count))
        points = [_mean(bins[index]) for index in sorted(bins)]
        axes.plot([x for x, _ in points], [y for _, y in points], "o-", ms=4, label=mode)
    axes.set_xlabel("stated confidence")
    axes.set_ylabel("share that was right")
    axes.set_title("Reliability, all panels")
    axes.legend()
    axes.grid(alpha=0.3)


def _mean(points: list[tuple[float, float, int]]) -> tuple[float, float]:
    whole = sum(count for _, _, count in points)
    return sum(x * n for x, _, n in points) / whole, sum(y * n for _, y, n in points) / whole
