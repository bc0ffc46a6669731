"""Why a call over the network failed, in words for people: the classes of errors are names that only programmers know."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

TLS_FAILS = "TLS fails"


def reason(error: BaseException) -> str:
    """The end of a sentence about an error of the network or of an HTTP client: what the system says, if it says something."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return TLS_FAILS
        if isinstance(cause, socket.gaierror):
            return (cause.strerror or "its name has no address").lower()
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return "no answer in time"
    return "the connection was lost"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
