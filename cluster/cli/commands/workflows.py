"""``aragora-cp workflows``: documents of steps, and runs of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_fields, json_option, path_segment, print_json
from cluster.cli.connection import client, settings
from cluster.cli.exit_codes import TASK_CANCELLED, TASK_FAILED
from cluster.cli.output import console, errors, listing, on_one_line, plain, utc
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import check_json

app = typer.Typer(no_args_is_help=True, help="Workflows: documents of steps, and runs of them.")

#: How a run that was waited for has ended → the exit code.
_ENDS = {"completed": 0, "failed": TASK_FAILED, "cancelled": TASK_CANCELLED}
#: Bytes of a file: more than any document may have.
MOST_BYTES = 4_000_000
#: What PyYAML lets through of values that are not what they look or claim to be (``2026-13-01``, ``!!bool x``, 5,000 digits).
_UNREADABLE = (RecursionError, ValueError, LookupError, AttributeError, TypeError)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A document, in YAML or JSON; - reads standard input.")],
    as_json: Json = False,
) -> None:
    """Store a document as the next version of its workflow; the same document again is no new version."""
    applied = call("POST", "/workflows", _document(file))
    if as_json:
        print_json(applied)
    else:
        console.print(f"{plain(applied['name'])} version {applied['version']}")


def _document(file: Path) -> Any:
    """Raises: `BadParameter` if the file holds neither YAML nor JSON that could be a document."""
    import yaml

    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source:
        text = source.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise typer.BadParameter(f"{file} has more than {MOST_BYTES:,} bytes; give large values as input of the run.")
    try:
        document = yaml.safe_load(text)  # JSON is YAML
        check_json(document, "the document")
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None
    except (yaml.YAMLError, *_UNREADABLE) as error:
        raise typer.BadParameter(f"{file} is neither YAML nor JSON: {on_one_line(str(error))}") from None
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{file} must hold one document with name and steps.")
    return document


@app.command("list")
def list_workflows(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List workflows by name, each in its newest version."""
    found = call("GET", "/workflows", limit=limit, offset=offset)
    if as_json:
        print_json(found)
        return
    rows = (
        (workflow["name"], str(workflow["version"]), utc(workflow["created_at"]), " ".join(workflow["steps"]))
        for workflow in found["workflows"]
    )
    listing(("workflow", "version", "applied (UTC)", "steps"), rows)


@app.command()
def show(name: str, version: Annotated[int | None, typer.Option(min=1)] = None) -> None:
    """Print a workflow as JSON."""
    print_json(call("GET", f"/workflows/{path_segment(name)}", version=version))


@app.command()
def delete(name: str) -> None:
    """Delete all versions of a workflow; its runs stay."""
    call("DELETE", f"/workflows/{path_segment(name)}")
    console.print(f"Deleted {plain(name)}.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of documents."""
    print_json(call("GET", "/workflow-schema")["schema"])


@app.command()
def run(
    name: str,
    input_: Annotated[str | None, typer.Option("--input", help="JSON; what references to input stand for.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Of the workflow; the newest if left out.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object, of each task of the run.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; the exit code says how it ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run as JSON, with --wait with results.")] = False,
) -> None:
    """Start a run and print its id."""
    path_segment(name)
    body = given(version=version) | json_fields(metadata=("--metadata", metadata), input=("--input", input_))
    _print_started(asyncio.run(_started(name, body, key)), wait, as_json)


def _print_started(started: Mapping[str, Any], wait: bool, as_json: bool) -> None:
    if wait:
        errors.print(plain(started["run_id"]))
        _print_end(started["run_id"], as_json)
    elif as_json:
        print_json(started)
    else:
        console.print(plain(started["run_id"]))


async def _started(name: str, body: Mapping[str, Any], key: str | None) -> Mapping[str, Any]:
    async with client(settings()) as api:
        return await api.start_run(name, **body, idempotency_key=key)


@app.command("wait")
def wait_(run_id: str, as_json: Json = False) -> None:
    """Wait for the end of a run; the exit code says how it ended."""
    path_segment(run_id)
    _print_end(run_id, as_json)


def _print_end(run_id: str, as_json: bool) -> None:
    """Prints the states of the steps on stderr until the run has ended, then the run on stdout."""
    ended = asyncio.run(_end_of(run_id))
    if as_json:
        print_json(ended)
    else:
        _print_run(ended)
    raise typer.Exit(_ENDS[ended["status"]])


async def _end_of(run_id: str) -> Mapping[str, Any]:
    async with client(settings()) as api:
        async with aclosing(api.run_states(run_id)) as states:
            async for state in states:
                steps = (f"{step['id']} {step['status']}{_of(step)}" for step in state["steps"])
                errors.print(plain(on_one_line(f"{state['status']}: {', '.join(steps)}")))
        found: Mapping[str, Any] = await api.get(f"/workflow-runs/{run_id}", results=True)
    return found


def _of(step: Mapping[str, Any]) -> str:
    total = step["tasks"]
    return f" {step['started'] - step['open']}/{total}" if total not in (None, 1) else ""


@app.command()
def status(run_id: str, as_json: Json = False) -> None:
    """Show how far a run is; with --json with the results of its steps."""
    found = call("GET", f"/workflow-runs/{path_segment(run_id)}", results=as_json)
    if as_json:
        print_json(found)
    else:
        _print_run(found)


def _print_run(run: Mapping[str, Any]) -> None:
    console.print(
        f"{plain(run['run_id'])} of {plain(run['workflow'])} version {run['version']}: {plain(run['status'])}"
    )
    rows = (
        (
            step["id"],
            step["status"],
            "-" if step["tasks"] is None else f"{step['started'] - step['open']}/{step['tasks']}",
            str(step["failed"]),
            step["code"] or "",
            step["reason"] or (_short(step["result"]) if "result" in step and step["status"] == "completed" else ""),
        )
        for step in run["steps"]
    )
    listing(("step", "status", "ended", "failed", "code", "result or reason"), rows)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


@app.command()
def runs(
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    status: Annotated[
        str | None, typer.Option(help="running, failing, cancelling, completed, failed, cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    found = call("GET", "/workflow-runs", workflow=workflow, status=status, limit=limit, offset=offset)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            run["run_id"],
            run["workflow"],
            str(run["version"]),
            run["status"],
            utc(run["created_at"]),
            utc(run["ended_at"]),
        )
        for run in found["runs"]
    )
    listing(("run", "workflow", "version", "status", "started (UTC)", "ended (UTC)"), rows)


@app.command()
def cancel(run_id: str) -> None:
    """Cancel a run: nothing starts any more, and its open tasks are cancelled."""
    call("POST", f"/workflow-runs/{path_segment(run_id)}/cancel")
    console.print(f"Run {plain(run_id)} is being cancelled.")


@app.command()
def replay(
    run_id: str,
    from_: Annotated[str | None, typer.Option("--from", help="The step to run anew, with what comes after it.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; the exit code says how it ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run as JSON, with --wait with results.")] = False,
) -> None:
    """Start a run that keeps what an ended run has done, but for what did not complete; print its id."""
    path_segment(run_id)
    _print_started(asyncio.run(_replayed(run_id, from_, key)), wait, as_json)


async def _replayed(run_id: str, from_step: str | None, key: str | None) -> Mapping[str, Any]:
    async with client(settings()) as api:
        return await api.replay_run(run_id, from_step, idempotency_key=key)


@app.command()
def signal(
    run_id: str,
    name: Annotated[str, typer.Argument(help="Of the signal.")],
    value: Annotated[str, typer.Option(help="Its value as JSON: the result of the steps that wait for it.")] = "null",
) -> None:
    """Send a run a signal; the same value again changes nothing."""
    path = f"/workflow-runs/{path_segment(run_id)}/signals/{path_segment(name)}"
    call("POST", path, {"value": json_option(value, "--value")})
    console.print(f"Sent {plain(name)} to run {plain(run_id)}.")
