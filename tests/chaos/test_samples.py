"""What a real process takes is measured, and a leak in it is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.embedded.processes import ProcessId
from tests.chaos.growth import trend
from tests.chaos.samples import of_processes, role_of_actor

#: Takes two MiB, a file and a thread for each line of its input: for good, or until the next line.
_PROGRAM = """
import os, sys, threading
kept, leaks = [], sys.argv[1] == "leaks"
for _ in sys.stdin:
    if not leaks:
        for memory, file, thread, end in kept:
            file.close(), end.set(), thread.join()
        kept.clear()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, daemon=True)
    thread.start()
    kept.append((bytearray(os.urandom(2 << 20)), open(os.devnull), thread, end))
    print("taken", flush=True)
"""
ROUNDS = 24


@pytest.fixture(params=["leaks", "gives back"])
def process(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], bool]]:
    command = [sys.executable, "-c", _PROGRAM, request.param]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield child, request.param == "leaks"
    child.kill()
    child.communicate()


def test_a_process_that_leaks_grows_and_another_does_not(process: tuple[subprocess.Popen[str], bool]) -> None:
    child, leaks = process
    member = ProcessId.of(child.pid)
    assert member is not None
    assert child.stdin is not None
    assert child.stdout is not None
    points: dict[str, list[tuple[float, float]]] = {}
    for number in range(ROUNDS):
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "taken\n"
        for (figure, title), value in of_processes({child.pid: "it"}, {"up": [member]}).items():
            assert title == "it"
            points.setdefault(figure, []).append((float(number), value))
    grows = {figure: trend(figure, "it", found).grows for figure, found in points.items()}
    assert grows == dict.fromkeys(("memory", "files", "threads"), leaks)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("aragora-scheduler-0-97b58463c74b", "scheduler-0"),
        ("SERVE_REPLICA::aragora#Api#2a3ddqvf", "Api"),
        ("SERVE_CONTROLLER_ACTOR", "SERVE_CONTROLLER_ACTOR"),
    ],
)
def test_an_actor_is_known_by_its_role_in_every_run(name: str, role: str) -> None:
    assert role_of_actor(name) == role
