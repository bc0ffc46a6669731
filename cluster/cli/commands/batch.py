"""``aragora-cp batch``: many questions from a file; ``python -m cluster.batch`` is the same.

Exit codes of ``run``: 0 every item was asked and has ended (the table says how), 1 an item was refused or failed or a
skipped line is no item, 2 wrong usage (bad lines included, unless they are skipped), 4 the control plane no longer answered,
130 interrupted. After 4, 130 or any kill, ``--resume`` continues the batch.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from cluster.cli.calls import path_segment
from cluster.cli.connection import client, client_settings, ray_variables, running_system, settings
from cluster.cli.exit_codes import REFUSED, USAGE
from cluster.cli.numbers import amount
from cluster.cli.output import console, errors, plain
from cluster.cli.uniform import print_json
from cluster.client.batches.driver import BatchLimits, Driver, Entry
from cluster.client.batches.items import BadLine, Item, read_items, schema
from cluster.client.batches.output import Output, opened
from cluster.client.batches.progress import ENDED, Pace, progress, summary_json, summary_table
from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import ControlPlaneError, TryLater

app = typer.Typer(no_args_is_help=True, help="Many questions from a file, resumable.")

SHOWN_BAD_LINES = 20
#: Where `ray job` looks for the dashboard's URL, in its order.
_RAY_NAMES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class BadLines(StrEnum):
    FAIL = "fail"
    SKIP = "skip"


Input = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON lines; see `aragora-cp batch schema`.")]
Out = Annotated[
    Path, typer.Option(help="Output: JSON lines, one per finished item, in the order in which they finish.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an output that exists.")]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Items that are asked at once.")]
Bad = Annotated[
    BadLines,
    typer.Option(help="fail: ask nothing if a line is no item. skip: write it to the output as invalid."),
]
Run = Annotated[
    str, typer.Option("--run", help="Name of the run; under another name the same questions are asked again.")
]
Patience = Annotated[float, amount("Seconds for which a call without an answer is repeated.")]


@app.command("schema")
def print_schema() -> None:
    """Print the JSON schema of a line of the input."""
    print_json(schema())


@app.command()
def run(
    input: Input,
    out: Out,
    resume: Resume = False,
    concurrency: Concurrency = 32,
    bad_lines: Bad = BadLines.FAIL,
    run_name: Run = "",
    patience: Patience = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Ask every item of a file. After a kill, --resume continues and asks nothing twice.

    \f
    Raises: `Exit` if an item did not end well, `KeyboardInterrupt` if SIGTERM or Ctrl-C ended it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the signal of `ray job stop`
    total = _checked(input, run_name, bad_lines)
    with opened(out, resume) as output:
        if output.torn:
            errors.print(f"The last line of {plain(str(out))} was torn; its item is asked again.")
        pace = Pace(total, output.summary.items)
        _say_id(input, out, run_name)
        try:
            asyncio.run(
                _drive(input, run_name, output, pace, BatchLimits(concurrency=concurrency, patience_s=patience))
            )
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            _summarize(output, pace, as_json)
    if set(output.summary.by_status) - ENDED:
        raise typer.Exit(REFUSED)


def _summarize(output: Output, pace: Pace, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary_json(output.summary, pace)))
    else:
        console.print(summary_table(output.summary, pace))


def _checked(path: Path, run_name: str, bad_lines: BadLines) -> int:
    """The number of items in a file. It is read, and its bad lines are printed, before anything is asked."""
    bad, total = 0, 0
    with path.open("rb") as file:
        for item in read_items(file, run_name):
            total += 1
            if isinstance(item, BadLine):
                bad += 1
                if bad <= SHOWN_BAD_LINES:
                    errors.print(f"{plain(str(path))}, line {item.line}: {plain(item.problem)}")
    if bad > SHOWN_BAD_LINES:
        errors.print(f"... and {bad - SHOWN_BAD_LINES} more")
    if bad and bad_lines is BadLines.FAIL:
        errors.print(f"{bad} of {total} lines are no items; nothing was asked. Use --bad-lines skip to leave them out.")
        raise typer.Exit(USAGE)
    return total


async def _drive(path: Path, run_name: str, output: Output, pace: Pace, limits: BatchLimits) -> None:
    # Cancel the driver, as asyncio does for Ctrl-C (which a script's background process ignores). A handler that raises was
    # rejected: its exception would hit whatever code runs at that moment.
    driver = asyncio.current_task()
    assert driver is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, driver.cancel)
    with path.open("rb") as file, progress(errors, pace) as shown:

        def finished(entry: Entry) -> None:
            output.write(entry)
            shown(str(entry["status"]))

        def items() -> Iterator[Item]:
            for item in read_items(file, run_name):
                if output.take(item.key):
                    continue
                if isinstance(item, BadLine):
                    finished(_invalid(item))
                else:
                    yield item

        async with client(client_settings()) as api:
            await Driver(api, limits, finished).run(items())


def _invalid(bad: BadLine) -> Entry:
    return {"line": bad.line, "id": None, "key": bad.key, "status": "invalid", "error": bad.problem, "result": None}


# --- as a Ray job -----------------------------------------------------------------------------------------------------


def submission_id(input: Path, out: Path, run_name: str) -> str:
    """The id of the batch as a Ray job. The same questions, output and run give the same id, and Ray runs an id once."""
    digest = hashlib.sha256(input.read_bytes()).hexdigest()
    return f"aragora-batch-{canonical_sha256({'input': digest, 'out': str(out.absolute()), 'run': run_name})[:16]}"


def _say_id(input: Path, out: Path, run_name: str) -> None:
    errors.print(f"As a Ray job: ray job submit --submission-id {submission_id(input, out, run_name)} -- ...")


@app.command()
def submit(
    input: Input,
    out: Out,
    concurrency: Concurrency = 32,
    bad_lines: Bad = BadLines.FAIL,
    run_name: Run = "",
    only_print: Annotated[bool, typer.Option("--print", help="Print the command and leave it to you.")] = False,
) -> None:
    """Run the batch as a Ray job, under an id that is made of input, output and run.

    If a job of that id runs, its log is followed; if one has ended, a new one replaces it and continues the batch.

    \f
    Raises: `Exit` if a line is no item, `EmbeddedError` if no system runs here, `ControlPlaneError` if RAY_ADDRESS is not
    the dashboard's URL, `TryLater` if the dashboard does not answer.
    """
    _checked(input, run_name, bad_lines)
    job = submission_id(input, out, run_name)
    entrypoint = ["python", "-m", "cluster.batch", "run", str(input.absolute()), "--out", str(out.absolute())]
    entrypoint += ["--resume", "--concurrency", str(concurrency), "--bad-lines", bad_lines.value]
    entrypoint += ["--run", run_name] if run_name else []
    command = ["ray", "job", "submit", "--submission-id", job, "--", *entrypoint]
    if only_print:
        typer.echo(shlex.join(command))
        return
    named = any(name in os.environ for name in _RAY_NAMES)  # noqa: TID251 - Ray's own names
    found = {} if named else ray_variables(running_system(settings()))
    environment = {**os.environ, **found}  # noqa: TID251 - a child inherits it
    if _forget_or_find(environment, job):
        command = ["ray", "job", "logs", "--follow", job]
    ray = str(Path(sys.executable).with_name("ray"))
    os.execve(ray, command, environment)


def _forget_or_find(environment: dict[str, str], job: str) -> bool:
    """Whether a job of this id runs. A job that has ended is deleted, because Ray runs an id once."""
    address = next((environment[name] for name in _RAY_NAMES if environment.get(name)), "")
    if not address.startswith(("http://", "https://")):
        raise ControlPlaneError('RAY_API_SERVER_ADDRESS must be the dashboard\'s URL: eval "$(aragora-cp env)".')
    with httpx.Client(base_url=address, headers=_bearer(environment), timeout=10) as http:
        try:
            found = http.get(f"/api/jobs/{path_segment(job)}")
            if found.status_code == 404:
                return False
            status: dict[str, Any] = found.raise_for_status().json()
            if status["status"] in ("PENDING", "RUNNING"):
                return True
            http.delete(f"/api/jobs/{path_segment(job)}").raise_for_status()
        except httpx.HTTPError as error:
            raise TryLater(f"Ray's dashboard at {address} does not answer: {error}.") from error
    return False


def _bearer(environment: dict[str, str]) -> dict[str, str]:
    path = environment.get("RAY_AUTH_TOKEN_PATH")
    token = Path(path).read_text().strip() if path else environment.get("RAY_AUTH_TOKEN", "")
    return {"Authorization": f"Bearer {token}"} if token else {}
