"""``aragora-cp hooks``: webhooks of others that start a task or a run of a workflow, or signal one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_fields, path_segment, print_json
from cluster.cli.connection import api_url, client_settings
from cluster.cli.numbers import amount
from cluster.cli.output import console, errors, listing, plain, utc

app = typer.Typer(
    no_args_is_help=True, help="Hooks: signed webhooks of others that start a task or a run, or signal one."
)

Task = Annotated[str | None, typer.Option(help="The task: a body of POST /tasks without its payload, as JSON.")]
Workflow = Annotated[str | None, typer.Option(help="The workflow of which a run starts, instead of --task.")]
Version = Annotated[int | None, typer.Option("--workflow-version", min=1, help="The newest one if left out.")]
Signal = Annotated[
    str | None,
    typer.Option(
        help='The signal instead of --task: {"run_id": …, "name": …} as JSON, with {"from": "body", "path": …}.'
    ),
]
Metadata = Annotated[str | None, typer.Option(help="Of the run, as JSON.")]
Input = Annotated[
    str | None,
    typer.Option(help='Payload or input, as JSON, with {"from": "body", "path": …}; the whole body if left out.'),
]
Rate = Annotated[float | None, amount("Webhooks in a minute; 600 if left out.")]
#: No argument has the secret: other users of the machine see the arguments of every process.
SecretFile = Annotated[
    Path | None,
    typer.Option("--secret-file", help="The secret of a sender that makes its own.", dir_okay=False, exists=True),
]


@app.command()
def create(
    name: str,
    task: Task = None,
    workflow: Workflow = None,
    signal: Signal = None,
    version: Version = None,
    metadata: Metadata = None,
    input: Input = None,
    rate: Rate = None,
    secret_file: SecretFile = None,
    as_json: Json = False,
) -> None:
    """Make a hook. Its secret is printed once, on standard output; the address for the sender on standard error."""
    body = {"name": name, **_fields(task, workflow, signal, version, metadata, input, rate), **_secret(secret_file)}
    _show_secret(call("POST", "/hooks", body), as_json)


@app.command("list")
def list_hooks(as_json: Json = False) -> None:
    """List the hooks of the workspace. No secret is shown."""
    found = call("GET", "/hooks")
    if as_json:
        print_json(found)
        return
    rows = (
        (
            hook["name"],
            "paused" if hook["paused"] else "active",
            _started(hook),
            f"{hook['rate_per_minute']:g}",
            str(len(hook["secrets"])),
            utc(hook["changed_at"]),
            hook["changed_by"],
        )
        for hook in found["hooks"]
    )
    listing(("hook", "state", "starts", "a minute", "secrets", "changed (UTC)", "by"), rows)


@app.command()
def show(name: str) -> None:
    """Print a hook as JSON."""
    print_json(call("GET", f"/hooks/{path_segment(name)}"))


@app.command()
def update(
    name: str,
    task: Task = None,
    workflow: Workflow = None,
    signal: Signal = None,
    version: Version = None,
    metadata: Metadata = None,
    input: Input = None,
    rate: Rate = None,
) -> None:
    """Replace what a hook starts, with its input and rate, and print it as JSON. Its secrets stay."""
    body = _fields(task, workflow, signal, version, metadata, input, rate)
    print_json(call("PUT", f"/hooks/{path_segment(name)}", body))


@app.command()
def rotate(
    name: str,
    overlap: Annotated[
        float | None, amount("Seconds for which the secrets of before count too; a day if left out.")
    ] = None,
    secret_file: SecretFile = None,
    as_json: Json = False,
) -> None:
    """Give a hook a new secret, which is printed once."""
    body = {**given(overlap_seconds=overlap), **_secret(secret_file)}
    _show_secret(call("POST", f"/hooks/{path_segment(name)}/rotate", body), as_json)


@app.command()
def pause(name: str) -> None:
    """Pause a hook: its webhooks are refused until it is resumed."""
    call("POST", f"/hooks/{path_segment(name)}/pause")
    console.print(f"Paused {plain(name)}.")


@app.command()
def resume(name: str) -> None:
    """Resume a hook."""
    call("POST", f"/hooks/{path_segment(name)}/resume")
    console.print(f"Resumed {plain(name)}.")


@app.command()
def delete(name: str) -> None:
    """Delete a hook with its secrets for good; what it has started goes on."""
    call("DELETE", f"/hooks/{path_segment(name)}")
    console.print(f"Deleted {plain(name)}.")


def _started(hook: dict[str, Any]) -> str:
    if hook["workflow"] is not None:
        return f"workflow {hook['workflow']}"
    return "signal" if hook["task"] is None else f"task {hook['task_type']}"


def _fields(
    task: str | None,
    workflow: str | None,
    signal: str | None,
    version: int | None,
    metadata: str | None,
    input: str | None,
    rate: float | None,
) -> dict[str, Any]:
    return given(workflow=workflow, version=version, rate_per_minute=rate) | json_fields(
        task=("--task", task), signal=("--signal", signal), metadata=("--metadata", metadata), input=("--input", input)
    )


def _secret(file: Path | None) -> dict[str, str]:
    """Raises: `BadParameter` if the file holds no text."""
    if file is None:
        return {}
    try:
        return {"secret": file.read_text(encoding="ascii").strip()}
    except UnicodeDecodeError:
        raise typer.BadParameter("The file of --secret-file must hold base64 of 24 to 64 bytes.") from None


def _show_secret(hook: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(hook)
        return
    if hook["secret"] is not None:
        typer.echo(hook["secret"])
    errors.print(plain(f"{hook['notice']} Its webhooks go to {api_url(client_settings()).rstrip('/')}{hook['path']}"))
