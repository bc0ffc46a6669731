"""Methods that are answered beside those of the routes."""

from __future__ import annotations

_HEALTH = ("-plane/health", "-plane/health/detailed")


def answers_head(path: str) -> bool:
    """Whether HEAD is answered as GET is, without the body. Load balancers send it to health checks and pages; the API's own
    other paths are left out, since some of them wait or stream."""
    return not path.startswith("/api/") or path.endswith(_HEALTH)
