"""The errors of calls: how they are told apart is in ``aragora_worker.api``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aragora_worker.base.errors import CallerError, ControlPlaneError, TryLater

#: The code of the error about a body that this client cannot write as JSON.
INVALID_BODY = "invalid_body"


class ApiError(CallerError):
    """The API refused the call. ``status`` is the HTTP status, and the sentence is the server's."""

    def __init__(self, message: str, code: str | None = None, status: int = 400) -> None:
        super().__init__(message, code)
        self.args = (message, code, status)
        self.status = status


class Unavailable(TryLater):
    """The API cannot do this now. ``wait_s`` is how long to wait first (its Retry-After), 0 if it does not say."""

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0) -> None:
        super().__init__(message, code)
        self.args = (message, code, wait_s)
        self.wait_s = wait_s


class OutcomeUnknown(Unavailable):
    """There was no answer, or not the API's (a proxy's, a login page): the call may be done or not. ``answered`` is the HTTP
    status of that answer."""

    default_code = "outcome_unknown"

    def __init__(self, message: str, code: str | None = None, wait_s: float = 0.0, answered: int | None = None) -> None:
        super().__init__(message, code, wait_s)
        self.args = (message, code, wait_s, answered)
        self.answered = answered


#: The codes of TryLater and its subclasses, for outcomes that have only a code (an answer with many outcomes).
FOR_LATER = frozenset(
    {
        "unavailable",
        "store_unavailable",
        "actor_unavailable",
        "misrouted",
        "overloaded",
        "rate_limited",
        "too_many_failures",
        "fenced",
        "epoch_replaced",
        "generation_replaced",
        "not_primary",
        "not_replicated",
        "stale_region",
        "copy_incomplete",
        "internal_error",
    }
)


class TaskNotCompleted(ControlPlaneError):
    """The task has ended without a result: it failed, was cancelled or took too long. ``task`` is what the API says of it."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        error = f": {task['error']}" if task.get("error") else ""
        super().__init__(f"Task {task['id']} {ENDED_HOW[task['status']]}{error}", f"task_{task['status']}")
        self.args = (task,)
        self.task = task


#: The statuses of tasks that have ended, with the words of errors.
ENDED_HOW: Mapping[str, str] = {
    "completed": "has completed",
    "failed": "has failed",
    "cancelled": "was cancelled",
    "timeout": "took too long",
}


def is_for_later(code: object) -> bool:
    """Whether a code says that the same may succeed later."""
    return code in FOR_LATER
