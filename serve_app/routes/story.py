"""The story of a task, a deliberation, an agent or a request: its rows of the log, with causes and consequences."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.json_values import check_text
from cluster.domain.base.log import LogRow
from serve_app.auth.admission import Caller, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.words import data_of, hidden_kinds, may_read_words
from serve_app.gateway import gateway
from serve_app.http.paging import Limit
from serve_app.schemas.tasks import progress_wire

router = GuardedRouter(tags=["story"])

MAX_ID_CHARS = 400


def _event(row: LogRow, words: bool) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "timestamp": row.at,
        "type": row.kind,
        "entity": row.entity,
        "attempt": row.attempt,
        "principal": row.principal,
        "cause": row.cause,
        "data": data_of(row, words),
    }


@router.get("/story/{subject_id}")
@requires(Permission.STREAM_READ)
async def story(
    request: Request,
    subject_id: str,
    caller: Caller,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Limit = 1000,
    archived: bool = False,
) -> dict[str, Any]:
    """The rows of the log about a task, a deliberation, an agent or a request (by its trace id), oldest first, with the rows
    that led to them and those that they led to. ``cause`` is a trace id, ``#`` and the ``seq`` of a row, or empty if only the
    passing of time caused it. ``progress`` is the last that a task's holder reported. While ``has_more`` is true, read on with
    ``after`` set to the last ``seq``. With ``archived`` the archives of the log are searched too, which takes a second or so for
    each million rows; their rows have no words, and ``searched_from`` is the first row that is still there. 404 (`NotFound`) if
    the log has no such rows, 400 (`InvalidRequest`) if the id is too long, 429 (`Overloaded`) if other searches of archives go
    on."""
    check_text(subject_id, "id")
    if len(subject_id) > MAX_ID_CHARS:
        raise InvalidRequest(f"id must have at most {MAX_ID_CHARS} characters.", "invalid_id")
    gate = gateway(request)
    rows = await gate.log.story(caller.workspace, subject_id, after, limit + 1)
    old: list[LogRow] = []
    searched_from = None
    if archived:
        found = await gate.archived_stories.find(caller.workspace, subject_id, rows, after)
        old, searched_from = list(found.rows), found.searched_from
    if not rows and not old and after == 0:
        more = "" if archived else ", and --archived (`archived=true`) if it is of long ago"
        raise NotFound(
            f"The log has no row about {subject_id}; give the id of a task, a deliberation or an agent, or a trace id{more}.",
            "story_not_found",
        )
    words, hidden = may_read_words(caller), hidden_kinds(caller)
    # What an archive has is shown without words, as an erasure does not reach it.
    shown = [(row, False) for row in old] + [(row, words) for row in rows]
    rows = [row for row, _ in shown]
    events = [_event(row, of_words) for row, of_words in shown[:limit] if not row.kind.startswith(hidden)]
    answer: dict[str, Any] = {"id": subject_id, "events": events, "has_more": len(rows) > limit}
    if searched_from is not None:
        answer["searched_from"] = searched_from
    if not answer["has_more"]:
        # Reports of progress have no rows of their own, which would outnumber all others.
        task = await gateway(request).task_reads.put((caller.workspace, subject_id))
        if task is not None and task.progress is not None:
            answer["progress"] = progress_wire(task.progress)
    return answer
