"""What every answer tells a browser: not to guess, keep, frame or hand on anything.

The values for answers that are no pages are in `cluster.process.front`, since HAProxy gives them to its own answers.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Final

from starlette.types import Message, Send

from cluster.process.front import HSTS, SECURITY_HEADERS

_ALL: Final = tuple((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items())
_HSTS: Final = tuple(text.encode() for text in HSTS)
_POLICY: Final = b"content-security-policy"
_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
#: The pages that describe the API are FastAPI's, which load these packages. Their own scripts count by their hashes.
_PACKAGES: Final = ("https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/", "https://cdn.jsdelivr.net/npm/redoc@2/")
_STARTS: Final = ("http.response.start", "websocket.http.response.start")


def with_security_headers(headers: Iterable[tuple[bytes, bytes]], uses_tls: bool) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that it lacks."""
    given = list(headers)
    present = {name.lower() for name, _ in given}
    more = (*_ALL, _HSTS) if uses_tls else _ALL
    return given + [(name, value) for name, value in more if name not in present]


def page_policy(page: bytes) -> bytes:
    """The policy of a page: the scripts that are in it now, and those of the packages that it names."""
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page)]
    scripts = " ".join([*_PACKAGES, *(f"'sha256-{digest}'" for digest in digests)])
    return (
        f"default-src 'none'; script-src {scripts}; "
        f"style-src 'unsafe-inline' {_PACKAGES[0]} https://fonts.googleapis.com; font-src https://fonts.gstatic.com; "
        "img-src data: https://fastapi.tiangolo.com https://cdn.redoc.ly; connect-src 'self'; worker-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ).encode()


def securing(send: Send, uses_tls: bool) -> Send:
    """``send`` that completes the headers. The head of a page without a policy of its own waits for its body, of which the policy
    is made."""
    waiting: list[Message] = []

    async def secured(message: Message) -> None:
        if message["type"] in _STARTS:
            given = list(message.get("headers", ()))
            message["headers"] = with_security_headers(given, uses_tls)
            if _is_page(given) and not any(name == _POLICY for name, _ in given):
                waiting.append(message)
                return
        elif waiting:
            head = waiting.pop()
            policy = page_policy(message.get("body", b""))
            head["headers"] = [(name, policy if name == _POLICY else value) for name, value in head["headers"]]
            await send(head)
        await send(message)

    return secured


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers)
