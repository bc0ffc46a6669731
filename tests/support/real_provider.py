"""A real OIDC provider: npm's ``oidc-provider`` on the Node of a wheel, and a browser that a person uses there."""

from __future__ import annotations

import html
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx

from cluster.embedded.ports import free_ports
from cluster.embedded.processes import end, spawn
from tests.support.node_packages import NODE, installed
from tests.support.openid import CLIENT, CLIENT_SECRET
from tests.support.probes import eventually
from tests.support.reaper import after_us_end

_SOURCE = Path(__file__).parent / "openid_provider"
_STEPS = 12


def _installed() -> Path:
    return installed("oidc-provider", _SOURCE, ("package.json", "package-lock.json", "provider.mjs"))


class RealProvider:
    def __init__(self, url: str) -> None:
        self.url = url

    async def seat(self, person: str) -> None:
        """Who sits at every browser from now on."""
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"{self.url}/test/person", content=person)).status_code == 200

    async def visit(self, location: str, until: str) -> str:
        """Opens a page of the provider and confirms whatever it asks, until it leads to a URL that begins with ``until``, or
        shows a page with that text."""
        async with httpx.AsyncClient() as browser:
            answer = await browser.get(location)
            for _ in range(_STEPS):
                if answer.is_redirect:
                    location = urljoin(location, answer.headers["location"])
                    if location.startswith(until):
                        return location
                    answer = await browser.get(location)
                    continue
                assert answer.status_code == 200, answer.text
                if until in answer.text:
                    return answer.text
                location, form = _form(location, answer.text)
                answer = await browser.post(location, data=form)
        raise AssertionError(f"{until} was not reached: {location} {answer.text[:500]}")


def _form(location: str, page: str) -> tuple[str, dict[str, str]]:
    """Where the page's form leads, and its hidden fields."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page)
    assert action is not None, page
    fields = re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    return urljoin(location, html.unescape(action[1])), {name: html.unescape(value) for name, value in fields}


@contextmanager
def _process(port: int, redirect_uri: str) -> Iterator[None]:
    folder = _installed()
    command = [str(NODE), str(folder / "provider.mjs"), str(port), redirect_uri, CLIENT, CLIENT_SECRET]
    process = spawn(command, log=folder / f"{port}.log")
    after_us_end("session", process.to_json())
    try:
        yield
    finally:
        end([process], first=signal.SIGTERM)


@asynccontextmanager
async def real_provider(redirect_uri: str) -> AsyncIterator[RealProvider]:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with _process(port, redirect_uri):

        async def answers() -> bool:
            try:
                async with httpx.AsyncClient() as client:
                    return (await client.get(f"{url}/.well-known/openid-configuration")).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(answers, 60)
        yield RealProvider(url)
