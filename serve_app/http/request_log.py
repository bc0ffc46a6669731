"""One line for each request, with its trace id, in the log of requests.

What workers send all the time (claims, heartbeats, reports) and reads are lines at debug level only, unless they fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from cluster.telemetry.log_files import REQUEST_LOGGER

#: The last parts of the routes that workers call all the time.
_FREQUENT: Final = ("/claim", "/complete", "/fail", "/stopped", "/extend", "/heartbeat", "/heartbeats")
_READS: Final = ("GET", "HEAD", "OPTIONS")
#: The status, in the log and in metrics alone, of a call whose caller hung up before it was answered. No answer has it: nobody
#: would get it. HTTP defines none; proxies (nginx) write this one.
HUNG_UP: Final = 499

_logger = logging.getLogger(REQUEST_LOGGER)


def request_level(method: str, template: str, status: int) -> int:
    """The level of a request's line."""
    if status >= 500:
        return logging.WARNING
    if status < 400 and (method in _READS or template.endswith(_FREQUENT)):
        return logging.DEBUG
    return logging.INFO


def log_request(method: str, path: str, template: str, status: int, seconds: float, client: Callable[[], str]) -> None:
    """Logs a request that is over. Neither its query nor its body, which may hold what must not be in a log."""
    level = request_level(method, template, status)
    if _logger.isEnabledFor(level):
        outcome = "ended with 499 (the caller hung up)" if status == HUNG_UP else f"answered {status}"
        _logger.log(level, "%s %s %s in %.1f ms for %s", method, path, outcome, seconds * 1000, client())
