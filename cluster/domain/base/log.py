"""The log: one append-only sequence per region that is event stream, audit trail and replication stream at once.

A record is what a writer gives to a commit; a row is a record that has its number (``seq``). Sequence order is commit order
and has no gaps. The digest covers a row's content and not its number. Nothing chains the digests inside the commit, which
therefore stays one round trip: whoever chains rows does it afterwards, by reading them in order.

``data`` holds identities, states, numbers and times. Words that somebody wrote (summaries, previews, error texts) are in
``private``. The digest covers them only by the hash of a salted text, so they can be deleted and the row still verifies.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.compact import compact
from cluster.domain.base.json_writing import canonical_json

LOCAL_ADMIN = "user:local-admin"
SYSTEM = "system"
#: Who claims and reports for agents that are called.
HOST_PRINCIPAL = "system:agent-host"


#: The digest's forms. Rows of the first form have neither cause, epoch, zone nor a private part.
FIRST_FORM = 1
SECOND_FORM = 2
_DIGEST_BYTES = 32


#: Says that a text in ``data`` may be any name: an id, or a name that a client or an operator chose.
IDENTITY: frozenset[str] | None = None
#: Field of ``data`` → the texts that it may hold: any name (``IDENTITY``), or one of a closed set. Each module that makes rows
#: declares its own.
LogTexts = Mapping[str, frozenset[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks, in which workspace, and what caused it (``LogRecord.cause``). Every change carries it to its log row."""

    workspace: str
    principal: str = LOCAL_ADMIN
    cause: str = ""


def caused_by_row(seq: int) -> str:
    """The cause that names a row of the log. No trace id has a ``#``, so a trace id is never taken for a row."""
    return f"#{seq}"


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A change that is about to be committed. ``at`` is epoch seconds of the writer's clock.

    ``cause`` is the trace id of the request that led to the change, or names the row that did (``caused_by_row``). It is
    empty if only time did (a timer). ``private`` holds words that somebody wrote, None if there are none.

    ``data_text`` and ``words_text`` are the canonical JSON of ``data`` and ``private``, if that was made with the record; empty
    if the commit has to make it.
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
    data_text: str = field(default="", compare=False)
    words_text: str = field(default="", compare=False)

    def data_json(self) -> str:
        return self.data_text or canonical_json(self.data)

    def private_text(self, salt: str) -> str | None:
        """The stored text of the private part. Its hash outlives it, so the salt keeps short words from being guessed by it."""
        if self.private is None:
            return None
        # The canonical form of the object of both, without a dictionary and its sorting for each row of the log.
        return f'{{"salt":"{salt}","words":{self.words_text or canonical_json(self.private)}}}'

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
    """A committed record. ``data`` is parsed; ``data_json`` and ``private_json`` are the stored texts that the digest covers.

    ``private_json`` is None if there were no words or they were deleted. ``v`` is the digest's form."""

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
        """The words of the private part; empty if there are none."""
        if self.private_json is None:
            return {}
        words: Mapping[str, Any] = json.loads(self.private_json)["words"]
        return words

    def whole_data(self) -> dict[str, Any]:
        """Data and private words together, for readers who may see both."""
        words = self.private
        return dict(sorted({**self.data, **words}.items())) if words else dict(self.data)

    def open_data(self) -> dict[str, Any]:
        """Data without words, for readers who may not see them. A row of the first form has its words among its data: of that,
        only what is no text."""
        if self.v != FIRST_FORM:
            return dict(self.data)
        return {name: value for name, value in self.data.items() if isinstance(value, int | float | None)}

    def verifies(self) -> bool:
        """Whether the digest fits the row's content. A row whose words were deleted still verifies; one whose words were
        changed does not."""
        if not math.isfinite(self.at):
            return False
        if self.v == FIRST_FORM:
            # What the form does not cover must be what the form has there; else it could be changed unseen.
            if (self.epoch, self.cause, self.zone, self.private_json, self.private_digest) != (0, "", "", None, None):
                return False
            texts = (self.workspace, self.kind, self.entity)
            return self.digest == first_digest(_micros(self.at), *texts, self.attempt, self.principal, self.data_json)
        if self.v != SECOND_FORM:
            return False
        if self.private_digest is not None and len(self.private_digest) != _DIGEST_BYTES:
            return False  # the digest would take an empty one for none
        if self.private_json is not None and private_digest(self.private_json) != self.private_digest:
            return False
        columns = (self.workspace, self.kind, self.entity, self.principal, self.cause, self.zone, self.data_json)
        return self.digest == row_digest(_micros(self.at), self.epoch, self.attempt, columns, self.private_digest)


def _micros(at: float) -> int:
    return round(at * 1_000_000)


def private_digest(text: str) -> bytes:
    """SHA-256 of the stored text of a private part."""
    return hashlib.sha256(text.encode()).digest()


def row_digest(
    at_us: int, epoch: int, attempt: int | None, columns: Sequence[str], private_digest: bytes | None
) -> bytes:
    """The digest in the second form. ``columns`` are workspace, kind, entity, principal, cause, zone and data.

    SHA-256 over a line of numbers (the form, time in microseconds, epoch, attempt or ``-``, and the length of each column in
    bytes), then the columns, then the digest of the private part. The lengths are included so that no two rows have the
    same preimage, the form so that a row of one form never passes for a row of the other.
    """
    joined = "".join(columns)
    content = joined.encode()
    # A text without other characters than ASCII's has as many bytes as characters.
    sizes = map(len, columns if len(content) == len(joined) else [column.encode() for column in columns])
    number = "-" if attempt is None else attempt
    line = f"log-2 {at_us} {epoch} {number} {' '.join(map(str, sizes))}\n"
    return hashlib.sha256(b"".join((line.encode(), content, private_digest or b""))).digest()


def first_digest(
    at_us: int, workspace: str, kind: str, entity: str, attempt: int | None, principal: str, data_json: str
) -> bytes:
    """The digest in the first form: SHA-256 over the row's columns, each preceded by its length."""
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
    """A log record with the workspace, the principal and the cause of the request that led to it."""
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
