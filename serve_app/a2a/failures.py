"""Errors of the protocol, in the words of the API: a sentence that says what to do, a code and a trace id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from a2a.utils.error_handlers import build_error_details
from a2a.utils.errors import (
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.http.errors import response_to
from serve_app.http.route_calls import Refused

RpcId = str | int | None

#: Codes of the API that the protocol has errors of its own for.
_KINDS: Final[Mapping[str, type[A2AError]]] = {
    "already_terminal": TaskNotCancelableError,
    "no_open_question": UnsupportedOperationError,
    "already_answered": UnsupportedOperationError,
}
#: Statuses by which HTTP itself says what is the matter. A refusal of a caller is one whatever the protocol, and so is an
#: overload.
_OF_HTTP: Final = frozenset({401, 403, 408, 413, 429})


def failure(request: Request, rpc_id: RpcId, error: Exception) -> Response:
    """The answer to a call that failed, whatever it has failed of. What is not the caller's fault is told without detail."""
    if isinstance(error, A2AError):
        return rpc_error(request, rpc_id, error)
    answer: Mapping[str, Any]
    if isinstance(error, Refused):
        status, answer, headers = error.status, error.error, {}
    else:
        response = response_to(request, error)
        status, answer = response.status_code, json.loads(bytes(response.body))
        headers = {name: text for name, text in response.headers.items() if name in ("retry-after", "www-authenticate")}
    if status in _OF_HTTP:
        return JSONResponse(dict(answer), status_code=status, headers=headers)
    return rpc_error(request, rpc_id, of_answer(status, answer))


def of_answer(status: int, answer: Mapping[str, Any]) -> A2AError:
    """The error of the protocol that says what an answer of a route with an error says."""
    code = str(answer["code"])
    kind = _KINDS.get(code, InvalidParamsError)
    if status in (404, 410):
        kind = TaskNotFoundError
    elif status >= 500:
        kind = InternalError
    return kind(str(answer["error"]), {"code": code, "trace_id": str(answer["trace_id"])})


def rpc_error(request: Request, rpc_id: RpcId, error: A2AError) -> Response:
    return JSONResponse(error_body(request, rpc_id, error))


def error_body(request: Request, rpc_id: RpcId, error: A2AError) -> dict[str, Any]:
    """An error as JSON-RPC has it. Its data are those that the protocol wants, with the trace id."""
    trace_id = request.scope["state"]["trace_id"]
    told = type(error)(error.message, {"trace_id": trace_id, **(error.data or {})})
    return {
        "jsonrpc": "2.0",
        "id": rpc_id,
        "error": {
            "code": JSON_RPC_ERROR_CODE_MAP[type(error)],
            "message": error.message,
            "data": build_error_details(told),
        },
    }
