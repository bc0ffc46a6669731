"""What commands share: a call of the API, common options, and JSON in and out."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from cluster.cli.connection import client, settings
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import read_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Words = Annotated[str | None, typer.Option(help="Separated by commas.")]


def call(method: str, path: str, body: Any = None, **params: Any) -> Any:
    """One call of the API, and its answer. Ids in the path are encoded (`path_segment`).

    Raises: `InvalidRequest` for a path with a part that would lead to another path: `.` and `..` are steps in a URL.
    """
    odd = next((part for part in path.split("/")[2:] if part in ("", ".", "..")), None)
    if odd is not None:
        raise InvalidRequest(f'"{odd}" is not an id; name the task, agent or deliberation.', "invalid_id")

    async def work() -> Any:
        async with client(settings()) as api:
            return await api.request(method, path, body, params=params)

    return asyncio.run(work())


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def split(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def json_option(value: str | None, name: str) -> Any:
    """The value of an option that takes JSON; None if the option was not given.

    Raises: `BadParameter` if the value is not JSON, or is JSON that cannot be stored.
    """
    if value is None:
        return None
    try:
        return read_json(value, name)
    except InvalidRequest as error:
        where = error.__context__  # what the parser said, if it was the parser
        words = f"{name} is not JSON: {where}." if isinstance(where, json.JSONDecodeError) else error.message
        raise typer.BadParameter(words) from None


def given(**fields: Any) -> dict[str, Any]:
    """The fields that the user gave: those that are neither None nor an empty list."""
    return {name: value for name, value in fields.items() if value not in (None, [])}
