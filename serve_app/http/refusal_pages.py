"""What a person reads whose browser shows the answer to a login that was refused: the sentence of the error, and a way back."""

from __future__ import annotations

import html
import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cluster.domain.base.errors import ControlPlaneError
from serve_app.http.errors import control_plane_response

_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Not logged in</title>
<h1>You are not logged in</h1>
<p>{error}</p>
<p><a href="/">Log in again</a></p>
<p><small>{code}, trace {trace_id}</small></p>
</html>
"""


def wants_page(request: Request) -> bool:
    """Whether the answer is shown to a person. Programs name no HTML."""
    return "text/html" in request.headers.get("accept", "")


def refusal_page(request: Request, error: ControlPlaneError) -> Response:
    """The answer to an error, with its status and headers, as a page."""
    answer = control_plane_response(request, error)
    answered: dict[str, Any] = json.loads(bytes(answer.body))
    page = _PAGE.format(**{name: html.escape(str(answered[name])) for name in ("error", "code", "trace_id")})
    headers = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return HTMLResponse(page, answer.status_code, {**headers, "content-security-policy": _POLICY, "vary": "Accept"})
