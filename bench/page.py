"""What the web page costs a browser: its first load, its memory while events arrive, its frames while a table is scrolled.

A real Chromium without a window, on a control plane without Ray, whose page is the same. Each figure is the browser's own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.harness import Goal, Row, bench
from bench.stand import Part, Stand
from cluster.embedded.ports import free_ports

EVENTS_A_SECOND = 50
#: A task of this bench is submitted, claimed and completed.
EVENTS_OF_A_TASK = 3
CAPABILITY = "page"
WAIT_MS = 120_000
#: The page is interactive when it has been drawn and its last long task (50 ms and more, as the browser counts them) has ended;
#: that it was the last shows when none has come for a second.
_LOADED = """
() => new Promise(done => {
  let last = 0, timer
  const first = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0
  const settle = () => {
    clearTimeout(timer)
    timer = setTimeout(() => done({first, interactive: Math.max(first, last)}), 1000)
  }
  new PerformanceObserver(list => {
    for (const each of list.getEntries()) last = Math.max(last, each.startTime + each.duration)
    settle()
  }).observe({type: "longtask", buffered: true})
  settle()
})
"""
#: Scrolls a frame from its top to its end in so many milliseconds, and gives the frames that the browser has drawn a second.
_SCROLLED = """
([name, took]) => new Promise(done => {
  const frame = document.querySelector(name), whole = frame.scrollHeight - frame.clientHeight
  let begun, frames = 0
  const step = now => {
    begun ??= now
    frames += 1
    frame.scrollTop = whole * Math.min(1, (now - begun) / took)
    if (now - begun < took) requestAnimationFrame(step)
    else done({frames: (frames - 1) / (now - begun) * 1000, whole})
  }
  requestAnimationFrame(step)
})
"""


@contextmanager
def _served(stand: Stand) -> Iterator[tuple[str, Part]]:
    """The address of a control plane, and a process that works on it."""
    http, metrics = free_ports(2)
    schema, url = stand.name(), f"http://127.0.0.1:{http}"
    with (
        stand.part("bench.parts.whole", "off", schema, str(stand.base / schema), str(http), str(metrics)),
        stand.part("bench.parts.http", url, schema) as work,
    ):
        yield url, work


@contextmanager
def _chromium() -> Iterator[Browser]:
    """Raises: `RuntimeError` if there is none."""
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _tab(browser: Browser) -> Iterator[Page]:
    """A tab that has nothing in its cache."""
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


@bench("page.load", "the first load of the overview, nothing in the cache")
def load(stand: Stand) -> Iterator[Row]:
    drawn: list[float] = []
    interactive: list[float] = []
    with _served(stand) as (url, _), _chromium() as browser:
        for _ in range(stand.runs + 1):  # the first one is the server's first too
            with _tab(browser) as tab:
                tab.goto(url)
                found = tab.evaluate(_LOADED)
                drawn.append(found["first"])
                interactive.append(found["interactive"])
    yield Row(name="page: first load, drawn", unit="ms", runs=tuple(drawn[1:]), note="first contentful paint")
    yield Row(
        name="page: time to interactive",
        unit="ms",
        runs=tuple(interactive[1:]),
        note="the end of the last long task",
    )


def _heap_mb(tab: Page) -> float:
    """What the page keeps, after its garbage was collected."""
    session = tab.context.new_cdp_session(tab)
    session.send("HeapProfiler.enable")
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used / 1e6


@bench(
    "page.memory",
    "what the queue's page keeps after 30 minutes of 50 events a second, and how much of it is new",
    alone=True,
)
def memory(stand: Stand) -> Iterator[Row]:
    minutes, seconds = stand.size(30, 2), stand.size(60, 2)
    heaps: list[float] = []
    with _served(stand) as (url, work), _chromium() as browser, _tab(browser) as tab:
        work.ask(op="wait", agents=10, capability=CAPABILITY)
        tab.goto(f"{url}/queue")
        for _ in range(minutes + 1):  # in the first minute the page fills what it shows
            rate = EVENTS_A_SECOND / EVENTS_OF_A_TASK
            work.ask(op="submit", rate=rate, seconds=seconds, capability=CAPABILITY)
            heaps.append(_heap_mb(tab))
        text = tab.locator("main").inner_text()
        if "noop" not in text:
            raise RuntimeError(f"the page does not show the tasks: {text[:200]!r}")
    yield Row(
        name=f"page: memory after {minutes} min of {EVENTS_A_SECOND} events/s",
        unit="MB",
        runs=(heaps[-1],),
        note="of JavaScript, garbage collected",
    )
    yield Row(
        name="page: growth since the first minute",
        unit="MB",
        runs=(heaps[-1] - heaps[0],),
        goal=Goal(bound=10, of="median", at_most=True),
        note=f"at most {max(heaps) - heaps[0]:.1f} in between",
    )


@bench("page.scroll", "the fleet's table of 10,000 agents, scrolled from its top to its end in 5 s")
def scroll(stand: Stand) -> Iterator[Row]:
    agents = stand.size(10_000, 500)
    rates: list[float] = []
    with _served(stand) as (url, work), _chromium() as browser, _tab(browser) as tab:
        work.ask(op="register", agents=agents, each=500, prefix="agent")
        tab.goto(f"{url}/fleet")
        tab.get_by_text(f"{agents:,} agents").wait_for()
        for _ in range(stand.runs + 1):
            found = tab.evaluate(_SCROLLED, [".fleet", stand.size(5_000, 500)])
            if found["whole"] < agents:
                raise RuntimeError("the table has no room for its agents")
            rates.append(found["frames"])
            time.sleep(0.5)
    yield Row(
        name=f"page: scrolling {agents:,} agents",
        unit="frames/s",
        runs=tuple(rates[1:]),
        goal=Goal(bound=50, of="median"),
        note="without a graphics card",
    )


#: What is opened, and a text that is there when it is shown.
_FULL = {
    "overview": ("/", "Oldest waiting"),
    "queue": ("/queue", "Older"),
    "queue by type": ("/queue?type=rare&status=pending", "Older"),
    "fleet": ("/fleet", "{agents} agents"),
}


@bench("page.full", "pages of a control plane that has 10,000 agents and 100,000 tasks that wait, until they are shown")
def full(stand: Stand) -> Iterator[Row]:
    agents, tasks = stand.size(10_000, 500), stand.size(100_000, 1_000)
    took: dict[str, list[float]] = {name: [] for name in _FULL}
    with _served(stand) as (url, work), _chromium() as browser:
        work.ask(op="register", agents=agents, each=500, prefix="agent")
        work.ask(op="fill", total=tasks, capability=CAPABILITY)
        for _ in range(stand.runs + 1):
            for name, (path, text) in _FULL.items():
                with _tab(browser) as tab:
                    started = time.perf_counter()
                    tab.goto(url + path)
                    tab.get_by_text(text.format(agents=f"{agents:,}")).first.wait_for()
                    took[name].append((time.perf_counter() - started) * 1000)
    for name, found in took.items():
        yield Row(
            name=f"page: {name}, {agents:,} agents and {tasks:,} tasks",
            unit="ms",
            runs=tuple(found[1:]),
            note="from the address to what it shows, nothing in the cache",
        )
