"""A token bucket as a value: how long a call has to wait so that an agent's rate is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBucket:
    """``per_s`` tokens come in a second, up to ``burst``. ``tokens`` below 0 are promised to calls that wait."""

    per_s: float
    burst: int
    tokens: float
    at: float

    @classmethod
    def of(cls, rate: Any, now: float) -> TokenBucket | None:
        """From a registration's ``rate``; None where there is none."""
        if not isinstance(rate, Mapping) or not isinstance(rate.get("per_minute"), int | float):
            return None
        burst = max(1, int(rate.get("burst", 1)))
        return cls(per_s=rate["per_minute"] / 60, burst=burst, tokens=float(burst), at=now)


def take(bucket: TokenBucket, now: float) -> tuple[TokenBucket, float]:
    """A token, and the seconds until it may be used."""
    tokens = min(float(bucket.burst), bucket.tokens + max(0.0, now - bucket.at) * bucket.per_s) - 1.0
    return replace(bucket, tokens=tokens, at=max(now, bucket.at)), max(0.0, -tokens / bucket.per_s)


def refund(bucket: TokenBucket) -> TokenBucket:
    """The token of a call that did not wait."""
    return replace(bucket, tokens=min(float(bucket.burst), bucket.tokens + 1.0))
