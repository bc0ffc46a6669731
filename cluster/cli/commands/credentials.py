"""``aragora-cp credentials``: secrets that the control plane sends to the agents that it calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, path_segment, print_json
from cluster.cli.numbers import amount
from cluster.cli.output import console, listing, plain, utc

app = typer.Typer(no_args_is_help=True, help="Credentials that are sent to agents: set, list, rotate, delete.")

#: No argument has the secret: other users of the machine see the arguments of every process.
File = Annotated[
    Path | None,
    typer.Option("--file", help="The file with the secret; standard input if left out.", dir_okay=False, exists=True),
]


@app.command("set")
def set_credential(
    name: str,
    file: File = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Where it may be sent, such as https://api.example.com; may be given several times."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a credential under a name, or replace its secret at once. The secret is read from standard input or a file."""
    body = {"name": name, "secret": _secret(file), "origins": origin or []}
    _show("set", call("POST", "/credentials", body), as_json)


@app.command("list")
def list_credentials(as_json: Json = False) -> None:
    """List the credentials of the workspace. No secret is shown."""
    found = call("GET", "/credentials")
    if as_json:
        print_json(found)
        return
    rows = (
        (
            credential["name"],
            credential["revision"],
            utc(credential["changed_at"]),
            credential["changed_by"],
            utc(credential["overlap_until"]),
            ", ".join(credential["origins"]) or "anywhere",
        )
        for credential in found["credentials"]
    )
    listing(("credential", "revision", "changed (UTC)", "by", "old one until (UTC)", "sent to"), rows)


@app.command()
def show(name: str) -> None:
    """Print a credential as JSON, with where it may be sent. Its secret is not shown."""
    print_json(call("GET", f"/credentials/{path_segment(name)}"))


@app.command()
def rotate(
    name: str,
    file: File = None,
    overlap: Annotated[
        float | None,
        amount("Seconds for which agents that refuse the new secret get the old one; an hour if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a credential a new secret, which is read from standard input or a file."""
    body: dict[str, Any] = {"secret": _secret(file)}
    if overlap is not None:
        body["overlap_seconds"] = overlap
    _show("rotated", call("POST", f"/credentials/{path_segment(name)}/rotate", body), as_json)


@app.command()
def delete(name: str) -> None:
    """Delete a credential for good. Calls of agents that name it fail from now on."""
    call("DELETE", f"/credentials/{path_segment(name)}")
    console.print("deleted")


def _secret(file: Path | None) -> str:
    """The secret, without the line break at its end, which editors and ``echo`` add.

    Raises: `BadParameter` if there is none, or it is no text."""
    try:
        if file is not None:
            text = file.read_text(encoding="utf-8")
        elif sys.stdin.isatty():
            text = str(typer.prompt("Secret", hide_input=True))
        else:
            text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter("The secret is no text in UTF-8; encode it, in base64 for example.") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise typer.BadParameter("There is no secret on standard input; pipe it in, or name its file with --file.")
    return secret


def _show(done: str, credential: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(credential)
    else:
        console.print(plain(f"{credential['name']} {done}, revision {credential['revision']}"))
