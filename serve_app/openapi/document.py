"""Completes FastAPI's document: answers with their shapes, every status of an error, patterns of ids, keys and cursors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.domain.access.permissions import Permission
from serve_app.http.query_names import chooses_by_query
from serve_app.openapi.answers import ANSWERS, JSON, KNOW_CALLERS, MAY_MISS, OTHER_FORMS, ROOT_ANSWERS, SHOW_ERRORS
from serve_app.openapi.classes import documented
from serve_app.openapi.shapes import CURSOR, ID, SHAPES, Schema, ref

_REASONS = {
    400: "Something in the request is not valid; the sentence says what.",
    401: "The caller proves no identity.",
    403: "The caller lacks the permission that the route declares, or is another site's web page.",
    404: "There is nothing of that id in the caller's workspace.",
    408: "The body did not arrive within 30 s.",
    409: "It cannot be done in the present state, or the idempotency key was used with another body.",
    410: "It was there, and the retention of the workspace has removed it.",
    413: "The body is larger than ARAGORA_MAX_BODY_BYTES.",
    415: "The body was not sent as JSON.",
    421: "The workspace is resident in a zone that this region is not in; the answer says where to call.",
    429: "The caller has made more calls than its limit allows, or too many requests are waiting.",
    500: "An error of the control plane; the log has it under the trace id.",
    503: "A store or an actor is away, or this replica starts or drains.",
}
#: Answers that say when to ask again.
_TRY_LATER = frozenset({429, 503})
#: What retention removes.
_MAY_BE_REMOVED = (
    *("/tasks/{", "/dead-letter/{", "/deliberations", "/erasures", "/queue/prioritize"),
    "/workflow-runs/{",
)
_CHANGES = ("POST", "PUT", "DELETE", "PATCH")
_ERROR = "Error"
#: Names of fields and parameters that are ids. ``subject_id`` and ``snapshot_id`` may be of other forms.
_IDS = frozenset({"agent_id", "task_id", "request_id", "deliberation_id"})
_KEY: Schema = {"type": "string", "minLength": 1, "maxLength": 255}


class NameTaken(Exception):
    """A body and the shape of an answer have the same name in the document."""


def completed(
    document: dict[str, Any], prefix: str, permissions: Mapping[tuple[str, str], Permission]
) -> dict[str, Any]:
    """The document with what FastAPI cannot know. ``permissions``: of each (method, path).

    Raises: `KeyError` if the shape of a route's answers is not stated in ``answers.py``, `NameTaken` if an answer's shape has the
    name of a body."""
    components = document["components"]
    schemas = components["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for schema in schemas.values():
        _give_patterns(schema.get("properties", {}))
    if taken := SHAPES.keys() & schemas.keys():
        raise NameTaken(
            f"{', '.join(sorted(taken))}: a body and an answer have one name, and one would replace the other."
        )
    schemas.update({name: documented(schema, name) for name, schema in SHAPES.items()})
    components["responses"] = {f"Error{status}": _error(status) for status in _REASONS}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method.upper(), path, prefix, permissions[method.upper(), path])
    return document


def _complete(operation: dict[str, Any], method: str, path: str, prefix: str, permission: Permission) -> None:
    is_root = not path.startswith(prefix)
    short = path.removeprefix(prefix)
    answers = (ROOT_ANSWERS if is_root else ANSWERS)[method, short]
    call = f"{'ROOT ' if is_root else ''}{method} {short}"
    responses: dict[str, Any] = {
        str(status): {"description": _DONE[status], "content": {JSON: {"schema": documented(schema, call)}}}
        if status != _REDIRECT
        else {"description": _DONE[status], "headers": {"Location": {"schema": {"type": "string"}}}}
        for status, schema in answers.items()
    }
    other = OTHER_FORMS.get((f"ROOT {method}" if is_root else method, short), {})
    for kind, description in other.items():
        ok = responses.setdefault("200", {"description": description, "content": {}})
        ok["content"][kind] = {"schema": {"type": "string", "description": description}}
    for status in sorted(_errors(operation, method, short, permission)):
        error = _error_page(status) if (method, short) in SHOW_ERRORS else _error_ref(status)
        responses.setdefault(str(status), error)
    operation["responses"] = responses
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)


#: An answer without a body.
_REDIRECT = 303
_DONE = {
    200: "Done.",
    201: "Made.",
    202: "Accepted: it goes on by itself, and the header Location says where to look.",
    303: "Go to the header Location.",
    503: "Not ready.",
}


def _errors(operation: Mapping[str, Any], method: str, path: str, permission: Permission) -> Iterator[int]:
    yield from (500, 503)
    if permission is not Permission.PUBLIC or not path.startswith("/health"):
        yield 421  # also of public calls, if they bring a credential of a resident workspace
    if permission is not Permission.PUBLIC or (method, path) in KNOW_CALLERS:
        yield from (401, 403, 429)
    if method in _CHANGES:
        yield from (400, 408, 409, 413, 429)
    elif (
        operation.get("parameters")
        or chooses_by_query({method}, operation.get("tags", ()))
        or (method, path) in KNOW_CALLERS
    ):
        yield 400
    if "requestBody" in operation:
        yield 415
    if "{" in path or (method, path) in MAY_MISS:
        yield 404
    if (path.startswith(_MAY_BE_REMOVED) and ("{" in path or method == "POST")) or path.endswith("/stream"):
        yield 410
    # A deliberation that has not ended has no receipt yet; what was sealed with another key cannot be shown.
    if path.endswith("/receipt") or (method == "GET" and path.startswith("/credentials")):
        yield 409


def _error(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _REASONS[status], "content": {JSON: {"schema": ref(_ERROR)}}}
    if status in _TRY_LATER:
        seconds = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}
        response["headers"] = {"Retry-After": seconds}
    return response


def _error_ref(status: int) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/Error{status}"}


def _error_page(status: int) -> dict[str, Any]:
    """As JSON, and for people as a page."""
    response = _error(status)
    response["content"]["text/html"] = {"schema": {"type": "string", "description": "With this Accept header."}}
    return response


def _complete_parameter(parameter: dict[str, Any]) -> None:
    name, schema = parameter["name"].lower(), parameter["schema"]
    if name == "idempotency-key":
        parameter["schema"] = _KEY
    elif name == "cursor":
        parameter["schema"] = CURSOR
    else:
        _give_patterns({name: schema})


def _give_patterns(properties: Mapping[str, Any]) -> None:
    for name, schema in properties.items():
        if name in _IDS:
            for option in (schema, *schema.get("anyOf", ())):
                if option.get("type") == "string":
                    option.update(pattern=ID["pattern"], maxLength=128)
