"""The errors that both ends of the API raise, named by whose fault they are.

    ControlPlaneError
    ├── CallerError          the request is wrong; repeating it changes nothing
    │   ├── InvalidRequest   a field is missing or has a value that is not accepted
    │   ├── NotFound         the named thing does not exist in this workspace
    │   └── TooLarge         the body or batch is over its bound
    └── TryLater             the request is fine, it cannot be served now

What the client adds is in ``aragora_worker.api``. Positional arguments only, so that every error pickles unchanged.
"""

from __future__ import annotations


class ControlPlaneError(Exception):
    """``message`` is one sentence that says what to do, ``code`` a stable code for programs."""

    status = 500
    default_code = "internal_error"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code or self.default_code

    def __str__(self) -> str:
        return self.message


class CallerError(ControlPlaneError):
    status = 400
    default_code = "invalid_request"


class InvalidRequest(CallerError):
    status = 400
    default_code = "invalid_request"


class NotFound(CallerError):
    status = 404
    default_code = "not_found"


class TooLarge(CallerError):
    status = 413
    default_code = "too_large"


class TryLater(ControlPlaneError):
    status = 503
    default_code = "unavailable"
    retry_after_s = 1
