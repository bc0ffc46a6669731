"""``aragora-cp outcomes`` and ``aragora-cp weights``: record right answers, and show the weights learned from them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.calls import path_segment
from cluster.cli.connection import client, client_settings
from cluster.cli.uniform import print_json
from cluster.domain.base.errors import InvalidRequest

if TYPE_CHECKING:  # numpy takes longer to load than most commands take
    from cluster.domain.evaluation.records import AnsweredQuestion

app = typer.Typer(no_args_is_help=True, help="Right answers of questions that agents have answered.")
weights_app = typer.Typer(invoke_without_command=True, help="Weights of agents, learned from outcomes.")

BATCH = 500
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL: outcomes, or recorded votes.")],
    prefix: Annotated[str, typer.Option(help="Put before each id, so that ids of several files differ.")] = "",
    split: Annotated[str, typer.Option(help="Which part of recorded votes: all, calibration or test.")] = "all",
    as_json: Json = False,
) -> None:
    """Import outcomes. A file can be imported again: outcomes that are recorded already stay as they are.

    Lines are {"id", "votes": {agent: answer or null}, "correct", "options"?}, or the format of recorded votes.

    \f
    Raises: `BadParameter` for an unknown --split, `InvalidRequest` if a line is not valid,
    `Exit` if an outcome conflicts with a recorded one.
    """
    if split not in ("all", "calibration", "test"):
        raise typer.BadParameter("--split must be all, calibration or test.")
    outcomes = [{**outcome, "id": prefix + outcome["id"]} for outcome in _read(file, split)]
    if not outcomes:
        raise InvalidRequest(f"{file} holds no outcome; give one JSON object per line.", "no_outcomes")
    counts = asyncio.run(_send(outcomes))
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        typer.echo(", ".join(f"{count} {name}" for name, count in counts.items()))
    if counts["conflict"]:
        raise typer.Exit(1)


async def _send(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = dict.fromkeys(("recorded", "conflict"), 0)
    async with client(client_settings()) as api:
        for start in range(0, len(outcomes), BATCH):
            done = await api.post("/outcomes/batch", {"outcomes": outcomes[start : start + BATCH]})
            for name in counts:
                counts[name] += int(done[name])
    return counts


def _read(file: Path, split: str) -> Iterator[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}.", "unreadable_file") from None
    first = _parsed(next((line for line in lines if line.strip()), ""), 1)
    if "models" in first:
        from cluster.domain.evaluation.records import read_votes

        for question in read_votes(lines):
            if question.complete and split in ("all", _half(question)):
                yield _outcome(question)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            value = _parsed(line, number)
            if not isinstance(value.get("id"), str):
                raise InvalidRequest(f"Line {number} has no id; add one, as a text.", "invalid_outcome")
            yield value


def _half(question: AnsweredQuestion) -> str:
    from cluster.domain.evaluation.records import is_calibration

    return "calibration" if is_calibration(question.id) else "test"


def _outcome(question: AnsweredQuestion) -> dict[str, Any]:
    return {
        "id": question.id,
        "votes": dict(question.votes),
        "correct": question.right,
        "options": list(question.options),
        **({"kind": question.kind} if question.kind is not None else {}),
    }


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f"Line {number} is not a JSON object.", "invalid_outcome")
    return value


# --- weights ----------------------------------------------------------------------------------------------------------


def _fetch(path: str, **params: Any) -> Any:
    async def work() -> Any:
        async with client(client_settings()) as api:
            return await api.get(path, **params)

    return asyncio.run(work())


@weights_app.callback()
def weights(
    context: typer.Context,
    agents: Annotated[str | None, typer.Option(help="The panel whose weights are wanted; separated by commas.")] = None,
    as_json: Json = False,
) -> None:
    """Show the newest snapshot of every panel, or the one that a panel would use."""
    if context.invoked_subcommand is not None:
        return
    found = _fetch("/weights", agents=agents)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not found["snapshots"]:
        typer.echo("Nothing has been learned yet; record outcomes of at least 20 questions.")
    else:
        for snapshot in found["snapshots"]:
            _show(snapshot)


@weights_app.command("show")
def show(
    snapshot_id: Annotated[str, typer.Argument(help="As results and receipts name it.")],
    kind: Annotated[str | None, typer.Option(help="Only what the snapshot holds of this kind of question.")] = None,
) -> None:
    """Print one snapshot as JSON, with its calibration; with --kind what it holds of this kind of question alone.

    \f
    Raises: `InvalidRequest` if it holds nothing of the kind.
    """
    found = _fetch(f"/weights/{path_segment(snapshot_id)}")
    if kind is not None:
        kinds = (found["document"].get("kinds") or {"by_kind": {}})["by_kind"]
        if kind not in kinds:
            names = ", ".join(sorted(kinds)) or "none"
            raise InvalidRequest(
                f"Snapshot {snapshot_id} decides questions of kind {kind!r} as all others; its kinds are: {names}.",
                "unknown_kind",
            )
        found = {"snapshot_id": found["snapshot_id"], "kind": kind, **kinds[kind]}
    print_json(found)


@weights_app.command("alarms")
def alarms(as_json: Json = False) -> None:
    """List agents that now answer much worse or improbably better than before, and pairs whose errors coincide."""
    found = _fetch("/weights/alarms")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for alarm in found["alarms"]:
        typer.echo(
            f"{alarm['kind']}: {', '.join(alarm['agents'])}: {alarm['observed']:.0%} where {alarm['expected']:.0%} "
            f"was expected, over {alarm['outcomes']} outcomes"
        )
    if not found["alarms"]:
        typer.echo("No alarms.")


def _show(snapshot: Mapping[str, Any]) -> None:
    gate = snapshot["gate"]
    typer.echo(
        f"snapshot {snapshot['snapshot_id']} (version {snapshot['version']}, {snapshot['outcomes']} outcomes): "
        f"{gate['choice']} decides, {gate['gain']:+.1%} over plurality (standard error {gate['gain_se']:.1%})"
    )
    width = max(len(agent) for agent in snapshot["agents"])
    typer.echo(f"  {'agent'.ljust(width)}  learned  log-odds  accuracy")
    for agent in sorted(snapshot["agents"], key=lambda agent: -snapshot["learned"][agent]):
        typer.echo(
            f"  {agent.ljust(width)}  {snapshot['learned'][agent]:7.3f}  {snapshot['log_odds'][agent]:8.3f}"
            f"  {snapshot['accuracy'][agent]:8.1%}"
        )
    for kind, found in sorted(snapshot.get("kinds", {}).items()):
        decides = "has weights of its own" if found["earned"] else "is decided as all questions"
        typer.echo(
            f"  kind {kind}: {decides} ({found['outcomes']} outcomes, {found['gain']:+.1%} by its own,"
            f" standard error {found['gain_se']:.1%})"
        )
    for alarm in snapshot["alarms"]:
        typer.echo(f"  alarm when it was made: {alarm['kind']} ({', '.join(alarm['agents'])})")
