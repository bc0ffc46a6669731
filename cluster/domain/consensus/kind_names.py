"""Names of kinds of questions, as clients choose them."""

from __future__ import annotations

from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.names import check_name

MAX_KIND_CHARS = 64


def checked_kind(value: Any, what: str) -> str | None:
    """The kind of a question: a name that people can read, None if there is none. ``what`` names the field in the error's text.

    Raises: ``InvalidRequest`` if it is no such name."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_KIND_CHARS:
        raise InvalidRequest(
            f"{what} must be a text of at most {MAX_KIND_CHARS} characters, such as law.", "invalid_kind"
        )
    return check_name(value, what)
