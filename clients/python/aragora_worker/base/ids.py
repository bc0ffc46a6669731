"""Ids that clients choose.

A client's id becomes a path segment (the released client does not URL-encode it), the entity of a log row and a member of
a Redis set. So it may have only characters that are safe in all three, and must not be a word of a route.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from aragora_worker.base.errors import InvalidRequest

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}"
ROUTE_WORDS = frozenset(
    {"history", "claim", "batch", "stats", "detailed", "heartbeats", "complete", "fail", "replay", "purge"}
)
_ID = re.compile(ID_PATTERN)
#: How the id of a claim begins that names its process. Stored with leases, so it keeps its text.
_PROCESS = "process:"


def check_id(value: object, what: str) -> str:
    """Returns the id if it is one. ``what`` names the field in the error's text.

    Raises: `InvalidRequest` if the value is no id, or is a word of a route."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise InvalidRequest(
            f"{what} must be 1 to 128 characters from A-Z a-z 0-9 . _ : @ - and start with a letter or digit.",
            "invalid_id",
        )
    if value in ROUTE_WORDS:
        raise InvalidRequest(f"{what} must not be {value!r}, which is a word of the API's own paths.", "invalid_id")
    return value


def claim_id_of(process: str, unique: str) -> str:
    """The id of a claim that names the process which makes it. Being the claim's id, it is stored with every lease that the
    claim gets, so it also tells the leases of an agent's processes apart after a restart of the scheduler."""
    return f"{_PROCESS}{process}:{unique}"


def process_of(claim_id: str | None) -> str | None:
    """The process that a claim names by its id; None if it names none, as claims of other clients do."""
    if claim_id is None or not claim_id.startswith(_PROCESS):
        return None
    process, colon, _ = claim_id[len(_PROCESS) :].partition(":")
    return process if process and colon else None


def path_segment(value: str) -> str:
    """An id as one segment of a URL's path, encoded: a ``?`` or ``#`` in it would end the path, which then names another id.

    ``.``, ``..`` and what holds ``/`` are refused and not encoded, since servers decode a path before they choose its route.

    Raises: `InvalidRequest` if the value cannot be one segment."""
    try:
        encoded = quote(value, safe="")
    except UnicodeEncodeError:  # bytes of a command line that are no text
        encoded = ""
    if encoded in ("", ".", "..") or "/" in value:
        shown = value.encode(errors="replace").decode()
        raise InvalidRequest(f'"{shown}" is not an id; name the task, agent or deliberation.', "invalid_id")
    return encoded
