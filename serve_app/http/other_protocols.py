"""What the layers of other protocols (MCP, A2A) refuse alike, before anything of a call is read."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from serve_app.auth.admission import let_in
from serve_app.http.errors import error_response, response_to

JSON: Final = "application/json"


async def refusal(request: Request) -> Response | None:
    """The answer to what is no POST of JSON by a caller who is let in; None if it is one. What the caller may do is decided for
    each call of a route."""
    try:
        await let_in(request)
    except Exception as error:  # noqa: BLE001 - it becomes the answer, as of any route
        return response_to(request, error)
    if request.method != "POST":
        return wrong_method(request, "POST")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        message = f"Send JSON with the header Content-Type: {JSON}."
        return error_response(415, message, "unsupported_media_type", request.scope["state"]["trace_id"])
    return None


def wrong_method(request: Request, allowed: str) -> Response:
    message = f"{request.method} is not a method of {request.url.path}; send {allowed}."
    trace_id = request.scope["state"]["trace_id"]
    return error_response(405, message, "method_not_allowed", trace_id, {"Allow": allowed})
