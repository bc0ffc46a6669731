"""Lists: the tasks and deliberations of the workspace in one order, those whose state has changed last first.

A page is merged from a page of each list of the API. All have this order, so where one page ends is a time and an id, from which
every list goes on; a task that changes meanwhile moves before the pages that were read, and is not listed twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from a2a.types import ListTasksRequest, TaskState
from a2a.utils.errors import InvalidParamsError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.deliberation.wire import A2A_CONTEXT
from serve_app.a2a.mapping import Record, changed_at, listed_at, task_wire
from serve_app.http.paging import decode_cursor, encode_cursor
from serve_app.http.route_calls import Refused, Routes

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100
#: Tasks of a conversation that are put in order, the newest by their submit, and as many deliberations.
MOST_OF_CONVERSATION: Final = 2_000
#: What the API's list of tasks is asked for, for each state of the protocol; () for those that no task of ours is in.
_QUERIES: Final[Mapping[int, Sequence[Mapping[str, str]]]] = {
    TaskState.TASK_STATE_UNSPECIFIED: ({},),
    TaskState.TASK_STATE_SUBMITTED: ({"status": "pending"},),
    TaskState.TASK_STATE_WORKING: ({"status": "running"}, {"status": "pending"}),
    TaskState.TASK_STATE_COMPLETED: ({"status": "completed"},),
    TaskState.TASK_STATE_FAILED: ({"status": "failed"}, {"status": "timeout"}),
    TaskState.TASK_STATE_CANCELED: ({"status": "cancelled"},),
    TaskState.TASK_STATE_INPUT_REQUIRED: ({"status_detail": "input_required"},),
}

#: The time of the last change and the id of what was listed last.
Position = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """``more``: whether there may be more behind it."""

    records: Sequence[Record]
    total: int
    more: bool


async def list_tasks(routes: Routes, params: ListTasksRequest) -> dict[str, Any]:
    """A page may have fewer tasks than were asked for, or none, while there are more.

    Raises: `InvalidParamsError`, `Refused`."""
    size = _size(params)
    before = _read_token(params.page_token)
    page = await (_of_conversation if params.context_id else _newest)(routes, params, size, before)
    records = sorted(page.records, key=_position, reverse=True)
    token = ""
    if records and (page.more or len(records) > size) and not _is_before(records[:size][-1], params):
        token = encode_cursor(*_position(records[:size][-1]))
    return {
        "tasks": [
            task_wire(record, artifacts=params.include_artifacts)
            for record in records[:size]
            if _matches(record, params)
        ],
        "nextPageToken": token,
        "pageSize": size,
        "totalSize": page.total,
    }


async def _newest(routes: Routes, params: ListTasksRequest, size: int, before: Position | None) -> _Page:
    """Of the workspace: a page of each list, from which the one that is shown is the first part."""
    query: dict[str, Any] = {"limit": size, "sort": "changed"}
    if before is not None:
        query["cursor"] = encode_cursor(*before)
    queries = _QUERIES.get(params.status, ())
    if not queries:  # whoever may list learns that there is none
        await routes.get("/tasks", {"limit": 1})
        return _Page(records=(), total=0, more=False)
    pages = [await routes.get("/tasks", {**query, **each}) for each in queries]
    pages.append(await routes.get("/deliberations", query))
    return _Page(
        records=[record for page in pages for record in _records(page)],
        total=sum(page["total"] for page in pages),
        more=any(page["next_cursor"] for page in pages),
    )


async def _of_conversation(routes: Routes, params: ListTasksRequest, size: int, before: Position | None) -> _Page:
    """All of a conversation is read, since searches have the order of submits; one more than the page has room for is kept."""
    kept: list[Record] = []
    total = 0

    def keep(records: Sequence[Record]) -> None:
        nonlocal kept, total
        matching = [record for record in records if _matches(record, params)]
        total += len(matching)
        following = [record for record in matching if before is None or _position(record) < before]
        kept = heapq.nlargest(size + 1, [*kept, *following], key=_position)

    for path in ("/tasks", "/deliberations"):
        query: dict[str, Any] = {"limit": MAX_PAGE, "where": f"metadata.{A2A_CONTEXT}={params.context_id}"}
        read = 0
        while read < MOST_OF_CONVERSATION:
            page = await routes.get(path, query)
            found = list(_records(page))
            keep(found)
            read += max(len(found), 1)
            if not page["next_cursor"]:
                break
            query["cursor"] = page["next_cursor"]
    keep(await _named(routes, params.context_id))
    return _Page(records=kept, total=total, more=False)


def _records(page: Mapping[str, Any]) -> Iterator[Record]:
    """What a page of the API lists."""
    is_task = "tasks" in page
    for found in page["tasks" if is_task else "deliberations"]:
        yield Record(id=found["id" if is_task else "request_id"], is_task=is_task, found=found)


async def _named(routes: Routes, context_id: str) -> list[Record]:
    """The task that a conversation is named after, since its first message has named none. Raises: `Refused`."""
    if not _is_id(context_id):
        return []
    for path, is_task in ((f"/tasks/{context_id}", True), (f"/deliberations/{context_id}", False)):
        try:
            record = Record(id=context_id, is_task=is_task, found=await routes.get(path))
        except Refused as error:
            if error.status not in (404, 410):
                raise
            continue
        # One that has the id and belongs to another conversation is found there.
        return [record] if record.context_id == context_id and not record.is_named else []
    return []


def _is_id(text: str) -> bool:
    try:
        check_id(text, "contextId")
    except InvalidRequest:
        return False
    return True


def _position(record: Record) -> Position:
    return listed_at(record), record.id


def _matches(record: Record, params: ListTasksRequest) -> bool:
    if params.status and record.state != params.status:
        return False
    since = _since(params)
    return since is None or changed_at(record) >= since


def _is_before(record: Record, params: ListTasksRequest) -> bool:
    """Whether nothing that follows a record is late enough."""
    since = _since(params)
    return since is not None and listed_at(record) < since


def _since(params: ListTasksRequest) -> float | None:
    after = params.status_timestamp_after
    return after.seconds + after.nanos / 1e9 if params.HasField("status_timestamp_after") else None


def _size(params: ListTasksRequest) -> int:
    size = params.page_size if params.HasField("page_size") else DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise InvalidParamsError(f"pageSize must be a whole number from 1 to {MAX_PAGE}.")
    if params.HasField("history_length") and params.history_length < 0:
        raise InvalidParamsError("historyLength must not be negative.")
    return size


def _read_token(token: str) -> Position | None:
    """Where a page begins; None for the first one. Raises: `InvalidParamsError` if it is no token of ours."""
    try:
        return decode_cursor(token or None)
    except (InvalidRequest, ValueError):
        raise InvalidParamsError("pageToken must be the nextPageToken of another page of this list.") from None
