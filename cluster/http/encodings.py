"""Answers that come compressed. No call asks for that, but there are servers and caches that do it whatever is asked for.

What they become is bounded by whoever reads: a part has at most PART_BYTES, and the next one is made when it is asked for.
A client library was rejected for this: it decompresses whatever has arrived at once, a thousand bytes from each.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator

from cluster.domain.base.errors import AgentMalformed

PART_BYTES = 65_536
_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})
#: The formats of gzip and zlib, told apart by their first bytes; HTTP calls the second "deflate".
_EITHER = 32 + zlib.MAX_WBITS


def as_meant(parts: AsyncIterable[bytes], encoding: str | None, host: str) -> AsyncIterable[bytes]:
    """A body's bytes as they were before the Content-Encoding; in an encoding that is not known, as they came.

    Raises, while it is read: `AgentMalformed` if the bytes are not of the encoding."""
    name = (encoding or "").strip().lower()
    return _decompressed(parts, name, host) if name in _KNOWN else parts


async def _decompressed(parts: AsyncIterable[bytes], encoding: str, host: str) -> AsyncIterator[bytes]:
    decompressor = zlib.decompressobj(_EITHER)
    has_begun = False
    try:
        async for part in parts:
            has_begun = has_begun or bool(part)
            while part:
                if meant := decompressor.decompress(part, PART_BYTES):
                    yield meant
                part = decompressor.unconsumed_tail
        if rest := decompressor.flush():
            yield rest
    except zlib.error:
        raise AgentMalformed(f"{host} sent a body that is not the {encoding} that it says.") from None
    if has_begun and not decompressor.eof:
        raise AgentMalformed(f"{host} sent a body of {encoding} without its end.")
