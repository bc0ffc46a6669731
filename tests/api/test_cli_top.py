"""The live screen of ``aragora-cp top``, without a terminal (textual's pilot) and on one, on a control plane with work in it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from aragora_worker.api import ControlPlaneClient
from cluster.cli.screens.top import DetailScreen, TopApp
from cluster.cli.screens.top_reading import detail, read
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))
LARGE, SMALL = (160, 44), (80, 24)
#: Where a picture of each screen is kept, to be looked at; nowhere if it is not set.
PICTURES = os.environ.get("ARAGORA_TEST_PICTURES")

Screen = Pilot[None]


@asynccontextmanager
async def _screen(url: str, tmp_path: Path, size: tuple[int, int] = LARGE) -> AsyncIterator[Screen]:
    """The screen after its first look. It looks again only when it is told."""
    async with ControlPlaneClient(url) as api:
        socket = tmp_path / "no-leader"
        app = TopApp(
            lambda: read(api, socket), lambda panel, key: detail(api, panel, key), where=url, interval_s=86_400.0
        )
        async with app.run_test(size=size) as pilot:
            await _settled(pilot)
            yield pilot


async def _settled(pilot: Screen) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def _pressed(pilot: Screen, *keys: str) -> None:
    await pilot.press(*keys)
    await _settled(pilot)


def _table(pilot: Screen, name: str) -> DataTable[Text]:
    return pilot.app.screen_stack[0].query_one(f"#{name}", DataTable)


def _rows(pilot: Screen, name: str) -> list[list[str]]:
    table = _table(pilot, name)
    return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


def _words(pilot: Screen, selector: str) -> str:
    return str(pilot.app.screen.query_one(selector, Static).render())


def _picture(pilot: Screen, name: str) -> str:
    svg = pilot.app.export_screenshot(title=name)
    if PICTURES:
        (Path(PICTURES) / f"top-{name}.svg").write_text(svg)
    return svg


async def test_the_screen_shows_queue_agents_and_components(tasks: TaskApi, tmp_path: Path) -> None:
    await tasks.agent("worker-1", capabilities=["echo"])
    held = await tasks.submit()
    lease = await tasks.claim_one("worker-1")
    assert lease["id"] == held
    waiting = await tasks.submit("review", required_capabilities=["nobody-has-it"], priority="high")
    async with _screen(tasks.api.url, tmp_path) as pilot:
        queue = {row[0]: row for row in _rows(pilot, "queue")}
        assert queue[held][1:5] == ["running", "normal", "echo", "worker-1"]
        assert queue[waiting][2:4] == ["high", "review"]
        (agent,) = _rows(pilot, "agents")
        assert (agent[0], agent[2]) == ("worker-1", "1/1")
        assert {"Database", "Redis", "agents in test-region"} <= {row[0] for row in _rows(pilot, "regions")}
        assert "1 wait, 1 run" in _words(pilot, "#summary")
        svg = _picture(pilot, "panels")
        assert "worker-1" in svg
        assert "Queue" in svg


async def test_enter_tells_why_a_task_waits_and_its_story(tasks: TaskApi, tmp_path: Path) -> None:
    await tasks.submit("review", required_capabilities=["nobody-has-it"])
    async with _screen(tasks.api.url, tmp_path) as pilot:
        await _pressed(pilot, "enter")
        assert isinstance(pilot.app.screen, DetailScreen)
        words = _words(pilot, "#words")
        assert "queued: " in words
        assert "nobody-has-it" in words
        assert "task.submitted" in words
        _picture(pilot, "detail")
        await _pressed(pilot, "escape")
        assert not isinstance(pilot.app.screen, DetailScreen)


async def test_a_look_under_a_detail_is_shown_when_it_is_closed(tasks: TaskApi, tmp_path: Path) -> None:
    await tasks.submit()
    async with _screen(tasks.api.url, tmp_path) as pilot:
        await _pressed(pilot, "enter")
        await tasks.submit()
        app = pilot.app
        assert isinstance(app, TopApp)
        app.action_look()
        await _settled(pilot)
        assert len(_rows(pilot, "queue")) == 2


async def test_the_cursor_stays_on_its_task_when_others_come_before_it(tasks: TaskApi, tmp_path: Path) -> None:
    ids = [await tasks.submit() for _ in range(3)]
    async with _screen(tasks.api.url, tmp_path) as pilot:
        await _pressed(pilot, "down")
        table = _table(pilot, "queue")
        chosen = _rows(pilot, "queue")[table.cursor_row][0]
        assert chosen in ids
        urgent = await tasks.submit(priority="urgent")
        await _pressed(pilot, "r")
        assert _rows(pilot, "queue")[0][0] == urgent
        assert _rows(pilot, "queue")[table.cursor_row][0] == chosen


async def test_a_small_terminal_shows_one_panel_and_a_number_another(tasks: TaskApi, tmp_path: Path) -> None:
    await tasks.agent("worker-1")
    async with _screen(tasks.api.url, tmp_path, SMALL) as pilot:

        def shown() -> list[str | None]:
            return [table.id for table in pilot.app.query(DataTable) if table.display and table.region.height]

        assert shown() == ["queue"]
        await _pressed(pilot, "2")
        assert shown() == ["agents"]
        assert "worker-1" in _picture(pilot, "small")


async def test_words_of_others_are_neither_markup_nor_move_the_cursor(tasks: TaskApi, tmp_path: Path) -> None:
    odd = "[red]a[/red]\x1b[2J"
    await tasks.agent("worker-1", model=odd.replace("\x1b", ""), capabilities=["[b]x"])
    await tasks.submit("[blink]type")
    async with _screen(tasks.api.url, tmp_path) as pilot:
        assert _rows(pilot, "queue")[0][3] == "[blink]type"


async def test_a_control_plane_that_is_away_is_said_in_every_panel(tmp_path: Path) -> None:
    async with _screen("http://127.0.0.1:9", tmp_path) as pilot:
        assert "does not answer" in _words(pilot, "#summary")
        for name in ("queue", "agents", "deliberations", "regions"):
            assert "does not answer" in str(_table(pilot, name).border_subtitle)
        assert pilot.app.is_running


async def test_held_it_looks_only_when_told(tasks: TaskApi, tmp_path: Path) -> None:
    async with _screen(tasks.api.url, tmp_path) as pilot:
        app = pilot.app
        assert isinstance(app, TopApp)
        await _pressed(pilot, "p")
        assert "HELD" in _words(pilot, "#state")
        await tasks.submit()
        app._tick()
        await _settled(pilot)
        assert _rows(pilot, "queue") == []
        await _pressed(pilot, "r")
        assert len(_rows(pilot, "queue")) == 1


async def test_on_a_terminal_q_ends_it_and_the_terminal_is_as_before(tasks: TaskApi) -> None:
    """As over SSH: what is there is a terminal of 80 columns and nothing else."""
    task_id = await tasks.submit()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = clean_environment(ARAGORA_API_URL=tasks.api.url, TERM="xterm-256color")
    process = await asyncio.create_subprocess_exec(
        COMMAND, "top", env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    seen = b""

    def until(there: Callable[[], bool]) -> None:
        nonlocal seen
        while not there():
            seen += os.read(ours, 65_536)

    await asyncio.to_thread(until, lambda: task_id.encode() in seen)
    os.write(ours, b"q")
    await asyncio.to_thread(until, lambda: b"\x1b[?1049l" in seen)  # the other screen is left
    assert await process.wait() == 0
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("words", [("top",), ("top", "--interval", "5")], ids=" ".join)
async def test_in_a_pipe_it_says_what_to_take_instead(words: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *words,
        env=clean_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, problem = await process.communicate()
    assert process.returncode == 2
    assert b"--watch" in problem
