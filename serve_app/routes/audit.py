"""The audit: rows of the log with their place in the chain, and whether the log is what was sealed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.audit.export import CSV_COLUMNS, csv_cells, csv_line, syslog_line
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.json_values import check_text
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import FIRST_FORM, LogRow
from cluster.ports.audit import AuditEntry, AuditFilter
from serve_app.auth.admission import Asker, Caller, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.words import data_of, hidden_kinds, may_read_words
from serve_app.gateway import gateway
from serve_app.http.paging import Limit, total_wire
from serve_app.schemas.fields import MAX_EPOCH_S, Offset, iso_time

router = GuardedRouter(tags=["audit"])


class ExportFormat(StrEnum):
    """Forms of an export."""

    JSON = "json"
    CSV = "csv"
    SYSLOG = "syslog"


_MEDIA_TYPES: Final = {
    ExportFormat.JSON: "application/x-ndjson",
    ExportFormat.CSV: "text/csv",
    ExportFormat.SYSLOG: "text/plain",
}

Words = Annotated[str | None, Query(min_length=1, max_length=4096, description="Separated by commas.")]
When = Annotated[str | None, Query(max_length=64, description="ISO 8601.")]
Seq = Annotated[int, Query(ge=0, le=2**63 - 1)]
LastSeq = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
MOST_WORDS: Final = 100
#: Rows of the log that an export reads at once.
EXPORT_ROWS: Final = 1_000
_DAMAGED: Final = "This row was changed after it was written, and cannot be read: see `aragora-cp audit verify`."
#: What a kind of a failure ends with.
_FAILURES: Final = frozenset({"failed", "denied", "timeout", "dead_lettered", "agent_error"})


def _split(words: str | None, name: str) -> tuple[str, ...]:
    found = tuple(word.strip() for word in (words or "").split(",") if word.strip())
    if words is not None and not found:
        raise InvalidRequest(f"{name} must name at least one.", f"invalid_{name}")
    if len(found) > MOST_WORDS:
        raise InvalidRequest(f"{name} must name at most {MOST_WORDS}.", f"invalid_{name}")
    for word in found:
        check_text(word, name)
    return found


def _epoch(text: str | None, name: str) -> float | None:
    """Epoch seconds of an ISO time, which is in UTC if it names no zone."""
    if text is None:
        return None
    try:
        # In a query a plus sign that was not escaped is read as a space.
        time = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
        found = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        found = -1.0
    if not 0 <= found <= MAX_EPOCH_S:
        raise InvalidRequest(
            f"{name} must be a time as ISO 8601 has it, such as 2026-01-31T12:00:00Z.", f"invalid_{name}"
        )
    return found


def _content(row: LogRow, words: bool) -> tuple[dict[str, Any], str | None, str | None]:
    """The data of a row, its error text and its time. Whoever can write to the database can give a row what no row of ours has:
    then its entry says so, and the others are shown."""
    try:
        time = iso_time(row.at)
    except (ValueError, OverflowError, OSError):
        return {}, _DAMAGED, iso_time(0)
    try:
        if not row.data_json.lstrip().startswith("{"):
            return {}, _DAMAGED, time
        error = row.private.get("error") if words else None
        return data_of(row, words), error if isinstance(error, str) else None, time
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return {}, _DAMAGED, time


def _wire(entry: AuditEntry, words: bool) -> dict[str, Any]:
    row = entry.row
    noun, _, event = row.kind.partition(".")
    details, error, time = _content(row, words)
    return {
        "entry_id": str(row.seq),
        "action": row.kind,
        "actor": {
            "type": row.principal.partition(":")[0],
            "id": row.principal,
            "name": None,
            "ip_address": None,
            "user_agent": None,
        },
        "resource_type": noun,
        "resource_id": row.entity,
        "timestamp": time,
        "workspace_id": row.workspace,
        "details": details,
        "outcome": "failure" if event in _FAILURES else "success",
        "error_message": error,
        "sequence_number": row.seq,
        "previous_hash": None if entry.previous_hash is None else entry.previous_hash.hex(),
        "entry_hash": None if entry.entry_hash is None else entry.entry_hash.hex(),
    }


async def _page(request: Request, caller: Principal, of: AuditFilter, limit: int, offset: int) -> dict[str, Any]:
    entries, total = await gateway(request).audit.entries(of, limit, offset)
    words = may_read_words(caller)
    return {
        "entries": [_wire(entry, words) for entry in entries],
        **total_wire(total),
        "query": {"limit": limit, "offset": offset},
    }


@router.get("/audit")
@requires(Permission.AUDIT_READ)
async def audit(
    request: Request,
    caller: Caller,
    start_time: When = None,
    end_time: When = None,
    actions: Words = None,
    actor_types: Words = None,
    actor_ids: Words = None,
    resource_types: Words = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> dict[str, Any]:
    """The entries of the workspace's audit, newest first: each row of the log is one. ``entry_hash`` and ``previous_hash`` are
    null until the row is sealed, within seconds. ``actor_types`` are what stands before the colon of a principal (`user`, `key`,
    `system`), ``resource_types`` what stands before the dot of an action. ``total`` counts at most 100,000 (``total_exact``).
    400 (`InvalidRequest`) if a time is none."""
    of = AuditFilter(
        workspace=caller.workspace,
        since=_epoch(start_time, "start_time"),
        until=_epoch(end_time, "end_time"),
        kinds=_split(actions, "actions"),
        principal_types=_split(actor_types, "actor_types"),
        principals=_split(actor_ids, "actor_ids"),
        nouns=_split(resource_types, "resource_types"),
        hidden=hidden_kinds(caller),
    )
    return await _page(request, caller, of, limit, offset)


@router.get("/audit/export", response_model=None)
@requires(Permission.AUDIT_READ)
async def export(
    request: Request,
    caller: Caller,
    format: ExportFormat = ExportFormat.JSON,
    start_time: When = None,
    end_time: When = None,
    after: Seq = 0,
) -> Response:
    """The entries of the workspace's audit, the oldest first, in one answer of any length: as lines of JSON (each as `GET
    /audit` has them), CSV or syslog. ``after`` leaves out entries up to a number, so that a collector goes on where it was. An
    answer that ends without its end was broken off. The log of all workspaces, which can be verified, is exported by `aragora-cp
    audit export`. 400 (`InvalidRequest`) if a time is none."""
    of = AuditFilter(
        workspace=caller.workspace,
        since=_epoch(start_time, "start_time"),
        until=_epoch(end_time, "end_time"),
        hidden=hidden_kinds(caller),
    )
    head = await gateway(request).hub.now()
    lines = _exported(request, of, format, after, head)
    return StreamingResponse(lines, media_type=_MEDIA_TYPES[format])


async def _exported(
    request: Request, of: AuditFilter, format: ExportFormat, after: int, head: int
) -> AsyncIterator[str]:
    """Reads a range of the log at a time, shows of it what the caller may see by then, and ends with the caller's access. Raises:
    as ``OpenCalls.check`` does."""
    gate = gateway(request)
    if format is ExportFormat.CSV:
        yield csv_line(CSV_COLUMNS) + "\n"
    with gate.open_calls.of(request, Permission.AUDIT_READ) as call:
        while after < head:
            caller = gate.open_calls.check(call)
            words, of = may_read_words(caller), replace(of, hidden=hidden_kinds(caller))
            entries, after = await gate.audit.next(of, after, head, EXPORT_ROWS)
            yield "".join(_line(entry, format, words) for entry in entries)


def _line(entry: AuditEntry, format: ExportFormat, words: bool) -> str:
    if format is ExportFormat.JSON:
        return json.dumps(_wire(entry, words), ensure_ascii=False) + "\n"
    row = entry.row
    if not words and row.v == FIRST_FORM:  # it has its words among its data
        row = replace(row, data_json=canonical_json(_content(row, words)[0]))
    own = None if entry.entry_hash is None else entry.entry_hash.hex()
    if format is ExportFormat.SYSLOG:
        return syslog_line(row, words, own) + "\n"
    previous = None if entry.previous_hash is None else entry.previous_hash.hex()
    return csv_line(csv_cells(row, words, previous, own)) + "\n"


@router.get("/audit/stats")
@requires(Permission.AUDIT_READ)
async def stats(request: Request, caller: Caller) -> dict[str, Any]:
    """How many entries the workspace has, and the last sealed row of the log with its hash. ``retention_days`` is null: the
    workspace has no rule for entries, the oldest go with the log's segments."""
    gate = gateway(request)
    of = AuditFilter(workspace=caller.workspace, hidden=hidden_kinds(caller))
    _, total = await gate.audit.entries(of, 0, 0)
    sealed, last_hash = await gate.sealed()
    return {
        "total_entries": total.entries,
        "total_exact": total.exact,
        "last_hash": last_hash,
        "sealed_through": sealed,
        "storage_backend": "postgresql",
        "retention_days": None,
    }


@router.get("/audit/verify")
@requires(Permission.AUDIT_VERIFY)
async def verify(request: Request, asker: Asker, start_seq: Seq = 0, end_seq: LastSeq = None) -> dict[str, Any]:
    """Whether rows of the log are what was sealed: its order, each row's content, and the checkpoints in the database. All
    workspaces have one chain, so it is verified whole; no row is shown. A call checks at most 20,000 rows and says in ``end_seq``
    how far it came. Checkpoints that were pushed out of the database prove more: `aragora-cp audit verify --checkpoint FILE`. 400
    (`InvalidRequest`) if ``end_seq`` is before ``start_seq``."""
    if end_seq is not None and end_seq < start_seq:
        raise InvalidRequest("end_seq must not be before start_seq.", "invalid_range")
    part = await gateway(request).verify_audit(start_seq, end_seq)
    report, fault = part.report, part.report.fault
    through = report.checked_through
    if fault is not None:
        message = f"Row {fault.seq}: {fault.reason}."
    elif through < min(part.head, part.head if end_seq is None else end_seq):
        message = f"The rows up to {through} are valid; call again with start_seq={through + 1} for the others."
    else:
        message = "The rows are valid against the checkpoints in the database."
    return {
        "valid": fault is None,
        "start_seq": start_seq,
        "end_seq": through,
        "message": message,
        "first_bad_seq": None if fault is None else fault.seq,
        "self_signed": report.self_signed,
    }


@router.get("/audit-logs")
@requires(Permission.AUDIT_READ)
async def audit_logs(request: Request, caller: Caller, limit: Limit = 50, offset: Offset = 0) -> dict[str, Any]:
    """The entries of the workspace's audit, newest first, as `GET /audit` has them."""
    of = AuditFilter(workspace=caller.workspace, hidden=hidden_kinds(caller))
    return await _page(request, caller, of, limit, offset)


@router.get("/audit-logs/{log_id}")
@requires(Permission.AUDIT_READ)
async def audit_log(request: Request, caller: Caller, log_id: str) -> dict[str, Any]:
    """One entry of the audit, by its ``entry_id``. 404 (`NotFound`) if the workspace has none of this id."""
    number = int(log_id) if log_id.isascii() and log_id.isdecimal() and len(log_id) < 19 else 0
    entry = await gateway(request).audit.entry(caller.workspace, number)
    if entry is None or entry.row.kind.startswith(hidden_kinds(caller)):
        raise NotFound("The audit has no such entry; give the entry_id of one of GET /audit.", "audit_entry_not_found")
    return _wire(entry, may_read_words(caller))
