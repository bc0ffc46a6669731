"""Routes of chunks: the holder of a running task writes them, and whoever may read payloads reads them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import Conflict, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.tasks.chunks import (
    START,
    ChunkCursor,
    ChunkPage,
    NewChunks,
    cursor_of,
    next_number,
    written_contents,
)
from cluster.domain.tasks.task import LeaseToken
from cluster.process.large import in_thread_if_large, rough_size
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.http.paging import Limit
from serve_app.schemas.chunks import WriteChunks, page_wire

router = GuardedRouter(tags=["tasks"])

_After = Annotated[str | None, Query(max_length=32)]


@router.post("/tasks/{task_id}/chunks")
@requires(Permission.TASKS_CLAIM)
async def write_chunks(
    request: Request, task_id: str, body: WriteChunks, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Adds chunks (text or JSON) to the output of a running task; whoever holds its lease may. They are numbered from 1 in each
    attempt and written in order; ``next`` is the number that comes next. A repeat is answered like the first call. 409
    (`Conflict`): ``lease_lost``; ``chunk_gap`` if a number is left out without ``skip``; ``chunk_changed`` if a number was taken
    with another content. 413 (`TooLarge`): ``chunk_too_large``, ``chunks_too_large`` for the whole call, ``chunks_full`` for the
    task. 429 (`RateLimited`): ``chunks_too_fast``. 404 (`NotFound`) if there is no such task."""
    token = LeaseToken.decode(body.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    contents = await in_thread_if_large(rough_size(body.chunks), written_contents, body.chunks)
    new = NewChunks(
        workspace=asker.workspace,
        token=token,
        first=body.first,
        contents=contents,
        at=gate.clock.now(),
        skip=body.skip,
    )
    return {"next": next_number(new, await gate.chunk_writes.put(new))}


async def chunk_page(gate: Gateway, workspace: str, task_id: str, after: ChunkCursor, limit: int) -> ChunkPage:
    """Raises: `NotFound` if there is no such task in the workspace."""
    page = await gate.chunks.read(workspace, task_id, after, limit, has_peers=gate.settings.has_peers)
    if page is None:
        raise NotFound(f"There is no task {task_id}.", "task_not_found")
    return page


@router.get("/tasks/{task_id}/chunks")
@requires(Permission.PAYLOADS_READ)
async def read_chunks(
    request: Request, task_id: str, asker: Asker, after: _After = None, limit: Limit = 100
) -> dict[str, Any]:
    """Chunks of a task in the order of their attempts and numbers, after the one that ``after`` names (ATTEMPT.N). Read on with
    ``after`` of the answer. A page has about a megabyte at most. ``elsewhere``: another region may have taken some that are not
    here. 404 (`NotFound`) if there is no such task, 400 (`InvalidRequest`, ``invalid_cursor``) if ``after`` has not that
    form."""
    cursor = START if after is None else cursor_of(after)
    page = await chunk_page(gateway(request), asker.workspace, check_id(task_id, "task_id"), cursor, limit)
    return page_wire(task_id, cursor, page)
