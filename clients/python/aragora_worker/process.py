"""The process of a worker: its log, its loop and its end, which a job may hold up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading

#: How long an ending process waits for its loop, and for its logs and streams, which a job may hold up.
EXIT_S = 2.0


def log_somewhere() -> None:
    """Lets the lines of a worker be seen in a program that has not configured its logs: else a worker that waits for a control
    plane, or for tasks, looks like one that hangs. Other libraries' lines stay as they are."""
    ours = logging.getLogger("aragora_worker")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels what jobs have left on the loop, and closes it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(BaseException):  # tasks are somebody else's code
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=EXIT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def end_process(code: int) -> None:
    """Ends the process while code of jobs runs. The interpreter would wait for their threads. (Daemon threads were rejected: no
    thread pool of the standard library has them.) A job may hold the lock of a stream or of a log."""

    def flush() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # the reader has left; there is no stream
                stream.flush()

    last = threading.Thread(target=flush, daemon=True)
    last.start()
    last.join(EXIT_S)
    os._exit(code)
