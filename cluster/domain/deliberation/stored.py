"""A deliberation as it is stored: the record, which readers see from the admission on, and the journal, which is the truth
and which a worker folds to resume. The protocol machine is in ``machine.py``.
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
    """A deliberation to admit. ``contract`` is JSON, ``contract_digest`` its SHA-256; times are epoch seconds."""

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
    """What came of an admission. ``replayed``: it was admitted before under this key or id. ``conflict``: the key or id is
    taken by another body."""

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
    """The record of a deliberation. ``owner`` is the worker that holds it, ``fence`` that worker's number."""

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
    #: The cause of the admission, and so of every row that follows from it.
    cause: str = ""
    #: When its words were erased, in epoch seconds; None if they were not.
    erased_at: float | None = None

    @property
    def changed_at(self) -> float:
        """When it ended, else was admitted, in epoch seconds."""
        return self.admitted_at if self.completed_at is None else self.completed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDeliberation:
    """What a worker gets when it takes a deliberation: the record with the worker's fence, and the journal to fold."""

    deliberation: Deliberation
    journal: tuple[JournalEvent, ...]
