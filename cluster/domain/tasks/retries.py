"""When a task is tried again, and after how long."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.domain.tasks.task import TaskHead


class ErrorClass(StrEnum):
    """``malformed``: the attempt's answer could not be kept or read. Tried again like any other."""

    RETRYABLE = "retryable"
    NOT_RETRYABLE = "not_retryable"
    RATE_LIMITED = "rate_limited"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """``base_s * factor ** (n - 1)`` before the n-th retry, at most ``cap_s``; ``jitter`` is the share taken away at
    random, so that tasks that failed together do not come back together."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter: float = 0.5

    def delay_s(self, retry: int, seed: str) -> float:
        """The same for the same seed: a decision that is made again after a restart is the same decision."""
        exponent = min(retry - 1, 64)
        full = min(self.cap_s, self.base_s * self.factor**exponent)
        digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
        return full * (1.0 - self.jitter * int.from_bytes(digest, "big") / 2**64)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``rate_limited`` has its own clock: the peer's ``retry_after_s`` where it names one, else slower steps."""

    retryable: Backoff = field(default_factory=Backoff)
    rate_limited: Backoff = field(default_factory=lambda: Backoff(base_s=15.0, cap_s=900.0))
    cancel_grace_s: float = 10.0

    def delay_s(self, head: TaskHead, error_class: ErrorClass, retry_after_s: float | None) -> float:
        """Before the retry that follows the present attempt of ``head``."""
        backoff = self.rate_limited if error_class is ErrorClass.RATE_LIMITED else self.retryable
        delay = backoff.delay_s(head.retries + 1, f"{head.id}/{head.attempt}")
        return delay if retry_after_s is None else max(delay, min(retry_after_s, backoff.cap_s))
