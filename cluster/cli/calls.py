"""What commands share: a call of the API, common options, and JSON in and out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from cluster.cli.connection import client, client_settings
from cluster.cli.uniform import answered, print_json
from cluster.domain.base import ids
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import read_json

__all__ = [  # print_json is for whoever prints what a call has answered
    "Json",
    "Words",
    "agreed",
    "call",
    "given",
    "json_fields",
    "json_option",
    "path_segment",
    "post_under",
    "print_json",
    "split",
    "usage",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Words = Annotated[str | None, typer.Option(help="Separated by commas.")]


def call(method: str, path: str, body: Any = None, **params: Any) -> Any:
    """One call of the API, and its answer. Ids in the path are encoded (`path_segment`).

    Raises: `BadParameter` for a path with a part that would lead to another path: `.` and `..` are steps in a URL.
    """
    return _called(method, path, body, params, None)


def post_under(key: str | None, path: str, body: Any) -> Any:
    """A POST under an idempotency key, and its answer. Raises: as `call`."""
    return _called("POST", path, body, {}, key)


def _called(method: str, path: str, body: Any, params: Mapping[str, Any], key: str | None) -> Any:
    odd = next((part for part in path.split("/")[2:] if part in ("", ".", "..")), None)
    if odd is not None:
        raise typer.BadParameter(f'"{odd}" is not an id; name the task, agent or deliberation.')

    async def work() -> Any:
        async with client(client_settings()) as api:
            return await api.request(method, path, body, params=params, idempotency_key=key)

    answer = asyncio.run(work())
    answered(answer)
    return answer


def split(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def json_option(value: str | None, name: str) -> Any:
    """The value of an option that takes JSON; None if the option was not given. `json_fields` tells that from ``null``.

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


def json_fields(**fields: tuple[str, str | None]) -> dict[str, Any]:
    """The fields whose options, each (name, JSON), were given, also those that hold ``null`` or an empty list: these are values,
    which the API takes or refuses.

    Raises: `BadParameter` as `json_option`."""
    return {field: json_option(text, name) for field, (name, text) in fields.items() if text is not None}


def agreed(question: str) -> None:
    """Asks whether to go on, on a terminal. In a pipe nobody is asked.

    Raises: `Abort` if the answer is no, `BadParameter` in a pipe.
    """
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Nobody can be asked here: give --yes, or look first with --dry-run.")
    typer.confirm(f"{question} Go on?", abort=True, err=True)


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Turns an InvalidRequest of the block, which checks what the user gave, into an error of usage. Raises: `BadParameter`."""
    try:
        yield
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None


def path_segment(value: str) -> str:
    """An id that the user gave, as one segment of a URL's path. Raises: `BadParameter` if it cannot be one."""
    with usage():
        return ids.path_segment(value)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that the user gave: those that are neither None nor an empty list."""
    return {name: value for name, value in fields.items() if value not in (None, [])}
