"""The ids that clients choose for deliberations, made unique over all workspaces.

A deliberation's id is the key of its row, its journal, its receipt and its calls to agents, and there is one such key for all
workspaces. So an id that a client chose outside of the default workspace gets the workspace's mark: it then neither meets an
id of another workspace nor tells that there is one. Keys of (workspace, id) in every table were rejected: receipts that are
signed and idempotency keys of calls hold the id alone. In the default workspace ids stay as they are, as earlier builds
stored them.
"""

from __future__ import annotations

import hashlib
import re

_MARK = re.compile(r"(.+)\.w-([0-9a-f]{16})", re.DOTALL)
#: An id with its mark has at most the 128 characters of an id.
_MOST = 128 - len(".w-") - 16


def request_id_in(workspace: str, home: str, chosen: str) -> str:
    """The id under which a deliberation is stored whose client chose ``chosen``. ``home`` is the default workspace. The stored id
    stands for itself."""
    marked = _MARK.fullmatch(chosen)
    if marked is None and workspace == home:
        return chosen
    if marked is not None and marked[2] == _digest(workspace, marked[1]):
        return chosen
    base = (
        chosen if len(chosen) <= _MOST else f"{chosen[: _MOST - 17]}.{hashlib.sha256(chosen.encode()).hexdigest()[:16]}"
    )
    return f"{base}.w-{_digest(workspace, base)}"


def _digest(workspace: str, base: str) -> str:
    return hashlib.sha256(f"{workspace}\0{base}".encode()).hexdigest()[:16]
