"""A token bucket as a value: how long a call to an agent has to wait to keep the agent's rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.domain.agents.options import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBucket:
    """``per_s`` tokens come in a second, up to ``burst``. ``tokens`` is below 0 if calls wait for tokens that will come."""

    per_s: float
    burst: int
    tokens: float
    at: float

    @classmethod
    def of(cls, rate: Rate, now: float) -> TokenBucket:
        """A full bucket for the rate of a registration."""
        return cls(per_s=rate.per_minute / 60, burst=rate.burst, tokens=float(rate.burst), at=now)


def take(bucket: TokenBucket, now: float) -> tuple[TokenBucket, float]:
    """The bucket without one token, and the seconds until the call that took it may be made."""
    tokens = min(float(bucket.burst), bucket.tokens + max(0.0, now - bucket.at) * bucket.per_s) - 1.0
    return replace(bucket, tokens=tokens, at=max(now, bucket.at)), max(0.0, -tokens / bucket.per_s)


def refund(bucket: TokenBucket) -> TokenBucket:
    """The bucket with a token put back, for a call that is not made because it would have to wait too long."""
    return replace(bucket, tokens=min(float(bucket.burst), bucket.tokens + 1.0))
