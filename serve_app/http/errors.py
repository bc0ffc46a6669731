"""Every error answer in one shape: ``{"error": one sentence, "code": ..., "trace_id": ...}``.

``error`` is always a string, because the released client joins it into a string and would break on an object. Errors
that are not the caller's fault are logged with the trace id and answered without detail.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.websockets import WebSocketState

from cluster.domain.base.errors import ControlPlaneError, TryLater, Unauthenticated
from cluster.domain.base.json_values import CODE, MAX_DEPTH, MAX_DIGITS
from cluster.domain.budgets.submits import BudgetExhausted
from cluster.domain.policies.submits import PolicyDenied
from cluster.domain.quotas.quotas import QuotaExceeded, QuotaFull
from cluster.domain.residency import WrongZone
from serve_app.auth.denials import note_denial
from serve_app.http.methods import answers_head

_logger = logging.getLogger("serve_app")

#: The ASGI extension with which a WebSocket's handshake can be answered with an HTTP response.
_DENIAL = "websocket.http.response"
#: Errors that say more than a sentence, in fields of their own.
_DETAILED = (PolicyDenied, BudgetExhausted, QuotaExceeded, QuotaFull, WrongZone)
#: Most bytes of a reason in a WebSocket's close frame (RFC 6455).
_MAX_REASON_BYTES = 123


def error_response(
    status: int, message: str, code: str, trace_id: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    body = {"error": message, "code": code, "trace_id": trace_id, **extra}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def _trace(request: HTTPConnection) -> str:
    return str(request.scope.get("state", {}).get("trace_id", ""))


def control_plane_response(request: HTTPConnection, error: ControlPlaneError) -> Response:
    note_denial(request, error)
    headers: dict[str, str] = {}
    if isinstance(error, TryLater):
        headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500 and not isinstance(error, TryLater):
        _logger.error("a request failed: %s", error)
    details = error.details if isinstance(error, _DETAILED) else {}
    return error_response(error.status, error.message, error.code, _trace(request), headers, **details)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if _is_unread(request, error):
        sent = request.headers.get("content-type")
        return error_response(
            415,
            f"The body was sent {f'as {sent[:64]}' if sent else 'without a content type'}; send JSON with the header "
            "Content-Type: application/json.",
            "unsupported_media_type",
            _trace(request),
        )
    problems = _of_unions([_problem(item, error.body) for item in error.errors()])
    own = next((item["ctx"]["error"] for item in error.errors() if _is_own(item)), None)
    code = own.code if own is not None else "invalid_request"
    return error_response(400, problems[0][1], code, _trace(request), errors=[_as_json(p) for p in problems])


def _is_unread(request: Request, error: RequestValidationError) -> bool:
    """Whether FastAPI left the body as it was, because it was not sent as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind.startswith("application/") and kind.endswith(("/json", "+json"))
    return not is_json and any(item["loc"] == ("body",) and isinstance(item["input"], bytes) for item in error.errors())


def _is_own(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get("ctx", {}).get("error"), ControlPlaneError)


def _as_json(problem: tuple[str, str]) -> dict[str, str]:
    return {"field": problem[0], "message": problem[1]}


def problem_of(errors: Sequence[Any]) -> str:
    """The first of a body's validation errors, in one sentence."""
    return _problem(errors[0])[1]


def _of_unions(problems: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The problems in an order in which the first says the most: a value that may be of several kinds has one for each, and the
    one that lies deepest in it is about the kind that was meant. Those about the value as a whole become one sentence."""
    field = problems[0][0]
    deeper = [problem for problem in problems if field and problem[0].startswith(f"{field}.")]
    same = dict.fromkeys(message.removesuffix(".") for name, message in problems if name == field)
    first, *others = same
    whole = (field, "; or ".join([first, *(other.removeprefix(f"{field}: ") for other in others)]) + ".")
    return [*deeper, whole, *(problem for problem in problems if problem[0] != field and problem not in deeper)]


#: Pydantic names our class in its words about these.
_NO_OBJECT = ("model_type", "model_attributes_type", "dict_type")


def _where(keys: Sequence[Any], body: Any, missing: bool) -> str:
    """The path of a field, without the names that Pydantic has for the kinds of a value that may be of several."""
    found: list[str] = []
    for n, key in enumerate(keys):
        if (isinstance(body, Mapping) and key in body) or (isinstance(body, list) and key in range(len(body))):
            body = body[key]
        elif not (missing and n == len(keys) - 1):
            continue
        found.append(str(key))
    return ".".join(found)


def _problem(item: Mapping[str, Any], body: Any = None) -> tuple[str, str]:
    where = list(item["loc"])
    source = where.pop(0) if where and where[0] in ("body", "query", "path", "header") else ""
    is_body = source == "body" and isinstance(body, Mapping | list)
    field = _where(where, body, item["type"] == "missing") if is_body else ".".join(map(str, where))
    if item["type"] == "json_invalid":
        return "", "The body is not valid JSON; send a JSON object."
    if item["type"] == "missing":
        return field, f"{field or 'A JSON body'} is required."
    if item["type"] in _NO_OBJECT:
        return field, f"{field or ('The body' if source else 'Each entry')} must be a JSON object."
    length = _length(item)
    if length is not None:
        return field, f"{field or 'The text'} must have {length}."
    message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    return field, f"{field}: {message}." if field and not message.startswith(field) else f"{message}."


def _length(item: Mapping[str, Any]) -> str | None:
    """The end of a sentence about a text of a wrong length. Pydantic has two kinds of errors about it: it counts the items of a
    text whose characters were checked before its length."""
    if not isinstance(item.get("input"), str):
        return None
    kind = str(item["type"]).removeprefix("string_")
    bound = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}.get(kind)
    if bound is None:
        return None
    length = item["ctx"][bound[1]]
    return f"{bound[0]} {length} character{'' if length == 1 else 's'}"


def _unread_body(cause: BaseException | None) -> str | None:
    """A sentence about a body that Python's parser did not read for another reason than its syntax. FastAPI words all of these
    alike, and says no reason."""
    if isinstance(cause, RecursionError):
        return f"The body is nested deeper than {MAX_DEPTH} levels; send it flatter."
    if isinstance(cause, UnicodeError):
        return "The body is not JSON, since it is no text in UTF-8; send a JSON object in UTF-8."
    if isinstance(cause, ValueError):  # int() refuses a number with too many digits
        return f"The body holds a number of more than {MAX_DIGITS} digits; send it as a text."
    return None


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    unread = _unread_body(error.__cause__) if error.status_code == 400 else None
    if unread is not None:
        return error_response(400, unread, CODE, _trace(request))
    messages = {
        404: (f"There is nothing at {request.url.path}; see /docs for the paths that exist.", "not_found"),
        405: (f"{request.method} is not a method of {request.url.path}; see /docs.", "method_not_allowed"),
        408: (str(error.detail), "body_too_slow"),
        413: (str(error.detail), "body_too_large"),
    }
    phrase = HTTPStatus(error.status_code).phrase
    message, code = messages.get(error.status_code, (str(error.detail), phrase.lower().replace(" ", "_")))
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
    return error_response(error.status_code, message, code, _trace(request), headers)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. Each route knows its own alone, and several may have the path."""
    routes = request.app.router.routes
    allowed = {
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }
    if "GET" in allowed and answers_head(request.url.path):
        allowed.add("HEAD")
    return sorted(allowed)


def unexpected_response(request: Request, error: Exception) -> Response:
    """A 500 with the trace id. The error itself goes to the log only: it may hold what the caller must not see."""
    trace_id = _trace(request)
    _logger.error("a request failed unexpectedly", exc_info=error)
    return error_response(
        500, f"The server failed on this request; report trace id {trace_id}.", "internal_error", trace_id
    )


def response_to(request: Request, error: Exception) -> Response:
    """The answer to any error of an endpoint."""
    if isinstance(error, ControlPlaneError):
        return control_plane_response(request, error)
    return unexpected_response(request, error)


async def _control_plane_error(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, ControlPlaneError)
    if isinstance(connection, WebSocket):
        await refuse_socket(connection, error)
        return None
    return control_plane_response(connection, error)


async def refuse_socket(socket: WebSocket, error: ControlPlaneError) -> None:
    """Ends a socket with an error, by an HTTP answer to its handshake if the server can send one."""
    if socket.application_state is WebSocketState.CONNECTING and _DENIAL in socket.scope.get("extensions", {}):
        await socket.send_denial_response(control_plane_response(socket, error))
    else:
        note_denial(socket, error)
        # If the server lacks the extension, it answers the handshake of a socket that is closed here with a bare 403.
        code = 1013 if isinstance(error, TryLater) else 1008
        await socket.close(code=code, reason=close_reason(error.message))


def close_reason(message: str) -> str:
    """The part of a message that fits into a close frame."""
    return message.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


async def _unexpected(request: Request, error: Exception) -> Response:
    return unexpected_response(request, error)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ControlPlaneError, _control_plane_error)  # type: ignore[arg-type]  # both kinds
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
