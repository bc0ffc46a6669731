"""``aragora-cp events``: the stream of events, a line for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from cluster.cli.calls import Json
from cluster.cli.connection import client, client_settings
from cluster.cli.output import on_one_line

#: Fields of ``data`` that name what an event is about; a line shows those first.
_NAMES: Final = ("task_id", "agent_id", "request_id", "deliberation_id")


def events(
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    deliberation: Annotated[str | None, typer.Option(help="Only of this deliberation.")] = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, help="Begin after the event of this number, which is printed first on each line."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    as_json: Json = False,
) -> None:
    """Print events as they are committed, until Ctrl-C; with --json one line of JSON each. It goes on after an outage, and misses
    none."""
    filters = {"task_id": task, "agent_id": agent, "deliberation_id": deliberation}
    asyncio.run(_print(filters, after, count, as_json))


async def _print(filters: Mapping[str, str | None], after: int | None, count: int | None, as_json: bool) -> None:
    async with client(client_settings()) as api:
        begin = int((await api.get("/stream"))["last_event_id"]) if after is None else after
        stream: Any = api.events(after=begin, **filters)
        printed = 0
        async with aclosing(stream) as found:
            async for event in found:
                whole = {"seq": event.seq, "type": event.type, "timestamp": event.at, "data": dict(event.data)}
                typer.echo(json.dumps(whole, ensure_ascii=False) if as_json else on_one_line(_line(whole)))
                printed += 1
                if printed == count:
                    return


def _line(event: Mapping[str, Any]) -> str:
    data = event["data"]
    about = [str(data[name]) for name in _NAMES if data.get(name)]
    others = [
        f"{name}={_short(value)}"
        for name, value in data.items()
        if name not in _NAMES and value not in (None, "", [], {})
    ]
    at = datetime.fromtimestamp(event["timestamp"]).astimezone().isoformat(timespec="milliseconds")
    return "  ".join(part for part in (f"{event['seq']:>8}", at, event["type"], *about, ", ".join(others)) if part)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
