"""When an embedded store that died is started again, and when no more."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.processes import ProcessId, end, spawn
from cluster.embedded.readiness import RECOVERY_S, Readiness
from cluster.embedded.restarts import MOST_DEATHS, SILENT_S, WITHIN_S, StoreWatch


@dataclass
class Sleeper:
    """A real process that says of itself what the test wants."""

    log: Path
    process: ProcessId | None = None
    says: Readiness = Readiness.SILENT

    def begin(self) -> ProcessId:
        self.process = spawn(["sleep", "600"], log=self.log)
        return self.process

    def readiness(self) -> Readiness:
        return self.says

    def dies(self) -> int:
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        end([self.process])
        return self.process.pid


class Watched:
    def __init__(self, log: Path) -> None:
        self.at = 1000.0
        self.noted: list[tuple[str, ProcessId]] = []
        self.store = Sleeper(log)
        self.store.begin()
        self.watch = StoreWatch(
            name="s", title="Store", store=self.store, note=lambda *note: self.noted.append(note), now=lambda: self.at
        )

    def look(self) -> list[str]:
        return list(self.watch.look())


@pytest.fixture
def watched(layout: Layout) -> Iterator[Watched]:
    made = Watched(layout.logs / "store.log")
    yield made
    made.store.dies()


def test_a_store_that_dies_is_started_again_and_both_are_said(watched: Watched) -> None:
    assert watched.look() == []
    dead = watched.store.dies()
    (died,) = watched.look()
    assert f"Store (process {dead}) has died" in died
    assert watched.noted == [("s", watched.store.process)]
    assert watched.store.process is not None
    assert watched.store.process.alive()
    assert watched.look() == [], "it does not answer yet"
    watched.store.says, watched.at = Readiness.READY, 1002.5
    assert watched.look() == [f"Store (process {watched.store.process.pid}) answers again, after 2.5 s."]
    assert watched.look() == []


def test_a_store_that_keeps_dying_ends_the_system_with_a_sentence(watched: Watched) -> None:
    watched.store.log.write_text("no space left on device\n")
    for _ in range(MOST_DEATHS - 1):
        watched.store.dies()
        assert len(watched.look()) == 1
    watched.store.dies()
    with pytest.raises(EmbeddedError, match=r"Store has died 5 times in 5 minutes.*no space left on device"):
        watched.look()


def test_deaths_that_are_long_past_do_not_count(watched: Watched) -> None:
    for _ in range(3 * MOST_DEATHS):
        watched.store.dies()
        watched.at += WITHIN_S / (MOST_DEATHS - 1) + 1
        assert len(watched.look()) == 1


def test_a_start_that_stays_silent_is_ended_and_tried_again(watched: Watched) -> None:
    watched.store.dies()
    watched.look()
    silent = watched.store.process
    watched.at += SILENT_S - 1
    assert watched.look() == []
    watched.at += 2
    watched.look()
    assert silent is not None
    assert not silent.alive()
    assert len(watched.look()) == 1, "that was a death, too"


def test_a_store_that_recovers_is_waited_for(watched: Watched) -> None:
    watched.store.dies()
    watched.look()
    recovering, watched.store.says = watched.store.process, Readiness.RECOVERING
    assert recovering is not None
    watched.look()
    watched.at += RECOVERY_S - 1
    assert watched.look() == []
    assert recovering.alive()
    watched.at += 2
    watched.look()
    assert not recovering.alive()
