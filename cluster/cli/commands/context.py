"""``aragora-cp context``: several control planes, each with its URL, workspace and credential."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.urls import without_userinfo
from cluster.cli.calls import Json, print_json, usage
from cluster.cli.connection import settings
from cluster.cli.contexts import (
    MOST_TOKEN_CHARS,
    CliContext,
    ContextBook,
    added,
    changing_contexts,
    checked_token,
    chosen_context,
    read_contexts,
    token_in_file,
)
from cluster.cli.output import console, errors, listing, plain
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Contexts: URL, workspace and token of several control planes.")

Name = Annotated[str, typer.Argument(help="What you call the control plane.")]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Option(help="Its API, such as https://control.example.com.")],
    workspace: Annotated[str | None, typer.Option(help="Where calls act. Unset: the API chooses.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token, which is read at each use.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="The name of a variable that has the token at each use.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input, and keep it with the context.")
    ] = False,
    ca_file: Annotated[Path | None, typer.Option(help="Authorities of its certificate, as PEM.")] = None,
    replace_: Annotated[bool, typer.Option("--replace", help="Replace a context of this name.")] = False,
    as_json: Json = False,
) -> None:
    """Add a control plane. Without a token its calls use the session of `aragora-cp login`. No token is an argument, since others
    on the machine can read those. The first context is in use at once.

    \f
    Raises: `BadParameter` if the name, the URL, the workspace or the variable's name is none, or several tokens are given, or the
    name is taken.
    """
    if sum((token_file is not None, token_env is not None, token_stdin)) > 1:
        raise typer.BadParameter("Give one of --token-file, --token-env and --token-stdin.")
    if token_env is not None and _VARIABLE.fullmatch(token_env) is None:
        raise typer.BadParameter(
            "--token-env takes the name of a variable, such as PROD_TOKEN; a token is no argument."
        )
    with usage():
        check_id(name, "NAME")
        if workspace is not None:
            check_id(workspace, "--workspace")
        _check_url(url)
    if token_file is not None:
        token_in_file(token_file)  # a wrong path is found now
    if not replace_:
        _check_new(read_contexts(settings()), name)  # before a token is asked for
    context = CliContext(
        url=url.rstrip("/"),
        workspace=workspace,
        token=_token_of_stdin() if token_stdin else None,
        token_file=None if token_file is None else os.path.abspath(token_file),
        token_env=token_env,
        ca_file=None if ca_file is None else os.path.abspath(ca_file),
    )
    with changing_contexts(settings()) as held:
        if not replace_:
            _check_new(held[0], name)
        held[0] = added(held[0], name, context)
    _tell(held[0], name, as_json, f"Added {name}.")


def _check_new(book: ContextBook, name: str) -> None:
    """Raises: `BadParameter` if there is a context of this name."""
    if name in book.contexts:
        raise typer.BadParameter(f"There is a context {name}; give --replace, or another name.")


def _check_url(url: str) -> None:
    """Raises: `InvalidRequest` if calls cannot go there, or the URL has a user or password, which lists would show."""
    if without_userinfo(url) != url:
        raise InvalidRequest("A context's URL has no user and password; give a token instead.")
    try:
        ControlPlaneClient(url)
    except InvalidRequest as error:
        raise InvalidRequest(error.message.replace("look at ARAGORA_API_URL", "correct --url")) from None


def _token_of_stdin() -> str:
    """The token of standard input. On a terminal it is asked for and not shown; in a pipe nothing is asked."""
    if sys.stdin.isatty():
        return checked_token(str(typer.prompt("Token", hide_input=True, err=True)), "What you typed")
    return checked_token(sys.stdin.read(MOST_TOKEN_CHARS + 1), "Standard input")


@app.command()
def use(name: Name, as_json: Json = False) -> None:
    """Use a context from now on, wherever neither --context, ARAGORA_CONTEXT nor ARAGORA_API_URL says otherwise."""
    with changing_contexts(settings()) as held:
        _check_known(held[0], name)
        held[0] = replace(held[0], current=name)
    _tell(held[0], name, as_json, f"{name} is in use.")


@app.command("list")
def list_contexts(as_json: Json = False) -> None:
    """List the contexts without their tokens, and mark the one that commands use."""
    ours = settings()
    book = read_contexts(ours)
    if not as_json and not book.contexts:
        errors.print("There are no contexts; `aragora-cp context add NAME --url URL` adds one.")
        return
    chosen = None
    with contextlib.suppress(SettingsError):  # whoever has to choose one must be able to list them
        chosen = (chosen_context(ours) or (None,))[0]
    rows = [_shown(name, context, chosen) for name, context in sorted(book.contexts.items())]
    if as_json:
        print_json({"contexts": rows, "current": chosen})
        return
    listing(
        ("used", "context", "url", "workspace", "credential"),
        (("*" if row["used"] else "", row["name"], row["url"], row["workspace"], row["credential"]) for row in rows),
    )
    if chosen is None and ours.api_url is not None:
        errors.print("ARAGORA_API_URL is set, so commands use it and no context; `unset ARAGORA_API_URL` changes that.")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Remove a context with the token that is kept with it. Files and sessions stay."""
    with changing_contexts(settings()) as held:
        _check_known(held[0], name)
        held[0] = held[0].without(name)
    _tell(held[0], name, as_json, f"Removed {name}.")


def _check_known(book: ContextBook, name: str) -> None:
    """Raises: `NotFound` if there is no such context."""
    if name not in book.contexts:
        raise NotFound(f"There is no context {name}; `aragora-cp context list` lists them.", "context_not_found")


def _shown(name: str, context: CliContext, chosen: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "url": context.url,
        "workspace": context.workspace,
        "credential": context.credential,
        "used": name == chosen,
    }


def _tell(book: ContextBook, name: str, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json({"name": name, "current": book.used})
        return
    console.print(plain(sentence))
    if book.used is None and book.contexts:
        console.print("No context is in use now; `aragora-cp context use NAME` chooses one.")
