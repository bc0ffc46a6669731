"""The names of a call's query parameters: one that the call does not have is refused.

A misspelt filter would silently answer with everybody's rows, and a purge with ``?dry_run=true`` would silently be a real one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import shown_text
from cluster.domain.base.nearest import MAX_SHOWN, hint
from serve_app.auth.named_workspace import FIELDS

#: Tags of routes that take any query parameter: load balancers and monitors add their own against caches, and OIDC providers to
#: the answers that browsers bring.
_ASKED_BY_OTHERS = frozenset({"health", "login"})
#: Tags of routes that choose rows by their body.
_CHOOSE_BY_BODY = frozenset({"dead letter"})
#: Names of parameters that may be given several times: the conditions of a search.
_SEVERAL = frozenset({"where"})
#: Names that any call may have: the workspace that it acts in, and a token, which only WebSockets read.
_OF_ANY_CALL = frozenset({*FIELDS, "token"})


def chooses_by_query(methods: Collection[str], tags: Iterable[object]) -> bool:
    """Whether a route could be taken for one that chooses by its query: a read, a deletion, a replay or purge. Other changes do
    what their body says, and a query beside it is ignored, as it always was."""
    of = frozenset(tags)
    if _ASKED_BY_OTHERS & of:
        return False
    return not {"GET", "DELETE"}.isdisjoint(methods) or bool(_CHOOSE_BY_BODY & of)


def query_names(dependant: Dependant) -> frozenset[str]:
    """The names of the parameters that a route reads from the query, itself or by what it depends on."""
    own = frozenset(field.alias for field in dependant.query_params)
    return own.union(*map(query_names, dependant.dependencies))


def check_query_names(connection: HTTPConnection, known: Collection[str], *, takes_body: bool = False) -> None:
    """Checks that each parameter of the query is one of ``known`` and is given once, but for ``where``. Names that begin
    with ``_`` pass: browsers' libraries add such against caches.

    Raises: `InvalidRequest` with the nearest known name, or if a parameter is given twice: all but one would be ignored."""
    if not connection.scope["query_string"]:
        return
    given: set[str] = set()
    for name, _ in connection.query_params.multi_items():
        if name.startswith("_") or name in _OF_ANY_CALL:
            continue
        shown = shown_text(name, MAX_SHOWN)
        if name not in known:
            meant = "this call takes its fields in the body." if takes_body and not known else hint(shown, known)
            raise InvalidRequest(f"There is no query parameter {shown} here; {meant}", "unknown_parameter")
        if name in given and name not in _SEVERAL:
            raise InvalidRequest(f"The query parameter {shown} is given twice; give it once.", "repeated_parameter")
        given.add(name)
