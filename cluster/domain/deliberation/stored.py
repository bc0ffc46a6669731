"""A deliberation as stored and as readers see it. Its protocol machine lives in ``cluster/domain/deliberation/``.

The record is what a reader gets from the first moment on; the journal is the truth that a worker folds to resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.log import Origin
from cluster.domain.tasks.task import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeliberation:
    """An admission. ``contract`` is frozen JSON; ``contract_digest`` its SHA-256; ``deadline_at`` epoch seconds."""

    request_id: str
    task_id: str
    origin: Origin
    admitted_at: float
    deadline_at: float
    contract: Mapping[str, Any]
    contract_digest: bytes
    mode: str  # sync | async
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """``replayed``: an earlier admission under the same key or id; ``conflict``: the same key with another body."""

    request_id: str
    seq: int | None
    replayed: bool = False
    conflict: bool = False


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEvent:
    """One journalled step. ``n`` counts from 1 per deliberation without gaps; ``data`` is JSON."""

    n: int
    at: float
    kind: str
    data: Mapping[str, Any]


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class JournalAppend:
    """Events to append under a worker's fence, the record's new columns, and the log rows that announce them.

    ``log`` maps an event's position in ``events`` to the (kind, data, words) of its log row: metadata, and previews only.
    """

    request_id: str
    workspace: str
    fence: int
    events: tuple[JournalEvent, ...]
    log: tuple[tuple[int, str, Mapping[str, Any], Mapping[str, Any]], ...] = ()
    state: str | None = None
    terminal: str | None = None
    result: Mapping[str, Any] | None = None
    completed_at: float | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliberation:
    request_id: str
    task_id: str
    workspace: str
    principal: str
    admitted_at: float
    deadline_at: float
    contract: Mapping[str, Any]
    contract_digest: bytes
    mode: str
    state: str  # ADMITTED, SCHEDULED, PROPOSE, ..., or the terminal
    terminal: str | None
    result: Mapping[str, Any] | None
    completed_at: float | None
    owner: str | None
    fence: int
    events: int
    cancel_requested: bool = False
    #: What it was admitted by, and so the cause of all that follows.
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDeliberation:
    """What a worker that takes one gets: the record with its own fence, and the journal to fold."""

    deliberation: Deliberation
    journal: tuple[JournalEvent, ...]
