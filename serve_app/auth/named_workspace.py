"""The workspace that a call names: it is the one that the call acts in, or the call is refused.

A call acts in its principal's workspace. It can name one in the header ``X-Aragora-Workspace``, by which a resolver chooses
among those of its caller, and the released client's fields ``workspace_id`` and ``workspace_ids`` of queries and bodies. To
ignore what is named was rejected: the caller would read or change another workspace than it believes.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from cluster.domain.access.principal import Principal
from cluster.domain.base.errors import Forbidden, InvalidRequest
from cluster.domain.base.ids import check_id

HEADER = b"x-aragora-workspace"
FIELD = "workspace_id"
#: The fields of queries and bodies that name workspaces.
FIELDS = (FIELD, "workspace_ids")
#: Where a body may have one of them: a name may have its characters as escapes.
_NAMED = re.compile(rb'"workspace_id|\\u00')


def asked_workspace(connection: HTTPConnection) -> str | None:
    """The workspace that the header names; None without the header.

    Raises: `InvalidRequest` if it is no id, or there are several headers."""
    # From the raw headers, as every call is asked: starlette would decode all of them.
    named = [value for name, value in connection.scope["headers"] if name == HEADER]
    if len(named) > 1:
        raise InvalidRequest("Send the header X-Aragora-Workspace once.", "invalid_workspace")
    return check_id(named[0].decode("latin-1"), "X-Aragora-Workspace") if named else None


def check_named(connection: HTTPConnection, principal: Principal) -> None:
    """Checks the header and the query.

    Raises: `Forbidden` if they name another workspace than the principal's, `InvalidRequest` as `asked_workspace`."""
    asked = asked_workspace(connection)
    _check([asked] if asked is not None else [], principal)
    if connection.scope["query_string"]:
        for name in FIELDS:
            for value in connection.query_params.getlist(name):
                _check(value.split(","), principal)


def check_named_in(body: Any, principal: Principal) -> None:
    """Checks a JSON body, and the entries of its lists.

    Raises: `Forbidden` if it names another workspace than the principal's."""
    if isinstance(body, Mapping):
        for part in _parts(body):
            for name in FIELDS:
                value = part.get(name)
                _check(value if isinstance(value, list) else [value], principal)


async def check_named_in_body_of(request: Request, principal: Principal) -> None:
    """Checks the body of a request, which the handler will find as if nobody had read it. A body that is no JSON is the
    handler's to refuse.

    Raises: `Forbidden` as `check_named_in`."""
    with contextlib.suppress(ClientDisconnect, ValueError, RecursionError):
        text = await request.body()
        if _NAMED.search(text):
            check_named_in(json.loads(text), principal)


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield body
    for value in body.values():
        if isinstance(value, list):
            yield from (entry for entry in value if isinstance(entry, Mapping))


def _check(named: list[Any], principal: Principal) -> None:
    if any(isinstance(name, str) and name.strip() not in ("", principal.workspace) for name in named):
        raise Forbidden(
            f"This call acts in the workspace {principal.workspace} and names another one; leave it out, or send the header "
            "X-Aragora-Workspace with a key or a role in that workspace."
        )
