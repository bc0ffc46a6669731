"""How long a task waits before it is tried again. Whether it is, ``steps.py`` decides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.domain.tasks.task import TaskHead


class ErrorClass(StrEnum):
    """Why an attempt failed. ``malformed``: its answer could not be stored or read; it is retried like ``retryable``."""

    RETRYABLE = "retryable"
    NOT_RETRYABLE = "not_retryable"
    RATE_LIMITED = "rate_limited"
    MALFORMED = "malformed"


#: The longest wait that an agent can ask for. Its own backoff's cap does not apply: a server that says when it can be asked
#: again knows better, and attempts before that are spent for nothing. A task that cannot wait so long has a total time.
MAX_RETRY_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits ``base_s * factor ** (n - 1)`` before the n-th retry, at most ``cap_s``.

    ``jitter`` is the share of that time that may be taken off at random, so that tasks that failed together are not all
    retried at once."""

    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter: float = 0.5

    def delay_s(self, retry: int, seed: str) -> float:
        """Seconds to wait. The randomness comes from ``seed``, so that a step made again after a restart gives the same time."""
        exponent = min(retry - 1, 64)  # beyond, the power of a large factor would overflow
        full = min(self.cap_s, self.base_s * self.factor**exponent)
        digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
        return full * (1.0 - self.jitter * int.from_bytes(digest, "big") / 2**64)


#: So many attempts of a task that cost no retry are followed by the next one at once.
FREE_AT_ONCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``rate_limited`` failures wait longer than ``retryable`` ones, and attempts that were given back again and again wait a
    little (``given_back``). ``cancel_grace_s`` is how long a holder has to stop."""

    retryable: Backoff = field(default_factory=Backoff)
    rate_limited: Backoff = field(default_factory=lambda: Backoff(base_s=15.0, cap_s=900.0))
    given_back: Backoff = field(default_factory=lambda: Backoff(cap_s=60.0))
    cancel_grace_s: float = 10.0

    def delay_s(self, head: TaskHead, error_class: ErrorClass, retry_after_s: float | None) -> float:
        """Seconds to wait after the present attempt of ``head``: at least as long as the agent asks for by ``retry_after_s``,
        which counts up to ``MAX_RETRY_AFTER_S``."""
        backoff = self.rate_limited if error_class is ErrorClass.RATE_LIMITED else self.retryable
        delay = backoff.delay_s(head.retries + 1, f"{head.id}/{head.attempt}")
        return delay if retry_after_s is None else max(delay, min(retry_after_s, MAX_RETRY_AFTER_S))

    def given_back_delay_s(self, head: TaskHead) -> float:
        """Seconds to wait after ``head``'s present attempt was given back: none at first, but a worker that gives back whatever
        it gets must not keep the scheduler busy for ever.

        It counts the attempts that cost no retry, which the head knows without a counter of its own."""
        free = head.attempt - head.retries
        return (
            0.0 if free <= FREE_AT_ONCE else self.given_back.delay_s(free - FREE_AT_ONCE, f"{head.id}/{head.attempt}")
        )
