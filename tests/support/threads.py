"""In which threads functions run."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def running_in(*names: str) -> Iterator[dict[str, set[int]]]:
    """Function → the threads that it ran in. Sees this thread, and threads that start within the block."""
    ran: dict[str, set[int]] = {name: set() for name in names}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name in ran:
            ran[frame.f_code.co_name].add(threading.get_ident())

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield ran
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
