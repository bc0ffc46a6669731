"""A whole evaluation from its files: reads and splits the questions, decides them, and returns the figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.evaluation.kinds import evaluate_kinds
from cluster.domain.evaluation.records import AnsweredQuestion, Panel, check_panel, read_panels, read_votes, split
from cluster.domain.evaluation.table import (
    Effort,
    EvaluationReport,
    ModeFigures,
    court_of,
    evaluate_collusion,
    evaluate_panel,
    vote_table_of,
)


def read_questions(path: Path) -> list[AnsweredQuestion]:
    """Raises: ``InvalidRequest`` if the file cannot be read or is not in the format of votes."""
    try:
        with path.open(encoding="utf-8") as file:
            return read_votes(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", "unreadable_file") from None


def read_panel_file(path: Path) -> list[Panel]:
    """Raises: ``InvalidRequest`` if the file cannot be read or names no panels."""
    try:
        return read_panels(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", "unreadable_file") from None


def evaluate(
    calibration: Sequence[AnsweredQuestion],
    test: Sequence[AnsweredQuestion],
    panels: Sequence[Panel],
    *,
    seed: int = 0,
    owner_cap: float | None = None,
    colluders: int = 0,
    by_kind: bool = False,
    efforts: Mapping[str, Mapping[str, Effort]] | None = None,
) -> EvaluationReport:
    """Learns from ``calibration`` and judges on ``test``. ``efforts``: what was measured besides the votes, per panel and
    mode. ``by_kind``: whether the figures of each kind of question are wanted. Raises: ``InvalidRequest`` if there is no test
    question, a panel names an agent without answers, or no question says what kind it is though kinds are wanted."""
    if not test:
        raise InvalidRequest("There is no test question to judge by; give a file with more questions.", "no_outcomes")
    kinds = [question.kind for question in test]
    if by_kind and not any(kinds):
        raise InvalidRequest("No question says what kind it is; give each line its kind as c.", "no_kinds")
    rows, levels, bins, collusion, figures = [], [], [], [], []
    for panel in panels:
        check_panel(panel, test[0].votes)
        court = court_of(panel, calibration, owner_cap, by_kind=by_kind)
        table = vote_table_of(test, panel.agents)
        found = evaluate_panel(panel, court, table, seed=seed, efforts=(efforts or {}).get(panel.name))
        rows += found[0]
        levels += found[1]
        bins += found[2]
        if by_kind:
            figures += evaluate_kinds(panel, court, table, kinds, seed=seed)
        if 0 < colluders < len(panel.agents):
            collusion += evaluate_collusion(panel, calibration, test, colluders, seed=seed, by_kind=by_kind)
    return EvaluationReport(
        n_calibration=len(calibration),
        n_test=len(test),
        rows=tuple(rows),
        agreement=tuple(levels),
        reliability=tuple(bins),
        collusion=tuple(collusion),
        kinds=tuple(figures),
    )


def evaluate_votes(
    votes: Path,
    panels: Path,
    *,
    seed: int = 0,
    owner_cap: float | None = None,
    colluders: int = 0,
    by_kind: bool = False,
    only: Sequence[str] = (),
) -> EvaluationReport:
    """Evaluates the panels of one file on the votes of another. Raises: ``InvalidRequest`` if a file cannot be read, does not
    fit, or has too few questions."""
    calibration, test = split(read_questions(votes))
    return evaluate(
        calibration,
        test,
        chosen_panels(read_panel_file(panels), only),
        seed=seed,
        owner_cap=owner_cap,
        colluders=colluders,
        by_kind=by_kind,
    )


def chosen_panels(panels: Sequence[Panel], only: Sequence[str]) -> list[Panel]:
    """The panels with these names; all if no name is given. Raises: ``InvalidRequest`` if there is no panel of a name."""
    unknown = sorted(set(only) - {panel.name for panel in panels})
    if unknown:
        names = ", ".join(panel.name for panel in panels)
        raise InvalidRequest(f"There is no panel {unknown[0]!r}; the file has {names}.", "unknown_panel")
    return [panel for panel in panels if not only or panel.name in only]


def as_csv(rows: Sequence[ModeFigures]) -> str:
    out = io.StringIO()
    flat = [row.flat() for row in rows]
    writer = csv.DictWriter(out, fieldnames=list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()
