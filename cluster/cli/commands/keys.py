"""``aragora-cp keys``: API keys, and the first administrator's."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from aragora_worker.errors import ApiError
from cluster.cli.calls import Json, call, given, path_segment, print_json, split
from cluster.cli.checks.stores import stores_settings
from cluster.cli.connection import client, settings
from cluster.cli.listings import PageCursor, PageLimit, read_on
from cluster.cli.numbers import amount
from cluster.cli.output import console, errors, listing, plain
from cluster.cli.uniform import answered
from cluster.domain.access.api_key import SECRET_BYTES, ApiKey, digest_of, secret_of, token_of
from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.base.errors import ControlPlaneError, InvalidRequest
from cluster.domain.base.ids import sortable_id
from cluster.domain.base.log import Origin
from cluster.settings import Settings

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")

DAY_S: Final = 86_400.0
#: As `serve_app.schemas.fields.MAX_SECONDS` has it.
MOST_DAYS: Final = 366
_BOOTSTRAP: Final = "system:bootstrap"
_FIRST_NAME: Final = "First administrator"
#: Replicas read what they know about access from the log: within a second, three while Redis is away.
_COUNTS_WITHIN_S: Final = 4.0
_LOOKS_EVERY_S: Final = 0.1


def _life(value: float | None) -> float | None:
    """Raises: `BadParameter` unless it is a life that the API takes, whose error names a field of the body."""
    if value is not None and not 0 < value <= MOST_DAYS:
        raise typer.BadParameter(
            f"A key expires after more than 0 and at most {MOST_DAYS} days; leave it out for never."
        )
    return value


@app.command()
def create(
    name: Annotated[
        str | None, typer.Argument(help="What the key is for; may be left out with --bootstrap.", show_default=False)
    ] = None,
    grants: Annotated[str | None, typer.Option(help="Roles and permissions, separated by commas.")] = None,
    workspaces: Annotated[
        str | None, typer.Option(help="Where it acts, separated by commas, or * for all; your workspace if left out.")
    ] = None,
    expires_days: Annotated[
        float | None,
        typer.Option(callback=_life, min=0, help=f"Days until it expires, at most {MOST_DAYS}; never if left out."),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agent", help="The id of an agent; the key acts for no other. May be given several times."),
    ] = None,
    bootstrap: Annotated[
        bool,
        typer.Option("--bootstrap", help="On the host: make the first administrator's key in the database itself."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create an API key and print its token, which is shown once.

    With --bootstrap the key may do everything in all workspaces, and the database is written without the API: it works only
    while there is no other administrator. If the control plane runs, the command ends when it takes the key.

    \f
    Raises: `BadParameter` unless either --grants or --bootstrap is given, and a name with --grants.
    """
    if bootstrap:
        if grants is not None or workspaces is not None or agents:
            raise typer.BadParameter(
                "--bootstrap makes an administrator's key of all workspaces; leave out the others."
            )
        ours = settings()
        created = asyncio.run(_bootstrap(ours, name or _FIRST_NAME, expires_days))
        asyncio.run(_until_it_counts(ours, created["token"]))
    elif grants is None:
        raise typer.BadParameter("Give --grants (such as --grants submitter), or --bootstrap for the first key.")
    elif name is None:
        raise typer.BadParameter('Give the key a name that says what it is for: aragora-cp keys create "The build" …')
    else:
        body = {"name": name, "grants": split(grants)} | given(
            workspaces=split(workspaces),
            expires_in_seconds=None if expires_days is None else expires_days * DAY_S,
            agents=agents or None,
        )
        created = call("POST", "/keys", body)
    _show(created, as_json)


async def _bootstrap(ours: Settings, name: str, expires_days: float | None) -> dict[str, Any]:
    """Makes the first administrator's key.

    Raises: `InvalidRequest` if it is not known here where the database is, `Conflict` if there is an administrator."""
    from cluster.postgres.migrate import migrate  # the other commands load no driver
    from cluster.postgres.stores import open_stores

    with_stores = stores_settings(ours)
    url = with_stores.database_url
    if url is None:
        raise InvalidRequest(
            "It is not known here where the database is; run this on the host of the control plane, or set "
            "ARAGORA_DATABASE_URL.",
            "no_database",
        )
    await migrate(url.get_secret_value(), with_stores.database_schema)
    stores = await open_stores(
        url.get_secret_value(),
        with_stores.database_schema,
        with_stores.zone,
        max_connections=1,
        alone=not with_stores.has_peers,
    )
    try:
        now, secret = time.time(), secret_of(os.urandom(SECRET_BYTES))
        key = ApiKey(
            id=sortable_id("key", now, os.urandom(10)).removeprefix("key_"),
            name=name,
            workspaces=(ALL_WORKSPACES,),
            grants=("admin",),
            digests=(digest_of(secret),),
            created_at=now,
            created_by=_BOOTSTRAP,
            expires_at=None if expires_days is None else now + expires_days * DAY_S,
        )
        await stores.access.create_key(Origin(workspace=ours.workspace, principal=_BOOTSTRAP), key, first=True)
    finally:
        await stores.close()
    return {
        "id": key.id,
        "name": name,
        "token": token_of(key.id, secret),
        "notice": "Keep the token: it is shown once.",
    }


async def _until_it_counts(ours: Settings, token: str) -> None:
    """Waits until the API takes the key, because the next line of a script uses it. An API that does not run is not waited
    for: it reads the key when it starts."""
    until = time.monotonic() + _COUNTS_WITHIN_S
    async with client(ours.model_copy(update={"api_key": SecretStr(token)})) as api:
        while True:
            try:
                await api.request("GET", "/keys?limit=1", timeout_s=_COUNTS_WITHIN_S)
                return
            except ApiError as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    return
            except ControlPlaneError:
                return  # it does not run, or not yet
            if time.monotonic() > until:
                errors.print(
                    f"[yellow]warning:[/] the control plane at {plain(api.shown_url)} does not take the key yet; if that stays "
                    "so, it has another database than ARAGORA_DATABASE_URL and ARAGORA_DATABASE_SCHEMA name here."
                )
                return
            await asyncio.sleep(_LOOKS_EVERY_S)


def _show(created: dict[str, Any], as_json: bool) -> None:
    """The token alone goes to standard output, so that a script can take it."""
    if as_json:
        print_json(created)
        return
    errors.print(f"key {plain(created['id'])}: {plain(created['notice'])}")
    if created["token"] is not None:
        typer.echo(created["token"])


@app.command("list")
def list_(limit: PageLimit = 1000, cursor: PageCursor = None, as_json: Json = False) -> None:
    """List the keys that act in your workspace, or all if you may manage all, oldest first. Secrets are in no list."""
    found = call("GET", "/keys", limit=limit, **given(cursor=cursor))
    if as_json:
        print_json(found)
        return
    rows = (
        (
            key["id"],
            key["state"],
            ",".join(key["workspaces"]),
            ",".join(key["grants"]),
            ",".join(key["agents"] or ()),
            _day(key["expires_at"]),
            _day(key["last_used_at"]),
            key["name"],
        )
        for key in found["keys"]
    )
    listing(("id", "state", "workspaces", "grants", "agents", "expires", "last used", "name"), rows)
    read_on(found, "keys")


def _day(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


@app.command()
def rotate(
    key_id: str,
    overlap: Annotated[float | None, amount("Seconds for which the old secret counts too; 3600.")] = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print the new token, which is shown once."""
    _show(call("POST", f"/keys/{path_segment(key_id)}/rotate", given(overlap_seconds=overlap)), as_json)


@app.command()
def revoke(key_ids: Annotated[list[str], typer.Argument()]) -> None:
    """Revoke keys for good: they count no more, on all replicas within a second."""
    revoked: list[Any] = []
    for key_id in key_ids:
        revoked.append(call("DELETE", f"/keys/{path_segment(key_id)}"))
        answered({"revoked": revoked})
        console.print(f"Revoked {plain(key_id)}.")
