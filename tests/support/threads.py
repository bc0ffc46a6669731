"""In which threads functions run."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from cluster.process import large


@contextlib.contextmanager
def running_in(*names: str) -> Iterator[dict[str, set[int]]]:
    """Function → the threads that it ran in. Sees this thread, and threads that start within the block: the reader of large
    answers is another one meanwhile."""
    ran: dict[str, set[int]] = {name: set() for name in names}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name in ran:
            ran[frame.f_code.co_name].add(threading.get_ident())

    before, reader = sys.getprofile(), large._READER
    with ThreadPoolExecutor(max_workers=1) as large._READER:
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            yield ran
        finally:
            sys.setprofile(before)
            threading.setprofile(None)
            large._READER = reader
