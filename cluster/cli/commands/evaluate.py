"""``aragora-cp evaluate``: figures of every rule on recorded answers, on this machine, without a control plane."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.numbers import finite
from cluster.domain.base.errors import InvalidRequest

if TYPE_CHECKING:  # numpy takes longer to load than most commands take
    from cluster.domain.evaluation.kinds import KindFigures
    from cluster.domain.evaluation.table import EvaluationReport, Gain, ModeFigures
    from cluster.ports.agent_transport import AgentTransport

LOOPBACK = ("127.0.0.0/8",)


@asynccontextmanager
async def loopback_transport() -> AsyncIterator[AgentTransport]:
    """A transport that may call loopback addresses only: the server that replays listens there."""
    from cluster.agent_transports.chat import HttpTransports
    from cluster.learning.recorded_answers import CALL_TIMEOUT_S, MAX_CALLS

    transport = HttpTransports(allowed_networks=LOOPBACK, pool_size=MAX_CALLS, timeout_s=CALL_TIMEOUT_S)
    try:
        yield transport
    finally:
        await transport.close()


def evaluate(
    votes: Annotated[Path | None, typer.Option(help="Recorded votes (JSONL).", exists=True, dir_okay=False)] = None,
    panels: Annotated[Path | None, typer.Option(help="Panels of agents (JSON).", exists=True, dir_okay=False)] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Recorded answers as text, replayed over HTTP by a server of its own.", exists=True, dir_okay=False
        ),
    ] = None,
    panel: Annotated[list[str] | None, typer.Option(help="Only this panel; may be repeated.")] = None,
    prices: Annotated[
        Path | None,
        typer.Option(help="JSON: USD per million tokens by agent (with --replay).", exists=True, dir_okay=False),
    ] = None,
    colluders: Annotated[int, typer.Option(min=0, help="Also measure so many members of each panel colluding.")] = 0,
    owner_cap: Annotated[
        float | None, typer.Option(callback=finite, min=0.05, max=1.0, help="Cap each agent's share of the weight.")
    ] = None,
    by_kind: Annotated[
        bool, typer.Option("--by-kind", help="Also learn weights for each kind of question, and print its figures.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the choice of colluders.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Also write the rows to this CSV file.", dir_okay=False)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write accuracy over calls and the reliability curve (PNG, SVG, PDF).")
    ] = None,
) -> None:
    """Measure accuracy, coverage, calls and calibration of every rule, on votes or on replayed answers.

    \f
    Raises: `BadParameter` if neither --votes and --panels nor --replay are given, `InvalidRequest` if a file cannot be written.
    """
    from cluster.learning.evaluation import as_csv, evaluate_votes
    from cluster.learning.recorded_answers import evaluate_replay

    if replay is not None:
        report = evaluate_replay(
            replay, votes, panels, open_transport=loopback_transport, only=panel or (), prices=prices, seed=seed
        )
    elif votes is not None and panels is not None:
        report = evaluate_votes(
            votes, panels, seed=seed, owner_cap=owner_cap, colluders=colluders, only=panel or (), by_kind=by_kind
        )
    else:
        raise typer.BadParameter("Give --votes FILE and --panels FILE, or --replay FILE.")
    _write(csv_file, as_csv(report.rows))
    if plot is not None:
        from cluster.cli.screens.evaluation_plot import draw  # matplotlib is an extra and slow to import

        draw(report, plot)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show(report)


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error}.", "unwritable_file") from None


def _show(report: EvaluationReport) -> None:
    _print(f"{report.n_calibration} questions to learn from, {report.n_test} to judge by.")
    for name in dict.fromkeys(row.panel for row in report.rows):
        rows = [row for row in report.rows if row.panel == name]
        levels = [level for level in report.agreement if level.panel == name]
        agreement = "; ".join(
            f"{level.level} {level.coverage:.1%} -> {_percent(level.accuracy)} right" for level in levels
        )
        _print("", f"{name} ({rows[0].agents} agents, n = {rows[0].n})", *_rows_table(rows), f"agreement: {agreement}")
    if report.collusion:
        _print("", "Members that answer one wrong option in concert:", *_collusion_table(report))
    for name in dict.fromkeys(row.panel for row in report.kinds):
        kinds = [row for row in report.kinds if row.panel == name]
        _print("", f"{name} by kind of question", *_kinds_table(kinds))
    if report.kinds:
        _print(
            "",
            "Kinds whose confidence is wrong beyond doubt (marked !), of those with enough questions:",
            *_cells(report),
        )
        _print(
            "",
            "weights: own = the kind has earned weights; shared = those of all questions decide, with a confidence of its own;",
            "none = nothing was learned of it. bound: a perfect forecaster's ECE stays under it in 99 of 100 draws.",
            "!: at least 200 questions, and an ECE above the bound by more than .01.",
        )
    _print(
        "",
        "The accuracy of majority, supermajority and unanimous is among the questions that they decide.",
        "In brackets: 95 % intervals, paired bootstrap over questions.",
    )


def _print(*lines: str) -> None:
    for line in lines:
        typer.echo(line)


def _rows_table(rows: Sequence[ModeFigures]) -> list[str]:
    from cluster.domain.evaluation.table import Effort

    measured = any(row.effort != Effort() for row in rows)
    head = ["mode", "accuracy", "coverage", "calls", "of all", "ECE", "Brier", "vs plurality", "vs best single"]
    lines = [[*head, *(("tokens", "USD", "p50 ms", "p95 ms") if measured else ())]]
    for row in rows:
        cells = [
            row.mode if row.applied in (row.mode, "learned") else f"{row.mode} ({row.applied})",
            _percent(row.accuracy),
            _percent(row.coverage),
            f"{row.calls_per_question:.2f}",
            f"{row.calls_share:.0%}",
            _decimals(row.ece, 3),
            _decimals(row.brier, 3),
            _interval(row.vs_plurality),
            _interval(row.vs_best_single),
        ]
        if measured:
            effort = row.effort
            cells += [_decimals(effort.tokens, 0), _decimals(effort.cost, 6)]
            cells += [_decimals(effort.latency_p50_ms, 1), _decimals(effort.latency_p95_ms, 1)]
        lines.append(cells)
    return _columns(lines)


def _collusion_table(report: EvaluationReport) -> list[str]:
    by_kind = any(row.by_kind is not None for row in report.collusion)
    more = ["by kind", "by kind, least", "effort_default"] if by_kind else []
    lines = [["panel", "colluders", "kind", "among", "draws", "plurality", "learned", "learned, least", *more]]
    for row in report.collusion:
        figures = [_percent(row.plurality), _percent(row.learned), _percent(row.learned_least)]
        if by_kind:
            figures += [_percent(row.by_kind), _percent(row.by_kind_least), _percent(row.effort_default)]
        lines.append([row.panel, str(row.colluders), row.kind, row.among, str(row.draws), *figures])
    return _columns(lines)


def _kinds_table(rows: Sequence[KindFigures]) -> list[str]:
    lines = [
        ["kind", "mode", "n", "weights", "accuracy", "vs all questions' weights", "calls", "ECE", "bound", "ECE before"]
    ]
    for row in rows:
        lines.append(
            [
                row.kind,
                row.mode,
                str(row.n),
                row.weights,
                f"{row.accuracy.value:.1%} [{row.accuracy.low:.1%}, {row.accuracy.high:.1%}]",
                f"{row.vs_global.value:+.1%} [{row.vs_global.low:+.1%}, {row.vs_global.high:+.1%}]",
                f"{row.calls.value:.2f} [{row.calls.low:.2f}, {row.calls.high:.2f}]",
                _ece(row),
                _decimals(row.ece_bound, 3),
                _decimals(row.global_ece, 3),
            ]
        )
    return _columns(lines)


def _ece(row: KindFigures) -> str:
    if row.ece is None:
        return "-"
    return f"{'! ' if row.beyond() else ''}{row.ece.value:.3f} [{row.ece.low:.3f}, {row.ece.high:.3f}]"


def _cells(report: EvaluationReport) -> list[str]:
    modes = list(dict.fromkeys(row.mode for row in report.kinds))
    lines = [["panel", *modes]]
    for panel in dict.fromkeys(row.panel for row in report.kinds):
        cells = [panel]
        for mode in modes:
            found = [row.beyond() for row in report.kinds if (row.panel, row.mode) == (panel, mode)]
            held = [beyond for beyond in found if beyond is not None]
            cells.append(f"{sum(held)} of {len(held)}")
        lines.append(cells)
    return _columns(lines)


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines with aligned columns. A rich table was rejected: it fits its columns to the terminal, and a pipe has no
    width."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _interval(gain: Gain) -> str:
    return f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _decimals(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
