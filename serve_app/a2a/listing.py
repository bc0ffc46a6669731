"""Lists: the tasks of the workspace, newest first, and then its deliberations. Each page is one of the API's, whose cursor it
goes on by: to merge both by the times of their last changes would read all of both for each page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from a2a.types import ListTasksRequest, TaskState
from a2a.utils.errors import InvalidParamsError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.deliberation.wire import A2A_CONTEXT
from serve_app.a2a.mapping import Record, changed_at, task_wire
from serve_app.http.route_calls import Refused, Routes

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100
_TASKS: Final = "t"
_DELIBERATIONS: Final = "d"
#: What a conversation is named after, which is a page of its own.
_NAMED: Final = "n"
#: States that a list of tasks can be asked for: the name and the value of the query.
_QUERIES: Final = {
    TaskState.TASK_STATE_COMPLETED: ("status", "completed"),
    TaskState.TASK_STATE_CANCELED: ("status", "cancelled"),
    TaskState.TASK_STATE_INPUT_REQUIRED: ("status_detail", "input_required"),
}


async def list_tasks(routes: Routes, params: ListTasksRequest) -> dict[str, Any]:
    """A page may have fewer tasks than were asked for, or none, while there are more.

    Raises: `InvalidParamsError`, `Refused`."""
    size = _size(params)
    which, cursor = _read_token(params.page_token)
    if which == _NAMED:
        named = await _named(routes, params.context_id)
        return _page([record for record in named if _matches(record, params)], params, size, "", len(named))
    query: dict[str, Any] = {"limit": size} | ({"cursor": cursor} if cursor else {})
    if params.context_id:
        query["where"] = f"metadata.{A2A_CONTEXT}={params.context_id}"
    is_task = which == _TASKS
    if is_task and params.status in _QUERIES:
        name, value = _QUERIES[params.status]
        query[name] = value
    page = await routes.get("/tasks" if is_task else "/deliberations", query)
    found = page["tasks"] if is_task else page["deliberations"]
    records = [Record(id=each["id" if is_task else "request_id"], is_task=is_task, found=each) for each in found]
    following = page["next_cursor"]
    if following:
        token = _token_of(which, following)
    elif is_task:
        token = _token_of(_DELIBERATIONS, "")
    else:
        token = _token_of(_NAMED, "") if params.context_id else ""
    shown = [record for record in records if _matches(record, params)]
    return _page(shown, params, size, token, page["total"])


def _page(records: Sequence[Record], params: ListTasksRequest, size: int, token: str, total: int) -> dict[str, Any]:
    return {
        "tasks": [task_wire(record, artifacts=params.include_artifacts) for record in records],
        "nextPageToken": token,
        "pageSize": size,
        "totalSize": total,
    }


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


def _matches(record: Record, params: ListTasksRequest) -> bool:
    if params.status and record.state != params.status:
        return False
    after = params.status_timestamp_after
    since = after.seconds + after.nanos / 1e9 if params.HasField("status_timestamp_after") else None
    return since is None or changed_at(record) >= since


def _size(params: ListTasksRequest) -> int:
    size = params.page_size if params.HasField("page_size") else DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise InvalidParamsError(f"pageSize must be a whole number from 1 to {MAX_PAGE}.")
    if params.HasField("history_length") and params.history_length < 0:
        raise InvalidParamsError("historyLength must not be negative.")
    return size


def _token_of(which: str, cursor: str) -> str:
    return base64.urlsafe_b64encode(f"{which}{cursor}".encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    """Which list a page is of, and the cursor in it. Raises: `InvalidParamsError` if it is no token of ours."""
    if not token:
        return _TASKS, ""
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if text[:1] not in (_TASKS, _DELIBERATIONS, _NAMED):
        raise InvalidParamsError("pageToken must be the nextPageToken of another page of this list.")
    return text[0], text[1:]
