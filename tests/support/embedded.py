"""A data directory for embedded stores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.embedded.layout import Layout

PATH_CHARS = 120


@contextmanager
def new_layout() -> Iterator[Layout]:
    """A data directory whose path is longer than a socket's may be."""
    with tempfile.TemporaryDirectory(prefix="aragora-test-") as base:
        made = Layout.of(Path(base) / ("d" * (PATH_CHARS - len(base) - 1)))
        assert len(os.fsencode(made.data_dir)) == PATH_CHARS
        made.create()
        yield made
        for file in sorted(made.sockets.rglob("*"), reverse=True):
            file.unlink() if not file.is_dir() else file.rmdir()
        made.sockets.rmdir()
