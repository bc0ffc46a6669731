"""The log: one append-only sequence per region that is event stream, audit trail and replication stream at once.

A record is what a writer hands to a commit; a row is a record that has its number (``seq``). Sequence order is commit
order and has no gaps. The digest binds a row's content, not its number: the order is bound by the sealer that chains
the digests later, so that the commit itself stays one round trip.

``data`` holds identities, states, numbers and times. Words that somebody wrote (summaries, previews, error texts) are
``private``: the digest binds them by the hash of a salted text, so they can be deleted and the row still verifies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.compact import compact

LOCAL_ADMIN = "user:local-admin"
SYSTEM = "system"


#: The digest's forms. Rows of the first form have neither cause, epoch, zone nor a private part.
FIRST_FORM = 1
SECOND_FORM = 2


#: Of a text in ``data``: it names something (an id, or a name that whoever runs the fleet gave).
IDENTITY: frozenset[str] | None = None
#: By field, what the texts of a kind's ``data`` may be: identities, or of a closed set. Declared beside what makes the rows.
LogTexts = Mapping[str, frozenset[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks, in which workspace, and by what (``LogRecord.cause``): travels with every mutation down to its log row."""

    workspace: str
    principal: str = LOCAL_ADMIN
    cause: str = ""


def caused_by_row(seq: int) -> str:
    """The cause of what a row of the log led to. No trace id has a ``#``, so that none can pass for a row."""
    return f"#{seq}"


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A change that is about to be committed. ``at`` is epoch seconds of the writer's clock.

    ``cause`` is the trace id of the request that led to the change, or the row that did (``caused_by_row``); it is empty
    where nothing but time did. ``private`` are words, None where nobody wrote any.
    """

    at: float
    workspace: str
    kind: str
    entity: str
    attempt: int | None = None
    principal: str = SYSTEM
    cause: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, Any] | None = None

    def data_json(self) -> str:
        return canonical_json(self.data)

    def private_text(self, salt: str) -> str | None:
        """What is stored. The salt keeps short words from being guessed by their hash once they are deleted."""
        if self.private is None:
            return None
        # The canonical form of the object of both, without a dictionary and its sorting for each row of the log.
        return f'{{"salt":"{salt}","words":{canonical_json(self.private)}}}'

    def digest(self, *, epoch: int, zone: str, data_json: str, private_digest: bytes | None) -> bytes:
        return row_digest(
            _micros(self.at),
            epoch,
            self.attempt,
            (self.workspace, self.kind, self.entity, self.principal, self.cause, zone, data_json),
            private_digest,
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A committed record. ``data`` is parsed, ``data_json`` and ``private_json`` are the stored texts that the digest
    covers; ``private_json`` is None where there are no words, or none any more. ``v`` is the digest's form."""

    seq: int
    at: float
    workspace: str
    kind: str
    entity: str
    attempt: int | None
    principal: str
    data: Mapping[str, Any]
    digest: bytes
    data_json: str = ""
    epoch: int = 0
    cause: str = ""
    zone: str = ""
    private_json: str | None = None
    private_digest: bytes | None = None
    v: int = FIRST_FORM

    @property
    def private(self) -> Mapping[str, Any]:
        """The words, empty where there are none."""
        if self.private_json is None:
            return {}
        words: Mapping[str, Any] = json.loads(self.private_json)["words"]
        return words

    def whole_data(self) -> dict[str, Any]:
        """Data and words together, for readers who may see both."""
        words = self.private
        return dict(sorted({**self.data, **words}.items())) if words else dict(self.data)

    def verifies(self) -> bool:
        """Whether the digest is that of the row's content. Words that were deleted are not missed; changed ones are."""
        if self.v == FIRST_FORM:
            texts = (self.workspace, self.kind, self.entity)
            return self.digest == first_digest(_micros(self.at), *texts, self.attempt, self.principal, self.data_json)
        if self.v != SECOND_FORM:
            return False
        if self.private_json is not None and private_digest(self.private_json) != self.private_digest:
            return False
        columns = (self.workspace, self.kind, self.entity, self.principal, self.cause, self.zone, self.data_json)
        return self.digest == row_digest(_micros(self.at), self.epoch, self.attempt, columns, self.private_digest)


def _micros(at: float) -> int:
    return round(at * 1_000_000)


#: Made once: `json.dumps` makes a new encoder at every call with options.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """Sorted keys, no white space, UTF-8 kept. Non-finite numbers are refused, as JSON has none."""
    return _CANONICAL(value)


def private_digest(text: str) -> bytes:
    """SHA-256 of the stored text of a private part."""
    return hashlib.sha256(text.encode()).digest()


def row_digest(
    at_us: int, epoch: int, attempt: int | None, columns: Sequence[str], private_digest: bytes | None
) -> bytes:
    """The second form. ``columns`` are workspace, kind, entity, principal, cause, zone and data.

    SHA-256 over a line of numbers (the form, time in microseconds, epoch, attempt or ``-``, and how many bytes each column
    has), then the columns, then the digest of the private part. The lengths come first, so that no two rows share a
    preimage, and the form, so that no row of one form passes for one of another.
    """
    texts = [column.encode() for column in columns]
    number = "-" if attempt is None else attempt
    line = f"log-2 {at_us} {epoch} {number} {' '.join([str(len(text)) for text in texts])}\n"
    return hashlib.sha256(b"".join((line.encode(), *texts, private_digest or b""))).digest()


def first_digest(
    at_us: int, workspace: str, kind: str, entity: str, attempt: int | None, principal: str, data_json: str
) -> bytes:
    """The first form: SHA-256 over the row's columns, each preceded by its length."""
    number = "" if attempt is None else str(attempt)
    preimage = bytearray()
    for part in (str(at_us), workspace, kind, entity, number, principal, data_json):
        encoded = part.encode()
        preimage += len(encoded).to_bytes(4, "big")
        preimage += encoded
    return hashlib.sha256(preimage).digest()


def record_for(
    origin: Origin,
    at: float,
    kind: str,
    entity: str,
    data: Mapping[str, Any] | None = None,
    private: Mapping[str, Any] | None = None,
) -> LogRecord:
    """A log record that carries the asker's workspace and principal, and the cause of what it asks."""
    return LogRecord(
        at=at,
        workspace=origin.workspace,
        kind=kind,
        entity=entity,
        principal=origin.principal,
        cause=origin.cause,
        data=data or {},
        private=private,
    )
