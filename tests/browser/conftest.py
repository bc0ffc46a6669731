"""A real Chromium on the whole control plane without Ray."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from scripts.web_page import MANIFEST, SOURCE
from tests.support.api import Api
from tests.support.node_packages import installed

CHROMIUM = shutil.which("chromium")
#: What the browser waits for at most; it comes much sooner, but on a busy machine.
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
#: Pictures of what a test saw are kept where this says.
PICTURES = os.environ.get("ARAGORA_TEST_PICTURES")
#: What a browser logs by itself about answers that the page deals with.
_ANSWERED = re.compile(r"Failed to load resource: (the server responded with a status of 40[0-9]|net::ERR)")


class Watched:
    """A tab. ``url`` is where it opens the page. ``said`` is what the console complained about; ``asked`` are the addresses of
    all requests."""

    def __init__(self, tab: Page, url: str) -> None:
        self.tab = tab
        self.url = url
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.on("console", self._note)
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("request", lambda request: self.asked.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not _ANSWERED.search(message.text):
            self.said.append(message.text)

    async def open(self, path: str) -> None:
        await self.tab.goto(self.url + path)

    async def picture(self, name: str) -> None:
        if PICTURES:
            await self.tab.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)

    async def check(self, name: str) -> None:
        """Fails if axe finds something serious, and as `check_fits`."""
        # Evaluated by the debugger, which the policy of the page does not concern.
        axe = installed("axe", SOURCE, MANIFEST) / "node_modules" / "axe-core" / "axe.min.js"
        await self.tab.evaluate(axe.read_text())
        found = await self.tab.evaluate("axe.run({resultTypes: ['violations']})")
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]][:3])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        await self.check_fits(name)
        assert serious == [], f"{name}: {serious}"

    async def check_fits(self, name: str) -> None:
        """Fails if the page is wider than its window, the console complains, or a request has left the origin."""
        await self.picture(name)
        wide = await self.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than its window"
        assert self.said == [], name
        assert [url for url in self.asked if not url.startswith((self.url, "blob:"))] == [], name


class Viewer(Watched):
    """A tab with the page of a control plane of this process."""

    def __init__(self, tab: Page, api: Api) -> None:
        super().__init__(tab, api.url)
        self.api = api


@pytest.fixture
async def tab() -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        context.set_default_timeout(WAIT_MS)
        yield await context.new_page()
        await browser.close()


@pytest.fixture
async def viewer(api: Api, tab: Page) -> Viewer:
    return Viewer(tab, api)
