"""Processes are known by number and start, and leave no zombie."""

from __future__ import annotations

import signal

import psutil

from cluster.embedded.layout import Layout
from cluster.embedded.processes import ProcessId, end, session_members, spawn


def test_a_recycled_pid_is_not_taken_for_the_process(layout: Layout) -> None:
    child = spawn(["sleep", "600"], log=layout.logs / "sleep.log")
    try:
        impostor = ProcessId(pid=child.pid, started=child.started - 100)
        assert child.alive()
        assert not impostor.alive()
        impostor.signal(signal.SIGKILL)
        assert session_members(impostor) == []
        assert child.alive()
        assert session_members(child) == [child]
    finally:
        end([child])
    assert not child.alive()


def test_an_ended_process_leaves_no_zombie(layout: Layout) -> None:
    """One would pass for a living process wherever only its number is asked for."""
    for _ in range(5):
        children = [spawn(["sleep", "600"], log=layout.logs / "sleep.log") for _ in range(40)]
        end(children, first=signal.SIGKILL)
        assert [child for child in children if psutil.pid_exists(child.pid)] == []
