"""Chunks: what the holder of a running task tells of its work, text or JSON, numbered from 1 in each attempt.

The holder writes them in order. A repeat of a number with the same content is answered as the first call was; with another one it
is refused. So is a gap, unless the holder says that it gives up the numbers in between: chunks stay in the region that took
them, and a holder that goes on after a failover finds none of them there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any, NamedTuple

from aragora_worker.base.bounds import CALL_CHUNKS, CHUNK_BYTES
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound, RateLimited, TooLarge
from cluster.domain.base.json_values import check_json
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.tasks.task import LeaseToken, TaskStatus

#: A worker keeps to those two.
__all__ = ["CALL_CHUNKS", "CHUNK_BYTES"]
#: Bytes of the chunks of one call.
CALL_BYTES = 1_048_576
#: Numbers are stored in 32 bits.
MAX_N = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkBounds:
    """Of one task, all its attempts together. ``burst_s``: so many seconds' worth may come at once."""

    chunks: int = 50_000
    bytes: int = 16_777_216
    per_s: float = 50.0
    bytes_per_s: float = 262_144.0
    burst_s: float = 4.0


BOUNDS = ChunkBounds()


class ChunkCursor(NamedTuple):
    """Of a chunk among those of its task, in the order in which they are read."""

    attempt: int
    n: int

    def encode(self) -> str:
        """As the wire has it: ``ATTEMPT.N``."""
        return f"{self.attempt}.{self.n}"


START = ChunkCursor(0, 0)
_CURSOR = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")


def cursor_of(text: str) -> ChunkCursor:
    """Raises: `InvalidRequest` if the text is no cursor."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidRequest("after must be ATTEMPT.N, the id of a chunk of this task, such as 1.7.", "invalid_cursor")
    return ChunkCursor(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunks:
    """One call: consecutive chunks of the attempt that ``token`` holds, from number ``first`` on, each as canonical JSON.
    ``skip``: numbers before ``first`` that were not taken are given up."""

    workspace: str
    token: LeaseToken
    first: int
    contents: Sequence[str]
    at: float
    skip: bool = False


class Verdict(StrEnum):
    """What became of a call."""

    WRITTEN = "written"
    UNKNOWN = "unknown"
    LOST = "lost"
    GAP = "gap"
    CHANGED = "changed"
    FULL = "full"
    FAST = "fast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """``next``: the number that comes next; if a chunk has changed, its number. ``wait_s``: when a call that was too fast may be
    made again."""

    verdict: Verdict
    next: int | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    cursor: ChunkCursor
    at: float
    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPage:
    """Chunks of a task in their order, and how the task was when they were read. ``last``: the newest that there is.
    ``elsewhere``: the task was worked on when this region may not have been the primary; chunks of then are not here."""

    chunks: Sequence[Chunk]
    last: ChunkCursor
    status: TaskStatus
    attempt: int
    elsewhere: bool = False


def written_contents(chunks: Sequence[Any]) -> list[str]:
    """The chunks of a call as they are stored.

    Raises: `InvalidRequest` if there is none, there are too many, or one cannot be stored; `TooLarge` if one, or all together,
    have too many bytes."""
    if not 1 <= len(chunks) <= CALL_CHUNKS:
        raise InvalidRequest(
            f"A call has 1 to {CALL_CHUNKS} chunks; make another call for the rest.", "invalid_request"
        )
    contents, total = [], 0
    for chunk in chunks:
        check_json(chunk, "A chunk")
        content = canonical_json(chunk)
        size = len(content.encode())
        if size > CHUNK_BYTES:
            raise TooLarge(f"A chunk has at most {CHUNK_BYTES} bytes as JSON; send it in parts.", "chunk_too_large")
        total += size
        contents.append(content)
    if total > CALL_BYTES:
        raise TooLarge(f"The chunks of a call have at most {CALL_BYTES} bytes; make several calls.", "chunks_too_large")
    return contents


def next_number(new: NewChunks, written: Written, bounds: ChunkBounds = BOUNDS) -> int:
    """The number of the chunk that comes next, if the call was taken.

    Raises: `NotFound` without such a task, `Conflict` if the lease is lost, a number is left out or has another content,
    `TooLarge` if the task has as many chunks as it may have, `RateLimited` if they come too fast."""
    task_id = new.token.task_id
    match written.verdict:
        case Verdict.UNKNOWN:
            raise NotFound(f"There is no task {task_id}.", "task_not_found")
        case Verdict.LOST:
            raise Conflict(
                f"The lease of task {task_id} is lost: it is not in this attempt any more; stop working on it.",
                "lease_lost",
            )
        case Verdict.GAP:
            raise Conflict(
                f"The next chunk of this attempt is number {written.next}; send it first, or send skip to leave out what is "
                f"before {new.first}.",
                "chunk_gap",
            )
        case Verdict.CHANGED:
            raise Conflict(
                f"Chunk {written.next} was taken with another content, or was skipped; chunks do not change.",
                "chunk_changed",
            )
        case Verdict.FULL:
            raise TooLarge(
                f"A task has at most {bounds.chunks} chunks with {bounds.bytes} bytes; put the rest into its result.",
                "chunks_full",
            )
        case Verdict.FAST:
            raise RateLimited(
                f"A task may write {bounds.per_s:g} chunks and {bounds.bytes_per_s:g} bytes per second; put several into one.",
                "chunks_too_fast",
                max(1, ceil(written.wait_s)),
            )
    assert written.next is not None, "the store tells it of every call that it took"
    return written.next
