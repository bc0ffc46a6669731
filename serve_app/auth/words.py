"""What somebody wrote: payloads, results, prompts, transcripts, the private words of log rows. Who may read it.

One place for every answer: the fields of each schema have classes (``serve_app.openapi.classes``), and the answer leaves through
here. Rows of the log have their words apart, which no schema tells, so whoever shows rows takes their data from here too.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal, allows
from cluster.domain.base.log import LogRow
from serve_app.openapi.answers import JSON
from serve_app.openapi.classes import RULES, Rule

#: An answer of this length is read and written in a thread: a list of a whole fleet must not hold up heartbeats.
LONG_BYTES = 256_000
#: Every path but those at the root has it.
_PREFIX = "/api/"


def may_read_words(principal: Principal) -> bool:
    """Whether a principal sees what somebody wrote."""
    return allows(principal, Permission.PAYLOADS_READ)


#: Prefixes of kinds of rows that tell who may do what.
_OF_ACCESS = ("access.", "auth.", "secret.")


def hidden_kinds(principal: Principal) -> tuple[str, ...]:
    """Prefixes of the kinds of rows that a principal does not see at all."""
    return () if allows(principal, Permission.ACCESS_READ) else _OF_ACCESS


def data_of(row: LogRow, words: bool) -> dict[str, Any]:
    """The data of a row, with its private words or without them."""
    return row.whole_data() if words else row.open_data()


def shown(connection: HTTPConnection, path: str, status: int, answer: Any) -> Any:
    """The JSON of an answer as its caller may see it. ``path``: the route's, without a prefix."""
    rule = _rule(connection, path, status)
    return answer if rule is None else rule.applied(answer, _held(connection))


async def shown_response(connection: HTTPConnection, path: str, response: Response) -> Response:
    """The response as its caller may see it. Streams decide for each event (``data_of``)."""
    rule = _rule(connection, path, response.status_code)
    if rule is None or not response.headers.get("content-type", "").startswith(JSON):
        return response
    body, held = bytes(response.body), _held(connection)
    if len(body) < LONG_BYTES:
        text = _shown_text(body, rule, held)
    else:
        text = await asyncio.to_thread(_shown_text, body, rule, held)
    visible = Response(text, response.status_code, background=response.background)
    kept = [header for header in response.raw_headers if header[0] != b"content-length"]
    visible.raw_headers = [*kept, (b"content-length", str(len(text)).encode())]
    return visible


def _shown_text(body: bytes, rule: Rule, held: frozenset[Permission]) -> bytes:
    return json.dumps(rule.applied(json.loads(body), held), ensure_ascii=False, separators=(",", ":")).encode()


def _held(connection: HTTPConnection) -> frozenset[Permission]:
    """Nobody's permissions if the route is public: its caller was not asked who it is."""
    principal: Principal | None = connection.scope["state"].get("principal")
    return frozenset() if principal is None else principal.permissions


def _rule(connection: HTTPConnection, path: str, status: int) -> Rule | None:
    """The rule of the answer; None if it withholds nothing from this caller."""
    scope = connection.scope
    # HEAD is answered as GET is, by then under that name.
    call = f"{scope['method']} {path}" if scope["path"].startswith(_PREFIX) else f"ROOT {scope['method']} {path}"
    rule = RULES.get(call, {}).get(status)
    return None if rule is None or rule.permissions <= _held(connection) else rule
