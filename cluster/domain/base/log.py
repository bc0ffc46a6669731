"""The log: one append-only sequence per region that is event stream, audit trail and replication stream at once.

A record is what a writer hands to a commit; a row is a record that has its place (``seq``). Sequence order is commit
order and has no gaps. The digest binds a row's content, not its place: the order is bound by the sealer that chains
the digests later, so that the commit itself stays one round trip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.base.compact import compact

LOCAL_ADMIN = "user:local-admin"
SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who asks, and in which workspace: travels with every mutation down to its log row."""

    workspace: str
    principal: str = LOCAL_ADMIN


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A change that is about to be committed. ``at`` is epoch seconds of the writer's clock."""

    at: float
    workspace: str
    kind: str
    entity: str
    attempt: int | None = None
    principal: str = SYSTEM
    data: Mapping[str, Any] = field(default_factory=dict)

    def data_json(self) -> str:
        return canonical_json(self.data)

    def digest(self, data_json: str | None = None) -> bytes:
        return row_digest(
            round(self.at * 1_000_000),
            self.workspace,
            self.kind,
            self.entity,
            self.attempt,
            self.principal,
            data_json if data_json is not None else self.data_json(),
        )


@compact
@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A committed record. ``data`` is parsed; ``data_json`` is the stored text that the digest covers."""

    seq: int
    at: float
    workspace: str
    kind: str
    entity: str
    attempt: int | None
    principal: str
    data: Mapping[str, Any]
    digest: bytes


#: Made once: `json.dumps` makes a new encoder at every call with options.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """Sorted keys, no white space, UTF-8 kept. Non-finite numbers are refused, as JSON has none."""
    return _CANONICAL(value)


def row_digest(
    at_us: int, workspace: str, kind: str, entity: str, attempt: int | None, principal: str, data_json: str
) -> bytes:
    """SHA-256 over the row's columns, each preceded by its length, so that no two rows share a preimage."""
    number = "" if attempt is None else str(attempt)
    preimage = bytearray()
    for part in (str(at_us), workspace, kind, entity, number, principal, data_json):
        encoded = part.encode()
        preimage += len(encoded).to_bytes(4, "big")
        preimage += encoded
    return hashlib.sha256(preimage).digest()


def record_for(origin: Origin, at: float, kind: str, entity: str, data: Mapping[str, Any] | None = None) -> LogRecord:
    """A log record that carries the asker's workspace and principal."""
    return LogRecord(
        at=at, workspace=origin.workspace, kind=kind, entity=entity, principal=origin.principal, data=data or {}
    )
