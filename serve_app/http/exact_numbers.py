"""Bodies whose large numbers keep their digits, at routes that take results.

A panel member without an endpoint answers by the result of a task. What it answers is decided and signed in all its digits,
like the answers of agents that are called, so its report must not round them. Rejected: to read every body so. Numbers of
other bodies are settings, payloads and metadata, which readers in most languages take for doubles anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request

from cluster.domain.deliberation.numbers import exact_float

F = TypeVar("F", bound=Callable[..., Any])


def exact_numbers(endpoint: F) -> F:
    """Declares on an endpoint that the numbers of its body keep their digits (``Numeral``)."""
    endpoint.exact_numbers = True  # type: ignore[attr-defined]
    return endpoint


def float_reader(endpoint: Any) -> Callable[[str], float] | None:
    """What reads numbers with a fraction or an exponent in bodies for the endpoint, if not ``float``."""
    return exact_float if getattr(endpoint, "exact_numbers", False) else None


class ExactRequest(Request):
    """A request whose JSON keeps the digits of large numbers."""

    async def json(self) -> Any:
        """The body. Raises what ``json`` raises, since FastAPI words that for all routes."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), parse_float=exact_float)
        return self._json
