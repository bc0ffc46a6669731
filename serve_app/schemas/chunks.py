"""Bodies and answers about chunks."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cluster.domain.tasks.chunks import MAX_N, ChunkCursor, ChunkPage
from serve_app.schemas.fields import ExactBody, Text


class WriteChunks(ExactBody):
    """Consecutive chunks (text or JSON), of which the first one has the number ``first``. ``skip``: numbers before it that were
    not taken are given up."""

    lease_token: Text = Field(max_length=1024)
    first: int = Field(ge=1, le=MAX_N)
    chunks: list[Any]
    skip: bool = False


def page_wire(task_id: str, after: ChunkCursor, page: ChunkPage) -> dict[str, Any]:
    """A page of chunks. ``after`` of the answer is where to read on."""
    last = page.chunks[-1].cursor if page.chunks else after
    return {
        "task_id": task_id,
        "status": page.status.value,
        "attempt": page.attempt,
        "chunks": [
            {"attempt": chunk.cursor.attempt, "n": chunk.cursor.n, "timestamp": chunk.at, "content": chunk.content}
            for chunk in page.chunks
        ],
        "after": last.encode(),
        "has_more": last < page.last,
        "elsewhere": page.elsewhere,
    }
