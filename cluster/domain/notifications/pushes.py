"""Pushes: what a client of A2A is told at its URL when the state of a task changes.

A push tells of the state alone, which follows from rows of the log: who wants the words reads the task, as far as it may. It
holds the newest state that its receiver has not taken, so a receiver that is away is told once, of how things are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.notifications.delivery import Delivery

#: Of a workspace and of a task.
MOST_PUSHES: Final = 2_000
MOST_OF_TASK: Final = 10
#: Characters of a token and of credentials.
MOST_SECRET: Final = 4_096

_COMPLETED: Final = "TASK_STATE_COMPLETED"
_FAILED: Final = "TASK_STATE_FAILED"
_CANCELED: Final = "TASK_STATE_CANCELED"
_WORKING: Final = "TASK_STATE_WORKING"
_INPUT_REQUIRED: Final = "TASK_STATE_INPUT_REQUIRED"
#: After the last of these nothing more is told.
ENDS: Final = (_COMPLETED, _FAILED, _CANCELED)
#: Kinds of rows of the log → the state of the protocol that begins with them.
STATES: Final[Mapping[str, str]] = {
    "task.claimed": _WORKING,
    "task.asked": _INPUT_REQUIRED,
    "task.answered": _WORKING,
    "task.completed": _COMPLETED,
    "task.failed": _FAILED,
    "task.timeout": _FAILED,
    "task.cancelled": _CANCELED,
    "deliberation.started": _WORKING,
    "deliberation.input_required": _INPUT_REQUIRED,
    "deliberation.input_answered": _WORKING,
    "deliberation.completed": _COMPLETED,
    "deliberation.failed": _FAILED,
    "deliberation.cancelled": _CANCELED,
}

_SCHEME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSecret:
    """What the client wants to be shown: a token, and the header Authorization of a scheme."""

    token: str = field(default="", repr=False)
    scheme: str = ""
    credentials: str = field(default="", repr=False)

    def document(self) -> bytes:
        return json.dumps([self.token, self.scheme, self.credentials]).encode()

    @classmethod
    def of_document(cls, document: bytes) -> PushSecret:
        token, scheme, credentials = json.loads(document)
        return cls(token=token, scheme=scheme, credentials=credentials)

    def check(self) -> None:
        """Raises: `InvalidRequest` if it cannot be sent in headers."""
        if self.scheme and not _SCHEME.fullmatch(self.scheme):
            raise InvalidRequest("authentication.scheme must be the name of a scheme, such as Bearer.", "invalid_push")
        if bool(self.scheme) != bool(self.credentials):
            raise InvalidRequest("authentication needs both scheme and credentials.", "invalid_push")
        for what, text in (("token", self.token), ("authentication.credentials", self.credentials)):
            if text and (len(text) > MOST_SECRET or not _HEADER_VALUE.fullmatch(text)):
                raise InvalidRequest(
                    f"{what} must be at most {MOST_SECRET} printable ASCII characters, without space at its ends.",
                    "invalid_push",
                )

    @property
    def is_empty(self) -> bool:
        return not (self.token or self.scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPush:
    """``id``: by which its client knows it, for each task. ``origin``: scheme, host and port of the URL.
    ``in_context``: its client knows the conversation of the task."""

    workspace: str
    task_id: str
    id: str
    principal: str
    created_at: float
    url: str
    origin: str
    in_context: bool
    secret: PushSecret

    @property
    def push_id(self) -> str:
        return push_id_of(self.workspace, self.task_id, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPush:
    """What a client is shown of a push: no secret."""

    id: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Delivery):
    """A push with what it is to tell: that the task has been in ``state`` since ``at`` (epoch seconds), by the row ``seq`` of the
    log. ``problem``: why its secret cannot be opened, if it cannot."""

    push_id: str
    workspace: str
    task_id: str
    context_id: str
    url: str
    origin: str
    seq: int
    state: str
    at: float
    secret: PushSecret = PushSecret()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A row of the log after which a task is in another state."""

    workspace: str
    task_id: str
    seq: int
    state: str
    at: float


def push_id_of(workspace: str, task_id: str, id: str) -> str:
    """What stands for a push in the log and at its receiver."""
    return f"push_{hashlib.sha256(chr(0).join((workspace, task_id, id)).encode()).hexdigest()[:40]}"


def push_body(push: Push) -> bytes:
    """The event of the protocol, as a stream of it has one."""
    since = datetime.fromtimestamp(push.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    update = {
        "taskId": push.task_id,
        "contextId": push.context_id,
        "status": {"state": push.state, "timestamp": since},
    }
    return json.dumps({"statusUpdate": update}, ensure_ascii=False, separators=(",", ":")).encode()


def push_headers(push: Push) -> dict[str, str]:
    """With the token under the names that the protocol's packages read (Python's, Go's). ``webhook-id`` is the same at
    each attempt to tell of one state."""
    secret = push.secret
    headers = {"content-type": "application/json", "webhook-id": f"{push.push_id}.{push.seq}"}
    if secret.token:
        headers |= {"x-a2a-notification-token": secret.token, "a2a-notification-token": secret.token}
    if secret.scheme:
        headers["authorization"] = f"{secret.scheme} {secret.credentials}"
    return headers


def changes_wire(changes: Iterable[StateChange]) -> list[dict[str, Any]]:
    return [
        {"workspace": it.workspace, "task_id": it.task_id, "seq": it.seq, "state": it.state, "at": it.at}
        for it in changes
    ]
