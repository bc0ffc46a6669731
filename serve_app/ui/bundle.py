"""The files of the page as `make page` has built them. They come with the package, so that running it needs no Node."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUNDLE: Final = Path(__file__).with_name("bundle")
#: By the ending of a file's name; others are not served.
_MEDIA_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page. ``packed`` is its content in gzip."""

    content: bytes
    packed: bytes
    media_type: str


@functools.cache
def assets() -> Mapping[str, Asset]:
    """The files that the page loads, by name. Their names have a digest of their content, so they never change."""
    return {path.name: _read(path) for path in sorted((BUNDLE / "assets").iterdir()) if path.suffix in _MEDIA_TYPES}


@functools.cache
def page() -> Asset:
    """The page itself, which is the same at each of its addresses."""
    return _read(BUNDLE / "index.html")


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(content, gzip.compress(content, mtime=0), _MEDIA_TYPES[path.suffix])
