"""Conditions of a search, for whoever lists what somebody wrote on."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.conditions import Search, parse_search
from cluster.domain.base.errors import InvalidRequest
from serve_app.auth.admission import admit
from serve_app.http.paging import Where
from serve_app.schemas.fields import Offset


async def search_of(request: Request, where: Where, offset: Offset = 0) -> Search | None:
    """What ``where`` says; None without it. Whoever asks for metadata or tags has to be allowed to read them: what matches
    would tell their words.

    Raises: `InvalidRequest` if a condition cannot be meant, or comes with an ``offset``; `Forbidden`."""
    if not where:
        return None
    if offset:
        raise InvalidRequest("where goes with cursor and not with offset; send the next_cursor of the page before.")
    search = parse_search(where)
    if search.of_words:
        await admit(request, Permission.PAYLOADS_READ)
    return search


Searching = Annotated[Search | None, Depends(search_of)]
