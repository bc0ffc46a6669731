"""The signals that drain a worker, whatever its jobs do: hold up the main thread, or fork.

The interpreter runs a handler of signals in the main thread, which a job may hold up, so the numbers are also read from its
wakeup descriptor, in a thread. A forked child would share that descriptor, and what ends the child (as ``multiprocessing``
does, by SIGTERM) would drain the worker and leave the child. So in a child these signals do again what they did before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: How each signal was handled before this process listened; empty while it does not.
_before: Mapping[signal.Signals, Any] = {}
#: The signals that a thread had blocked when it began to fork.
_fork = threading.local()


@contextlib.contextmanager
def signals_call(called: Callable[[], None], name: str) -> Iterator[None]:
    """Calls ``called``, in any thread and perhaps twice, for each of SIGNALS. ``name`` is that of the thread that reads them.
    Does nothing outside of the main thread, where signals cannot be handled."""
    global _before
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def read() -> None:
        while numbers := reader.recv(64):
            if set(numbers) & set(SIGNALS):
                called()

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # None stands for a handler that is not Python's, and cannot be set again.
    _before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda *_: called())
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=read, name=name, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        _restore()
        writer.close()


def _restore() -> None:
    global _before
    for number, handler in _before.items():
        signal.signal(number, handler)
    _before = {}


def _block() -> None:
    """A signal for the child waits until the child no longer listens as its parent does."""
    _fork.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if _before else None


def _unblock() -> None:
    if _fork.blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.blocked)


def _leave_to_the_child() -> None:
    if _before:
        signal.set_wakeup_fd(-1)
        _restore()
    _unblock()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_leave_to_the_child)
