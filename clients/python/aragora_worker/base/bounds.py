"""Bounds of the API that a worker keeps to."""

from __future__ import annotations

from typing import Final

#: Tasks that one agent may have at a time.
MAX_CONCURRENCY: Final = 10_000
#: Bytes of one chunk, written as JSON.
CHUNK_BYTES: Final = 65_536
#: Chunks of one call.
CALL_CHUNKS: Final = 100
