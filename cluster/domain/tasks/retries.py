"""How long a task waits before it is tried again. Whether it is, ``steps.py`` decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from cluster.domain.base.errors import InvalidRequest

if TYPE_CHECKING:  # a task's head holds its rules, and these its own retries
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


#: What an attempt that ran too long counts as among the codes of failures.
RUN_TIMEOUT: Final = "run_timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRetries:
    """How one task wants to be tried again; None is as usual. ``initial_s``, ``factor`` and ``cap_s`` are of the waits after
    failures; those after ``rate_limited`` stay longer, up to the cap. A failure with one of the codes ``non_retryable`` ends the
    task. ``calls``: how often one attempt may call an agent that is unavailable."""

    initial_s: float | None = None
    factor: float | None = None
    cap_s: float | None = None
    non_retryable: tuple[str, ...] = ()
    calls: int = 1

    def backoff(self, usual: Backoff, error_class: ErrorClass) -> Backoff:
        """The waits after failures of a class."""
        cap_s = usual.cap_s if self.cap_s is None else self.cap_s
        if error_class is ErrorClass.RATE_LIMITED:
            return replace(usual, cap_s=cap_s)
        base_s = usual.base_s if self.initial_s is None else self.initial_s
        factor = usual.factor if self.factor is None else self.factor
        return replace(usual, base_s=base_s, factor=factor, cap_s=cap_s)

    def to_json(self) -> dict[str, Any]:
        """Only the fields that differ from their defaults."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {
            name: value for name, value in data.items() if value not in (None, ()) and (name, value) != ("calls", 1)
        }
        return kept | ({"non_retryable": list(self.non_retryable)} if self.non_retryable else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskRetries:
        return cls(**{**data, "non_retryable": tuple(data.get("non_retryable", ()))})


def checked_retries(retries: TaskRetries) -> TaskRetries | None:
    """The retries, or None if they are as usual.

    Raises: `InvalidRequest` if the first wait is longer than the longest."""
    if retries.initial_s is not None and retries.cap_s is not None and retries.initial_s > retries.cap_s:
        raise InvalidRequest("retry.initial_seconds must not be more than retry.cap_seconds.", "invalid_retry")
    return None if retries == TaskRetries() else retries


def ends_the_task(head: TaskHead, *codes: str | None) -> bool:
    """Whether a failure with one of the codes is one after which the task is not tried again."""
    own = None if head.rules is None else head.rules.retries
    return own is not None and not set(codes).isdisjoint(own.non_retryable)


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
        if head.rules is not None and head.rules.retries is not None:
            backoff = head.rules.retries.backoff(backoff, error_class)
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
