"""Methods that are answered beside those of the routes, and what a call is called in metrics and in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_HEALTH = ("-plane/health", "-plane/health/detailed")
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def answers_head(path: str) -> bool:
    """Whether HEAD is answered as GET is, without the body. Load balancers send it to health checks and pages; the API's own
    other paths are left out, since some of them wait or stream."""
    return not path.startswith("/api/") or path.endswith(_HEALTH)


def shown_method(method: str) -> str:
    """The method of a call, which may be any word that its caller has sent; ``other`` if HTTP does not define it."""
    return method if method in _METHODS else "other"


def route_of(scope: Mapping[str, Any]) -> str:
    """The template of a call's path, which has none of its caller's words; ``unmatched`` if there is none."""
    return getattr(scope.get("route"), "path", None) or "unmatched"
