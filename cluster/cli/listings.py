"""Lists that are searched: one option, and pages that are read on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from cluster.cli.calls import call
from cluster.cli.output import console, total_words
from cluster.domain.base.conditions import CONDITIONS

WHERE: Final = f"A condition, such as metadata.pr=17; may be given several times. {', '.join(CONDITIONS)}."

PageLimit = Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")]
PageCursor = Annotated[str | None, typer.Option(help="The cursor that the page before printed.")]


def read_on(found: Mapping[str, Any], name: str) -> None:
    """Says how the list goes on after a page of what is under ``name``, if it does."""
    if found["next_cursor"]:
        console.print(f"{len(found[name])} of {total_words(found)}; read on with --cursor {found['next_cursor']}")


def listed(
    path: str, name: str, limit: int, cursor: str | None, where: list[str] | None, filters: Mapping[str, Any]
) -> dict[str, Any]:
    """A page of what is under ``name`` in the answers. Pages of a search may be short while there are more, and are read on until
    there are enough."""
    found: dict[str, Any] = call("GET", path, limit=limit, cursor=cursor, where=where, **filters)
    while where and found["next_cursor"] and len(found[name]) < limit:
        left = limit - len(found[name])
        more = call("GET", path, limit=left, cursor=found["next_cursor"], where=where, **filters)
        entries = [*found[name], *more[name]]
        found = {**more, name: entries, "limit": limit, "total": len(entries)}
        found["total_exact"] = cursor is None and not more["has_more"]
    return found
